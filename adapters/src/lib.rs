//! The outside world: a payment provider, a carrier, and whoever operators have told, over HTTP.
//!
//! The adapters of the contexts have one shape. They hear an event that asks for something (the
//! question is in the log before it is put), put the question under an idempotency key that follows
//! from it, and hand the answer to the aggregate as a command whose id follows from the event. So
//! everything here may happen twice and counts once.
//!
//! **Architecture invariant.** No rule lives here, and a time-out is never taken for a no: what
//! is not known is asked again under the same key, and where it stays unknown that is what is
//! recorded. An open circuit breaker is a wait, never an answer.
//!
//! * [`Outcome`] says what a call can come to.
//! * [`Payments`] hears payments and speaks to a Stripe-shaped provider.
//! * [`PaymentFinder`] knows whose payment a webhook is about that names the provider's id alone.
//! * [`Carrier`] hears fulfilment orders and speaks to an `EasyPost`-shaped carrier.
//! * [`Operators`] tells a webhook of every saga that is parked, until somebody takes it.
//!
//! To add one more: 1. a module named after its context, with the questions it puts (the client)
//! and the commands that follow from the outcomes (`answer`, pure, tested as a table); 2. a
//! `Reactor` that joins them; 3. a line above.

mod config;
mod metrics;
mod operators;
mod outbound;
mod outcome;
mod payment;
mod record;
mod shipping;

#[cfg(test)]
mod world;

pub use config::{Config, ConfigError, Limits};
pub use metrics::{PAYMENT_SECONDS, PAYMENT_SECONDS_BUCKETS, describe_metrics};
pub use operators::Operators;
pub use outcome::{Outcome, Rejection};
pub use payment::{PaymentFinder, Payments};
pub use shipping::Carrier;
