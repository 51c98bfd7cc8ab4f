//! What the provider says: the answers to our questions, its notices, and its own record.

use schemas::payment::{Command, Decline, Event, Operation, ProviderStatus};
use schemas::{Link, Money, OrderId, RefundId, Text, Timestamp};

use super::{Capture, Hold, Payment, RefundStatus};

/// Money at the provider, by its own record.
#[derive(Clone, Copy)]
struct Stands<'a> {
    authorised: Money,
    captured: Money,
    until: Timestamp,
    url: Option<&'a Link>,
    decline: Option<&'a Decline>,
}

impl Payment {
    /// What `command`, which is something that the provider did, tells us that we did not know.
    pub(super) fn answer(&self, order: OrderId, command: &Command) -> Vec<Event> {
        match command {
            Command::RecordAuthorised { op, provider_ref, amount, until } => {
                self.record_authorised(order, *op, provider_ref, (*amount, *until))
            }
            Command::RecordDeclined { op, provider_ref, code, retryable } => {
                let asked = *op == self.op && self.hold == Hold::Requested;
                let (provider_ref, code) = (provider_ref.clone(), code.clone());
                let (op, retryable) = (*op, *retryable);
                only(asked, Event::Declined { order, op, provider_ref, code, retryable })
            }
            Command::RecordActionRequired { op, provider_ref, url } => {
                let asked =
                    *op == self.op && self.is_news(provider_ref, ProviderStatus::RequiresAction);
                let (op, provider_ref, url) = (*op, provider_ref.clone(), url.clone());
                only(asked, Event::ActionRequired { order, op, provider_ref, url })
            }
            Command::RecordUnknown { op, operation } => {
                let news = self.is_open(*op, *operation) && !self.is_unknown(*operation);
                only(news, Event::OutcomeUnknown { order, op: self.op, operation: *operation })
            }
            Command::RecordCaptured { amount } => self.record_captured(order, *amount),
            Command::RecordCaptureFailed { code, retryable } => {
                let asked = matches!(self.capture, Capture::Requested(_));
                let (code, retryable) = (code.clone(), *retryable);
                only(asked, Event::CaptureFailed { order, code, retryable })
            }
            Command::RecordVoided => only(self.voiding, self.voided(order)),
            Command::RecordRefunded { refund, amount } => {
                self.record_refunded(order, *refund, *amount)
            }
            Command::RecordRefundFailed { refund, code } => {
                let known = self.refunds.get(refund).map(|refund| refund.status);
                let asked = known == Some(RefundStatus::Pending);
                only(asked, Event::RefundFailed { order, refund: *refund, code: code.clone() })
            }
            Command::RecordNotification { notification, provider_ref, status } => {
                let heard = self.notifications.contains(notification);
                let news = !heard
                    && (self.is_news(provider_ref, *status)
                        || self.may_be_lost(provider_ref, *status));
                let (notification, provider_ref) = (notification.clone(), provider_ref.clone());
                only(news, Event::ProviderNotified { order, notification, provider_ref })
            }
            Command::RecordDisputeNotice { .. } | Command::RecordDispute { .. } => {
                self.disputed(order, command)
            }
            Command::RecordProviderState {
                provider_ref,
                status,
                authorised,
                captured,
                until,
                url,
                decline,
            } => {
                let (url, decline) = (url.as_ref(), decline.as_ref());
                let (authorised, captured, until) = (*authorised, *captured, *until);
                let stands = Stands { authorised, captured, until, url, decline };
                let mut events = self.record_state(order, provider_ref, *status, stands);
                events.extend(self.record_loss(order, provider_ref, *status, captured));
                events
            }
            Command::Create { .. }
            | Command::Authorise { .. }
            | Command::ReplaceMethod { .. }
            | Command::Retry
            | Command::Capture { .. }
            | Command::Void { .. }
            | Command::Refund { .. } => vec![],
        }
    }

    fn record_authorised(
        &self,
        order: OrderId,
        op: u32,
        provider_ref: &Text,
        (amount, until): (Money, Timestamp),
    ) -> Vec<Event> {
        if op < self.op || !self.is_news(provider_ref, ProviderStatus::RequiresCapture) {
            return vec![];
        }
        let provider_ref = provider_ref.clone();
        if self.is_second(&provider_ref) {
            return vec![self.let_go(order, Some(provider_ref))];
        }
        vec![Event::Authorised { order, op, amount, provider_ref, until }]
    }

    /// An answer to a capture. Without a hold there was no question; if the provider took money
    /// all the same, its record says so ([`Command::RecordProviderState`]).
    fn record_captured(&self, order: OrderId, amount: Money) -> Vec<Event> {
        match (&self.provider_ref, self.authorised) {
            (Some(provider_ref), Some((authorised, until))) if self.capture != Capture::Done => {
                self.taken(order, provider_ref, amount, (authorised, until))
            }
            _ => vec![],
        }
    }

    /// Money was taken. What was taken had been held, so where the provider took more than we
    /// know of, or under another of its ids, that is noted first.
    fn taken(
        &self,
        order: OrderId,
        provider_ref: &Text,
        amount: Money,
        (authorised, until): (Money, Timestamp),
    ) -> Vec<Event> {
        let op = self.op;
        let before = self.captured.unwrap_or_else(|| Money::zero(amount.currency));
        let Ok(after) = before.plus(amount) else { return vec![] };
        if amount.amount <= 0 {
            return vec![];
        }
        let same = self.provider_ref.as_ref() == Some(provider_ref);
        let known = self.authorised.filter(|_| same).map(|(known, _)| known);
        let covers = |held: Money| held.minus(after).is_ok_and(|rest| rest.amount >= 0);
        let mut events = Vec::new();
        if !known.is_some_and(covers) {
            let amount = if covers(authorised) { authorised } else { after };
            let provider_ref = provider_ref.clone();
            events.push(Event::Authorised { order, op, amount, provider_ref, until });
        }
        events.push(Event::Captured { order, op, amount });
        if self.unwanted {
            events.push(Event::LateMoneyDetected { order, amount });
        }
        events
    }

    /// A refund that went through, also one that had failed, and one made behind our back as far
    /// as there was money to give back.
    fn record_refunded(&self, order: OrderId, refund: RefundId, amount: Money) -> Vec<Event> {
        let asked = self.refunds.get(&refund).copied();
        let left = self.left(Some(refund));
        let fits = |amount: &Money| {
            let rest = left.and_then(|left| left.minus(*amount).ok());
            amount.amount > 0 && rest.is_some_and(|rest| rest.amount >= 0)
        };
        if asked.is_some_and(|asked| asked.status == RefundStatus::Succeeded) {
            return vec![];
        }
        let amounts = [Some(amount), asked.map(|asked| asked.amount)];
        let amount = amounts.into_iter().flatten().find(fits);
        Vec::from_iter(amount.map(|amount| Event::Refunded { order, refund, amount }))
    }

    fn record_state(
        &self,
        order: OrderId,
        provider_ref: &Text,
        status: ProviderStatus,
        stands: Stands<'_>,
    ) -> Vec<Event> {
        let Stands { authorised, captured, until, url, decline } = stands;
        let op = self.op;
        let grew = status == ProviderStatus::Succeeded
            && self.provider_ref.as_ref() == Some(provider_ref)
            && self.captured.is_some();
        if grew {
            let more = self.captured.and_then(|known| captured.minus(known).ok());
            return more
                .map_or(vec![], |more| self.taken(order, provider_ref, more, (authorised, until)));
        }
        if !self.is_news(provider_ref, status) {
            return vec![];
        }
        let second = self.is_second(provider_ref);
        let let_go = self.let_go(order, Some(provider_ref.clone()));
        match status {
            ProviderStatus::Processing => vec![],
            ProviderStatus::RequiresMethod => {
                let unnamed =
                    || Decline { code: Text::literal("requires_payment_method"), retryable: true };
                let Decline { code, retryable } = decline.cloned().unwrap_or_else(unnamed);
                let provider_ref = Some(provider_ref.clone());
                vec![Event::Declined { order, op, provider_ref, code, retryable }]
            }
            ProviderStatus::RequiresAction => {
                let provider_ref = provider_ref.clone();
                let url = url.cloned();
                Vec::from_iter(url.map(|url| Event::ActionRequired {
                    order,
                    op,
                    provider_ref,
                    url,
                }))
            }
            ProviderStatus::RequiresCapture if second => vec![let_go],
            ProviderStatus::RequiresCapture => {
                let (amount, provider_ref) = (authorised, provider_ref.clone());
                vec![Event::Authorised { order, op, amount, provider_ref, until }]
            }
            // Only we capture, so somebody did it by hand: a person has to look.
            ProviderStatus::Succeeded if second => {
                vec![let_go, Event::LateMoneyDetected { order, amount: captured }]
            }
            ProviderStatus::Succeeded => {
                self.taken(order, provider_ref, captured, (authorised, until))
            }
            ProviderStatus::Expired if self.hold == Hold::Held && !self.unwanted => {
                self.expired(order, provider_ref)
            }
            // Let go of as we wished, that is a void and no answer any more.
            ProviderStatus::Cancelled | ProviderStatus::Expired
                if matches!(self.hold, Hold::Requested | Hold::Action) && !self.voiding =>
            {
                let code = Text::literal("cancelled");
                vec![Event::Declined { order, op, provider_ref: None, code, retryable: false }]
            }
            ProviderStatus::Cancelled | ProviderStatus::Expired => {
                let code = Text::literal("voided");
                let capturing = matches!(self.capture, Capture::Requested(_));
                let mut events =
                    only(capturing, Event::CaptureFailed { order, code, retryable: false });
                events.push(self.voided(order));
                events
            }
        }
    }

    /// What was held is held no more, and nobody wanted that.
    fn expired(&self, order: OrderId, provider_ref: &Text) -> Vec<Event> {
        let (op, provider_ref) = (self.op, provider_ref.clone());
        let mut events = vec![Event::AuthorisationExpired { order, op, provider_ref }];
        if matches!(self.capture, Capture::Requested(_)) {
            let code = Text::literal("authorisation_expired");
            events.push(Event::CaptureFailed { order, code, retryable: false });
        }
        events
    }

    /// An intent that wants another means of payment after its money was taken: the money is gone
    /// again. What went back meanwhile is not gone a second time.
    fn record_loss(
        &self,
        order: OrderId,
        provider_ref: &Text,
        status: ProviderStatus,
        captured: Money,
    ) -> Vec<Event> {
        let known = self.captured.filter(|_| self.may_be_lost(provider_ref, status));
        let kept = self.reversed.map_or(known, |reversed| known?.minus(reversed).ok());
        let lost = kept.and_then(|kept| kept.minus(captured).ok());
        let amounts = [lost, self.left(None)].map(|money| money.map_or(0, |money| money.amount));
        let amount = Money { amount: amounts[0].min(amounts[1]), ..captured };
        only(amount.amount > 0, Event::CaptureReversed { order, amount })
    }

    fn may_be_lost(&self, provider_ref: &Text, status: ProviderStatus) -> bool {
        let same = self.provider_ref.as_ref() == Some(provider_ref);
        same && status == ProviderStatus::RequiresMethod && self.captured.is_some()
    }

    /// Whether `status` of the provider's `provider_ref` says something that we do not know.
    ///
    /// That an intent wants another means of payment is not news while the answer to our question
    /// is on its way: before the answer every intent does, and the answer says why. What was told
    /// to let go is nobody's payment any more, unless money was taken all the same.
    fn is_news(&self, provider_ref: &Text, status: ProviderStatus) -> bool {
        let same = self.provider_ref.as_ref() == Some(provider_ref);
        let given_up = self.abandoned.contains(provider_ref) || self.strays.contains(provider_ref);
        let ours = same || (self.provider_ref.is_none() && !given_up);
        let adrift = self.hold == Hold::Requested && self.is_unknown(Operation::Authorise);
        match status {
            ProviderStatus::Processing => false,
            ProviderStatus::RequiresMethod => ours && (adrift || self.hold == Hold::Action),
            ProviderStatus::RequiresAction => ours && self.hold == Hold::Requested,
            ProviderStatus::Cancelled | ProviderStatus::Expired => {
                ours && match self.hold {
                    Hold::Requested | Hold::Action => true,
                    Hold::Held => self.captured.is_none(),
                    Hold::Declined { .. } => self.unwanted,
                    Hold::Idle | Hold::Closed => false,
                }
            }
            ProviderStatus::RequiresCapture | ProviderStatus::Succeeded
                if self.is_second(provider_ref) =>
            {
                !self.strays.contains(provider_ref)
            }
            ProviderStatus::RequiresCapture if self.strays.contains(provider_ref) => false,
            ProviderStatus::RequiresCapture => match self.hold {
                Hold::Idle | Hold::Requested | Hold::Action | Hold::Declined { .. } => true,
                Hold::Held => false,
                // What we let go of once is not held again.
                Hold::Closed => !same || self.authorised.is_none(),
            },
            ProviderStatus::Succeeded => self.captured.is_none(),
        }
    }

    /// Whether money is held or was taken already, under another of the provider's ids.
    fn is_second(&self, provider_ref: &Text) -> bool {
        let other = self.provider_ref.as_ref().is_some_and(|ours| ours != provider_ref);
        other && (self.hold == Hold::Held || self.captured.is_some())
    }

    fn is_open(&self, op: u32, operation: Operation) -> bool {
        match operation {
            Operation::Authorise => op == self.op && self.hold == Hold::Requested,
            Operation::Capture => matches!(self.capture, Capture::Requested(_)),
            Operation::Void => self.voiding,
            Operation::Refund => self.pending_refund().is_some(),
        }
    }
}

/// `event`, if it says something new.
pub(super) fn only(news: bool, event: Event) -> Vec<Event> {
    if news { vec![event] } else { vec![] }
}
