//! The write side's two doors: HTTP routes, and the inbox of commands that sagas issue.
//!
//! Both end in `Store::execute` and hold no rule: a route turns a request into a command, and
//! the answer into a status. The event store's ledger is the only memory of idempotency keys:
//! the same key finds the same answer, and the response is built from it again.
//!
//! To add one more command: 1. its variants in `schemas` and its arms in `aggregates`; 2. a
//! route and a handler in the file of its context here; 3. a test of what the route refuses.
//! To add one more context: a file with its `routes()`, and a line in [`router`] and in
//! [`Inbox`].

mod answer;
mod examples;
mod execute;
mod inbox;
mod inventory;
mod metrics;
mod order;
mod parked;
mod payment;
mod post;
mod saga;
mod shipping;
mod signature;
mod webhook;

use std::fmt;

use axum::Router;
use event_store::{Store, Vault};
use schemas::{Clock, Ids};
use serde_json::Value;
use web::{Edge, Gate, Operation, Routes};

pub use inbox::Inbox;
pub use metrics::{ORDER_VALUE, ORDER_VALUE_BUCKETS, describe_metrics};
pub use payment::FindPayment;

use execute::Api;
pub use order::{IMPORT, PRICES};

/// What the command API needs.
#[derive(Clone)]
pub struct Config {
    /// The log that commands are appended to.
    pub store: Store,
    /// What personal data is sealed with before it becomes a command.
    pub vault: Vault,
    /// Where the time comes from.
    pub clock: Clock,
    /// Where request ids come from.
    pub ids: Ids,
    /// Who may call, and how often.
    pub gate: Gate,
    /// What the payment provider signs its webhooks with.
    pub payment_webhook_secret: String,
    /// Whose payment it is that the provider names by its own id alone.
    pub find_payment: FindPayment,
    /// What the carrier signs its webhooks with.
    pub carrier_webhook_secret: String,
    /// How the health routes look.
    pub health: web::health::Checks,
}

impl fmt::Debug for Config {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Config").field("store", &self.store).finish_non_exhaustive()
    }
}

/// The command API, ready to be served.
pub fn router(config: Config) -> Router {
    let Config { store, vault, clock, ids, gate, health, find_payment, .. } = config;
    let api = Api::new(
        store,
        vault,
        clock,
        signature::Secret::new(&config.payment_webhook_secret),
        signature::Secret::new(&config.carrier_webhook_secret),
        find_payment,
    );
    let edge = Edge::new(health, move || ids.next());
    web::edge(routes().with_state(&api), Edge { gate, document: Some(document()), ..edge })
}

/// What is to be known of every route.
#[must_use]
pub fn operations() -> Vec<Operation> {
    routes().operations().cloned().collect()
}

fn routes() -> Routes<Api> {
    Routes::new()
        .merge(order::routes())
        .merge(inventory::routes())
        .merge(shipping::routes())
        .merge(payment::routes())
        .merge(saga::routes())
        .merge(parked::routes())
}

/// The `OpenAPI` document.
#[must_use]
pub fn document() -> Value {
    let description = "Everything that changes something. Commands are named by an \
                       Idempotency-Key, so that they can be sent again; their answers name the \
                       position of the log that a query can wait for.";
    web::openapi::document("Waybill: commands", description, routes().operations())
}
