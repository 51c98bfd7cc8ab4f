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
mod execute;
mod inbox;
mod inventory;
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
use web::{Edge, Trust};

pub use inbox::Inbox;

use execute::Api;

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
    /// The token of callers that may say when an order was placed; none: nobody may.
    pub import_token: Option<String>,
    /// The token of operators, who may act on parked streams and sagas; none: nobody may.
    pub operator_token: Option<String>,
    /// What the payment provider signs its webhooks with.
    pub payment_webhook_secret: String,
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
    let Config { store, vault, clock, ids, health, .. } = config;
    let operators = parked::Operators::new(store.clone(), clock, config.operator_token.as_deref());
    let api = Api::new(
        store,
        vault,
        clock,
        Trust::new(config.import_token.as_deref()),
        signature::Secret::new(&config.payment_webhook_secret),
        signature::Secret::new(&config.carrier_webhook_secret),
    );
    let routes = Router::new()
        .merge(order::routes())
        .merge(inventory::routes())
        .merge(shipping::routes())
        .merge(payment::routes())
        .with_state(api)
        .merge(
            parked::routes()
                .merge(saga::routes())
                .merge(order::operator_routes())
                .merge(payment::operator_routes())
                .with_state(operators),
        );
    web::edge(routes, Edge::new(health, move || ids.next()))
}
