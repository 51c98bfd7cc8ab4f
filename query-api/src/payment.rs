//! `GET /v1/payments/{payment_id}`: the books of one payment.

use axum::Router;
use axum::extract::State;
use axum::response::Response;
use axum::routing::get;
use projections::payment_ledger::{self, Outcome, Row, State as PaymentState, Transaction};
use schemas::payment::Operation;
use schemas::{Currency, Money, OrderId, PaymentId, RefundId, Timestamp, Version};
use serde::Serialize;
use web::{PathId, Problem};

use crate::api::{Api, Wanted, database, missing, versioned};

pub(crate) fn routes() -> Router<Api> {
    Router::new().route("/v1/payments/{payment_id}", get(one))
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
    /// What was taken and not given back.
    balance: Option<Money>,
    /// Whether nothing is wanted any more: what still comes in goes back.
    unwanted: bool,
    provider_ref: Option<String>,
    transactions: Vec<Entry>,
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
            balance: money(row.balance),
            unwanted: row.unwanted,
            provider_ref: row.provider_ref,
            transactions: row.transactions.0.into_iter().map(|t| Entry::of(t, currency)).collect(),
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
