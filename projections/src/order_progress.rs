//! How far an order has come, in the three statuses that every order read model shows.
//!
//! All three follow from the order's own stream, so one version number names one state of them:
//! an `ETag` made of it is exact.

use std::collections::BTreeSet;

use schemas::order::{Event, HoldReason};

use crate::words::words;

words! {
    /// What becomes of the order as a whole.
    pub enum Status {
        /// Placed; stock and payment are being arranged.
        Pending = "pending",
        /// Stock is held and payment authorised.
        Confirmed = "confirmed",
        /// It waits for somebody.
        OnHold = "on_hold",
        /// Somebody wants it undone, and that is being settled.
        CancelPending = "cancel_pending",
        /// Undone.
        Cancelled = "cancelled",
        /// It could not be had.
        Rejected = "rejected",
        /// Delivered, nothing is left to do.
        Completed = "completed",
    }
}

words! {
    /// Where the money is.
    pub enum PaymentStatus {
        /// Nothing is held, or ever was.
        None = "none",
        /// The customer has to do something before it is paid.
        ActionRequired = "action_required",
        /// Held at the provider.
        Authorised = "authorised",
        /// Some of it was taken.
        PartiallyCaptured = "partially_captured",
        /// All of it was taken.
        Paid = "paid",
        /// Some of what was taken was given back.
        PartiallyRefunded = "partially_refunded",
        /// All that was taken was given back.
        Refunded = "refunded",
        /// What was held was let go.
        Voided = "voided",
        /// Declined for good.
        Failed = "failed",
    }
}

words! {
    /// Where the goods are.
    pub enum FulfilmentStatus {
        /// In the house.
        Unfulfilled = "unfulfilled",
        /// On their way.
        Shipped = "shipped",
        /// With the customer.
        Delivered = "delivered",
    }
}

/// The statuses, and what they are folded from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Progress {
    /// The order as a whole.
    pub status: Status,
    /// The money.
    pub payment_status: PaymentStatus,
    /// The goods.
    pub fulfilment_status: FulfilmentStatus,
    /// What is due, in minor units.
    pub total: i64,
    /// What was taken, in minor units.
    pub captured: i64,
    /// What was given back, in minor units.
    pub refunded: i64,
    /// Whether it was ever confirmed.
    pub confirmed: bool,
    /// Why it waits.
    pub holds: BTreeSet<HoldReason>,
}

impl Progress {
    /// An order that was just placed.
    #[must_use]
    pub fn placed(total: i64) -> Self {
        Self {
            status: Status::Pending,
            payment_status: PaymentStatus::None,
            fulfilment_status: FulfilmentStatus::Unfulfilled,
            total,
            captured: 0,
            refunded: 0,
            confirmed: false,
            holds: BTreeSet::new(),
        }
    }

    /// The status of an order that nobody is undoing and that has not ended.
    fn open(&self) -> Status {
        match (self.holds.is_empty(), self.confirmed) {
            (false, _) => Status::OnHold,
            (true, true) => Status::Confirmed,
            (true, false) => Status::Pending,
        }
    }

    const fn is_open(&self) -> bool {
        matches!(self.status, Status::Pending | Status::Confirmed | Status::OnHold)
    }

    /// What `event` changes.
    #[must_use]
    pub fn evolve(mut self, event: &Event) -> Self {
        match event {
            Event::Placed { .. } | Event::ConfirmRejected | Event::PaymentActionRequired => {}
            Event::Confirmed => {
                self.confirmed = true;
                self.status = self.open();
            }
            Event::Held { reason } => {
                self.holds.insert(*reason);
                self.status = if self.is_open() { self.open() } else { self.status };
            }
            Event::Released { reason } => {
                self.holds.remove(reason);
                self.status = if self.is_open() { self.open() } else { self.status };
            }
            Event::LinesCancelled { total, .. } => self.total = total.amount,
            Event::Rejected { .. } => self.status = Status::Rejected,
            Event::CancellationRequested { .. } => self.status = Status::CancelPending,
            Event::CancellationRejected { .. } => self.status = self.open(),
            Event::Cancelled { refunded, .. } => {
                self.status = Status::Cancelled;
                // The sum, also where the single refunds were told before.
                let refunded = refunded.map_or(0, |money| money.amount);
                self.refunded = self.refunded.max(refunded);
                self.captured = self.captured.max(self.refunded);
            }
            Event::PaymentRecorded { captured } => {
                self.captured = self.captured.saturating_add(captured.amount);
            }
            Event::RefundRecorded { refunded } => {
                self.refunded = self.refunded.saturating_add(refunded.amount);
            }
            Event::ShipmentRecorded { .. } => self.fulfilment_status = FulfilmentStatus::Shipped,
            Event::DeliveryRecorded { .. } => self.fulfilment_status = FulfilmentStatus::Delivered,
            Event::Completed => self.status = Status::Completed,
        }
        self.payment_status = self.money(event);
        self
    }

    fn money(&self, event: &Event) -> PaymentStatus {
        use schemas::order::RejectReason;
        if self.refunded > 0 {
            let all = self.refunded >= self.captured;
            return if all { PaymentStatus::Refunded } else { PaymentStatus::PartiallyRefunded };
        }
        if self.captured > 0 {
            let all = self.captured >= self.total;
            return if all { PaymentStatus::Paid } else { PaymentStatus::PartiallyCaptured };
        }
        match (self.payment_status, event) {
            (_, Event::PaymentActionRequired) => PaymentStatus::ActionRequired,
            (PaymentStatus::None | PaymentStatus::ActionRequired, Event::Confirmed)
                if self.total > 0 =>
            {
                PaymentStatus::Authorised
            }
            (_, Event::Rejected { reason: RejectReason::PaymentDeclined, .. }) => {
                PaymentStatus::Failed
            }
            (PaymentStatus::Authorised, Event::Rejected { .. } | Event::Cancelled { .. }) => {
                PaymentStatus::Voided
            }
            // Nothing is wanted of the customer any more.
            (PaymentStatus::ActionRequired, Event::Rejected { .. } | Event::Cancelled { .. }) => {
                if self.confirmed {
                    PaymentStatus::Voided
                } else {
                    PaymentStatus::None
                }
            }
            (unchanged, _) => unchanged,
        }
    }
}

#[cfg(test)]
mod tests {
    use schemas::order::{CancelReason, KeepReason, RejectReason};
    use schemas::{Currency, Money};

    use super::*;

    fn euro(amount: i64) -> Money {
        Money::new(amount, Currency::EUR)
    }

    fn after(total: i64, events: &[Event]) -> (&'static str, &'static str, &'static str) {
        let progress = events.iter().fold(Progress::placed(total), Progress::evolve);
        let Progress { status, payment_status, fulfilment_status, .. } = progress;
        (status.as_str(), payment_status.as_str(), fulfilment_status.as_str())
    }

    #[test]
    fn an_order_goes_from_placed_to_completed() {
        let story = [
            Event::Confirmed,
            Event::PaymentRecorded { captured: euro(300) },
            Event::ShipmentRecorded { tracking_code: "T1".parse().unwrap() },
            Event::DeliveryRecorded { at: chrono::DateTime::UNIX_EPOCH },
            Event::Completed,
        ];
        assert_eq!(after(300, &story[..0]), ("pending", "none", "unfulfilled"));
        assert_eq!(after(300, &story[..1]), ("confirmed", "authorised", "unfulfilled"));
        assert_eq!(after(300, &story[..2]), ("confirmed", "paid", "unfulfilled"));
        assert_eq!(after(300, &story[..3]), ("confirmed", "paid", "shipped"));
        assert_eq!(after(300, &story), ("completed", "paid", "delivered"));
    }

    #[test]
    fn a_declined_card_fails_the_payment_and_missing_stock_does_not() {
        let declined = Event::Rejected { reason: RejectReason::PaymentDeclined, short: vec![] };
        assert_eq!(after(300, &[declined]), ("rejected", "failed", "unfulfilled"));
        let short = Event::Rejected { reason: RejectReason::OutOfStock, short: vec![] };
        assert_eq!(after(300, &[short]), ("rejected", "none", "unfulfilled"));
    }

    #[test]
    fn a_cancelled_order_gives_back_what_was_held_or_taken() {
        let ask = Event::CancellationRequested { reason: CancelReason::Customer };
        let done = |refunded| Event::Cancelled { reason: CancelReason::Customer, refunded };
        let held = [Event::Confirmed, ask.clone(), done(None)];
        assert_eq!(after(300, &held[..2]), ("cancel_pending", "authorised", "unfulfilled"));
        assert_eq!(after(300, &held), ("cancelled", "voided", "unfulfilled"));

        let paid = Event::PaymentRecorded { captured: euro(300) };
        let refund = Event::RefundRecorded { refunded: euro(300) };
        let taken = [Event::Confirmed, paid, ask, refund, done(Some(euro(300)))];
        assert_eq!(after(300, &taken), ("cancelled", "refunded", "unfulfilled"));
    }

    #[test]
    fn a_refused_cancellation_leaves_the_order_as_it_was() {
        let ask = Event::CancellationRequested { reason: CancelReason::Customer };
        let kept = Event::CancellationRejected { reason: KeepReason::UseReturn };
        assert_eq!(after(300, &[ask.clone(), kept.clone()]).0, "pending");
        assert_eq!(after(300, &[Event::Confirmed, ask, kept]).0, "confirmed");
    }

    #[test]
    fn an_order_on_hold_goes_on_when_no_reason_is_left() {
        let held = |reason| Event::Held { reason };
        let released = |reason| Event::Released { reason };
        let story = [
            held(HoldReason::Fraud),
            Event::Confirmed,
            held(HoldReason::Other),
            released(HoldReason::Fraud),
            released(HoldReason::Other),
        ];
        for (count, status) in [(1, "on_hold"), (2, "on_hold"), (4, "on_hold"), (5, "confirmed")] {
            assert_eq!(after(300, &story[..count]).0, status, "{count}");
        }
        let ask = Event::CancellationRequested { reason: CancelReason::Customer };
        let kept = Event::CancellationRejected { reason: KeepReason::UseReturn };
        let story = [held(HoldReason::Fraud), ask, held(HoldReason::Other), kept];
        assert_eq!(after(300, &story[..3]).0, "cancel_pending");
        assert_eq!(after(300, &story).0, "on_hold");
    }

    #[test]
    fn what_is_wanted_of_the_customer_is_told_until_it_is_done_or_given_up() {
        let asked = || Event::PaymentActionRequired;
        let paid = Event::PaymentRecorded { captured: euro(300) };
        let declined = Event::Rejected { reason: RejectReason::PaymentDeclined, short: vec![] };
        let ask = Event::CancellationRequested { reason: CancelReason::Customer };
        let done = Event::Cancelled { reason: CancelReason::Customer, refunded: None };
        assert_eq!(after(300, &[asked()]).1, "action_required");
        assert_eq!(after(300, &[asked(), Event::Confirmed]).1, "authorised");
        assert_eq!(after(300, &[asked(), declined]).1, "failed");
        assert_eq!(after(300, &[asked(), ask.clone(), done.clone()]).1, "none");
        let again = [Event::Confirmed, asked(), paid];
        assert_eq!(after(300, &again[..2]).1, "action_required");
        assert_eq!(after(300, &again).1, "paid");
        assert_eq!(after(300, &[Event::Confirmed, asked(), ask, done]).1, "voided");
    }

    #[test]
    fn an_order_with_less_in_it_is_paid_with_less() {
        let cut = Event::LinesCancelled {
            lines: vec![],
            left: vec![],
            reason: CancelReason::Inventory,
            total: euro(200),
        };
        let paid = Event::PaymentRecorded { captured: euro(200) };
        assert_eq!(after(300, &[Event::Confirmed, cut, paid]).1, "paid");
    }

    #[test]
    fn an_order_of_nothing_has_no_payment() {
        assert_eq!(after(0, &[Event::Confirmed]), ("confirmed", "none", "unfulfilled"));
    }

    #[test]
    fn parts_of_the_money_are_told_from_all_of_it() {
        let part = Event::PaymentRecorded { captured: euro(100) };
        let rest = Event::PaymentRecorded { captured: euro(200) };
        let back = Event::RefundRecorded { refunded: euro(50) };
        assert_eq!(after(300, std::slice::from_ref(&part)).1, "partially_captured");
        assert_eq!(after(300, &[part.clone(), rest.clone()]).1, "paid");
        assert_eq!(after(300, &[part, rest, back]).1, "partially_refunded");
    }
}
