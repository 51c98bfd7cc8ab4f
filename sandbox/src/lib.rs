//! A payment provider and a carrier to try Waybill against: real HTTP servers with their own
//! books and, on request, their own faults.
//!
//! * [`provider()`] speaks the part of Stripe's API that a shop with manual capture needs.
//! * [`carrier()`] speaks the part of `EasyPost`'s API that a shop with parcels needs.
//!
//! Both honour `Idempotency-Key`, sign and repeat their webhooks, keep every change in a journal
//! so that a killed sandbox comes back with the same books and the same webhooks still to send,
//! and are steered over HTTP below `/sandbox`. Nothing here is shared with the code that calls
//! these servers: a misreading of an API must show as a failed call, not as a shared mistake.
//!
//! To add one more server: 1. a module with its objects, its `desk::Book` and its rules;
//! 2. a router whose changes all go through `desk::Desk::change`; 3. a function below.

mod call;
mod carrier;
mod config;
mod desk;
mod fault;
mod journal;
mod keys;
mod outbox;
mod provider;
mod server;

pub use config::Config;
pub use server::Server;

/// A Stripe-shaped payment provider, ready to serve.
#[must_use]
pub fn provider(config: Config) -> Server {
    Server::provider(config)
}

/// An `EasyPost`-shaped carrier, ready to serve.
#[must_use]
pub fn carrier(config: Config) -> Server {
    Server::carrier(config)
}
