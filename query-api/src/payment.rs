//! `GET /v1/payments` and `GET /v1/payments/{payment_id}`: the books of every payment.

use axum::Router;
use axum::extract::{OriginalUri, State};
use axum::response::Response;
use axum::routing::get;
use projections::payment_ledger::{self, Filter, Outcome, Row, State as PaymentState, Transaction};
use schemas::payment::Operation;
use schemas::{Currency, Money, OrderId, PaymentId, RefundId, Timestamp, Version};
use serde::{Deserialize, Serialize};
use web::{PathId, Problem, Query};

use crate::api::{Api, Wanted, database, missing, versioned};
use crate::listing::{Listing, sorted, words};

pub(crate) fn routes() -> Router<Api> {
    Router::new().route("/v1/payments", get(list)).route("/v1/payments/{payment_id}", get(one))
}

/// What may be asked of the list.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Asked {
    #[serde(rename = "filter[order]")]
    order: Option<OrderId>,
    /// One or several, with commas between them.
    #[serde(rename = "filter[state]", default, deserialize_with = "words")]
    states: Vec<PaymentState>,
    #[serde(default)]
    sort: Sorted,
    limit: Option<u32>,
    cursor: Option<String>,
}

sorted!("opened_at", "-opened_at");

async fn list(
    State(api): State<Api>,
    OriginalUri(uri): OriginalUri,
    Query(asked): Query<Asked>,
    wanted: Wanted,
) -> Result<Response, Problem> {
    let Asked { order, states, sort, limit, cursor } = asked;
    let binding = format!("payments {order:?} {states:?}");
    let listing = Listing::asked(&api, &binding, sort, limit, cursor.as_deref())?;
    let seen = api.fresh("payment_ledger", &wanted).await?;
    let part = listing.part(None, None);
    let rows = payment_ledger::list(&api.pool, &Filter { order, states }, &part).await;
    let rows = rows.map_err(|error| database(&error))?;
    listing.answer(&api, seen, &uri, rows, Payment::of)
}

async fn one(
    State(api): State<Api>,
    PathId(payment): PathId<PaymentId>,
    wanted: Wanted,
) -> Result<Response, Problem> {
    let seen = api.fresh_row("payment_ledger", payment.uuid(), &wanted).await?;
    let row = payment_ledger::get(&api.pool, payment).await.map_err(|error| database(&error))?;
    let Some(row) = row else { return Ok(missing(seen, "payment")) };
    Ok(versioned(seen, &wanted, row.version, Payment::of(row)))
}

/// A payment. Amounts are null as long as no amount was ever named.
#[derive(Debug, Serialize)]
struct Payment {
    id: PaymentId,
    order_id: OrderId,
    version: Version,
    state: PaymentState,
    amount: Option<Money>,
    authorised: Option<Money>,
    captured: Option<Money>,
    refunded: Option<Money>,
    /// What of it is gone again without our giving it back.
    reversed: Option<Money>,
    /// What was taken and is still there.
    balance: Option<Money>,
    /// Whether nothing is wanted any more: what still comes in goes back.
    unwanted: bool,
    provider_ref: Option<String>,
    /// Where the customer does what is wanted of them, as long as it is.
    action_url: Option<String>,
    transactions: Vec<Entry>,
    opened_at: Timestamp,
    updated_at: Timestamp,
}

#[derive(Debug, Serialize)]
struct Entry {
    operation: Operation,
    outcome: Outcome,
    amount: Option<Money>,
    #[serde(skip_serializing_if = "Option::is_none")]
    op: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    refund_id: Option<RefundId>,
    #[serde(skip_serializing_if = "Option::is_none")]
    code: Option<String>,
    requested_at: Timestamp,
    settled_at: Option<Timestamp>,
}

impl Payment {
    fn of(row: Row) -> Self {
        let currency = row.currency.map(|currency| currency.0);
        let money = |amount| currency.map(|currency| Money::new(amount, currency));
        Self {
            id: row.id(),
            order_id: row.order(),
            version: row.version,
            state: row.state.0,
            amount: money(row.amount),
            authorised: money(row.authorised),
            captured: money(row.captured),
            refunded: money(row.refunded),
            reversed: money(row.reversed),
            balance: money(row.balance),
            unwanted: row.unwanted,
            provider_ref: row.provider_ref,
            action_url: row.action_url,
            transactions: row.transactions.0.into_iter().map(|t| Entry::of(t, currency)).collect(),
            opened_at: row.opened_at,
            updated_at: row.updated_at,
        }
    }
}

impl Entry {
    fn of(transaction: Transaction, currency: Option<Currency>) -> Self {
        Self {
            operation: transaction.operation,
            outcome: transaction.outcome,
            amount: currency.map(|currency| Money::new(transaction.amount, currency)),
            op: transaction.op,
            refund_id: transaction.refund,
            code: transaction.code,
            requested_at: transaction.requested_at,
            settled_at: transaction.settled_at,
        }
    }
}
