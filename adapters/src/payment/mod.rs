//! Payments: hears what is asked of the provider, asks it, and records what it said.

mod answer;
mod provider;

use std::time::Duration;

use event_store::{Fault, Reactor, Store};
use schemas::payment::{Event, Operation};
use schemas::{Category, Clock, Fact, OrderId, PaymentId, Recorded, Text, actor};
use tokio::time::Instant;
use uuid::Uuid;

use crate::record::{Recorder, poison};
use crate::{Config, ConfigError, Limits, Outcome, Rejection, metrics};
use answer::Next;
use provider::Provider;

/// The most events of one payment that are looked through for a question.
const EVENTS_MAX: i64 = 1000;
/// How long it may take to find a payment: the provider waits for the answer to its webhook.
const FIND_TIMEOUT: Duration = Duration::from_secs(5);

/// Finds the payment that one of the provider's own ids belongs to: what it sends word of may name
/// nothing else.
#[derive(Debug)]
pub struct PaymentFinder {
    provider: Provider,
}

impl PaymentFinder {
    /// Sets it up. Somebody waits for the answer, so it is asked for once, and not for long.
    ///
    /// # Errors
    /// Where `config` is no good.
    pub fn new(config: &Config) -> Result<Self, ConfigError> {
        let limits = Limits { call_timeout: FIND_TIMEOUT, attempts_max: 1, ..config.limits };
        Ok(Self { provider: Provider::new(&Config { limits, ..config.clone() })? })
    }

    /// The payment that the provider's record says it is; none where it is not one of ours.
    pub async fn find(&self, provider_ref: &Text) -> Outcome<Option<PaymentId>> {
        match self.provider.retrieve(provider_ref).await {
            Outcome::Rejected(Rejection { status: 404, .. }) => Outcome::Ok(None),
            found => found.and_then(|intent| {
                Outcome::Ok(intent.payment_id.and_then(|payment| payment.parse().ok()))
            }),
        }
    }
}

/// The adapter to the payment provider.
#[derive(Debug)]
pub struct Payments {
    recorder: Recorder,
    provider: Provider,
}

impl Payments {
    /// Sets the adapter up.
    ///
    /// # Errors
    /// Where `config` is no good.
    pub fn new(store: Store, clock: Clock, config: &Config) -> Result<Self, ConfigError> {
        let recorder = Recorder { store, clock, actor: actor::PAYMENT_ADAPTER };
        Ok(Self { recorder, provider: Provider::new(config)? })
    }

    /// Puts the question that `fact` is.
    async fn ask(&self, payment: PaymentId, fact: &Event) -> Next {
        let provider = &self.provider;
        match fact {
            Event::AuthorisationRequested { order, op, amount, method } => {
                answer::authorised(*op, provider.hold(payment, *order, *op, *amount, method).await)
            }
            Event::CaptureRequested { op, attempt, amount, provider_ref, .. } => {
                let tried = (*op, *attempt);
                answer::captured(*op, provider.capture(payment, tried, provider_ref, *amount).await)
            }
            Event::VoidRequested { provider_ref: Some(provider_ref), .. } => {
                answer::voided(provider.cancel(payment, provider_ref).await)
            }
            Event::ClosingRequested { provider_ref, .. } => {
                answer::closed(provider.cancel(payment, provider_ref).await)
            }
            Event::RefundRequested { refund, amount, provider_ref, .. } => {
                let asked = provider.refund(payment, *refund, provider_ref, *amount).await;
                answer::refunded(*refund, asked)
            }
            Event::ProviderNotified { provider_ref, .. } => {
                answer::state(payment, provider.retrieve(provider_ref).await)
            }
            Event::DisputeNotified { dispute, provider_ref, .. } => {
                answer::disputed(provider_ref, provider.dispute(dispute).await)
            }
            _ => Next::Nothing,
        }
    }

    /// Puts a question again of whose outcome nobody knows, unless that has been settled.
    async fn ask_again(&self, event: &Recorded, operation: Operation) -> Result<Next, Fault> {
        let read = self.recorder.store.read_stream(event.stream, 0, EVENTS_MAX).await;
        let events = read.map_err(|error| Fault::System(error.to_string()))?;
        let facts = || {
            events.iter().filter_map(|event| match &event.fact {
                Fact::Payment(fact) => Some((event.version, fact)),
                _ => None,
            })
        };
        let settled =
            |(version, fact): (i64, &Event)| version > event.version && settles(operation, fact);
        if facts().any(settled) {
            return Ok(Next::Nothing);
        }
        let mut asked =
            facts().filter(|(version, fact)| *version < event.version && asks(operation, fact));
        let Some((_, question)) = asked.next_back() else {
            return Err(poison(event, "there is no question to this unknown outcome"));
        };
        Ok(answer::or_wait(self.ask(PaymentId::new(event.stream.id), question).await))
    }
}

const fn asks(operation: Operation, fact: &Event) -> bool {
    match operation {
        Operation::Authorise => matches!(fact, Event::AuthorisationRequested { .. }),
        Operation::Capture => matches!(fact, Event::CaptureRequested { .. }),
        Operation::Void => matches!(fact, Event::VoidRequested { provider_ref: Some(_), .. }),
        Operation::Refund => matches!(fact, Event::RefundRequested { .. }),
    }
}

const fn settles(operation: Operation, fact: &Event) -> bool {
    match operation {
        Operation::Authorise => matches!(
            fact,
            Event::Authorised { .. }
                | Event::ActionRequired { .. }
                | Event::Declined { .. }
                | Event::Voided { .. }
        ),
        Operation::Capture => matches!(
            fact,
            Event::Captured { .. } | Event::CaptureFailed { .. } | Event::Voided { .. }
        ),
        Operation::Void => matches!(fact, Event::Voided { .. } | Event::Captured { .. }),
        Operation::Refund => matches!(fact, Event::Refunded { .. } | Event::RefundFailed { .. }),
    }
}

fn order_of(event: &Recorded) -> Option<(OrderId, &Event)> {
    match &event.fact {
        Fact::Payment(fact) => Some((fact.order(), fact)),
        _ => None,
    }
}

impl Reactor for Payments {
    fn name(&self) -> &'static str {
        "adapter/payments"
    }

    /// Questions of one payment are put one after the other. Looking at the provider's record and
    /// asking again have queues of their own: neither must wait for a question that hangs, since
    /// they are what settles it.
    fn key(&self, event: &Recorded) -> Option<Uuid> {
        if event.stream.category != Category::Payment {
            return None;
        }
        let payment = event.stream.id;
        match &event.fact {
            Fact::Payment(
                Event::AuthorisationRequested { .. }
                | Event::CaptureRequested { .. }
                | Event::VoidRequested { provider_ref: Some(_), .. }
                | Event::ClosingRequested { .. }
                | Event::RefundRequested { .. },
            )
            | Fact::Unknown { .. } => Some(payment),
            Fact::Payment(Event::ProviderNotified { .. } | Event::DisputeNotified { .. }) => {
                Some(Uuid::new_v5(&payment, b"notified"))
            }
            Fact::Payment(Event::OutcomeUnknown { .. }) => Some(Uuid::new_v5(&payment, b"unknown")),
            _ => None,
        }
    }

    async fn react(&self, event: &Recorded) -> Result<(), Fault> {
        let Some((order, fact)) = order_of(event) else {
            return Err(poison(event, "this release cannot read it"));
        };
        let started = Instant::now();
        let next = match fact {
            Event::OutcomeUnknown { operation, .. } => self.ask_again(event, *operation).await?,
            fact => self.ask(PaymentId::new(event.stream.id), fact).await,
        };
        metrics::asked(fact, started.elapsed());
        self.recorder.conclude::<aggregates::payment::Payment>(event, order, next).await
    }
}
