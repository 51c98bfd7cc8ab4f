//! `GET /v1/payments` and `GET /v1/payments/{payment_id}`: the books of every payment.

use axum::extract::{OriginalUri, State};
use axum::http::StatusCode;
use axum::response::Response;
use projections::payment_ledger::{
    self, Dispute, Filter, Outcome, Row, State as PaymentState, Transaction,
};
use schemars::JsonSchema;
use schemas::payment::{DisputeStatus, Operation as Asking};
use schemas::{Currency, Money, OrderId, PaymentId, RefundId, Timestamp, Version};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use web::{Access, Caller, Operation, Page, PathId, Problem, Query, Routes};

use crate::api::{Api, Wanted, database, missing, versioned};
use crate::examples::{AT, LISTED, ORDER, PAYMENT, euro, page};
use crate::listing::{Listing, sorted, words};

const READ: Access = Access::Customers("payments:read");

pub(crate) fn routes() -> Routes<Api> {
    let summary = "Payments, newest first; customers name their order";
    let listed = Operation::get("/v1/payments", "listPayments", READ, summary)
        .query::<Asked>(&json!({ "filter[order]": ORDER, "filter[state]": "authorised",
                                 "sort": "-opened_at", "limit": 50 }))
        .paged()
        .fresh()
        .answers::<Page<Payment>>(200, "A page of payments.", &LISTED, page(&example()))
        .refuses(404, &["not_found"]);
    let shown = Operation::get("/v1/payments/{payment_id}", "getPayment", READ, "A payment")
        .path::<PaymentId>("payment_id", PAYMENT)
        .fresh()
        .answers_versioned::<Payment>("The payment.", example());
    Routes::new().route(listed, list).route(shown, one)
}

fn example() -> Value {
    json!({
        "id": PAYMENT, "order_id": ORDER, "version": 2, "state": "authorised",
        "amount": euro(2500), "authorised": euro(2500), "captured": euro(0),
        "refunded": euro(0), "reversed": euro(0), "disputed": euro(0), "balance": euro(0), "unwanted": false,
        "provider_ref": "pi_1", "action_url": null,
        "transactions": [{ "operation": "authorise", "outcome": "succeeded",
                           "amount": euro(2500), "op": 1, "requested_at": AT, "settled_at": AT }],
        "disputes": [],
        "opened_at": AT, "updated_at": AT,
    })
}

/// What may be asked of the list.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct Asked {
    #[serde(rename = "filter[order]")]
    order: Option<OrderId>,
    /// One or several, with commas between them.
    #[serde(rename = "filter[state]", default, deserialize_with = "words")]
    #[schemars(with = "Option<String>")]
    states: Vec<PaymentState>,
    #[serde(default)]
    sort: Sorted,
    limit: Option<u32>,
    cursor: Option<String>,
}

sorted!("opened_at", "-opened_at");

async fn list(
    State(api): State<Api>,
    caller: Caller,
    OriginalUri(uri): OriginalUri,
    Query(asked): Query<Asked>,
    wanted: Wanted,
) -> Result<Response, Problem> {
    let Asked { order, states, sort, limit, cursor } = asked;
    match order {
        None if caller.is_customer() => {
            let detail = "customers ask for the payment of an order: filter[order]";
            return Err(Problem::new(StatusCode::FORBIDDEN, "forbidden", detail));
        }
        Some(order) if !api.owns(&caller, order).await? => {
            return Err(Problem::not_found("there is no such order"));
        }
        _ => {}
    }
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
    caller: Caller,
    PathId(payment): PathId<PaymentId>,
    wanted: Wanted,
) -> Result<Response, Problem> {
    let seen = api.fresh_row("payment_ledger", payment.uuid(), &wanted).await?;
    let row = payment_ledger::get(&api.pool, payment).await.map_err(|error| database(&error))?;
    let Some(row) = row else { return Ok(missing(seen, "payment")) };
    if !api.owns(&caller, row.order()).await? {
        return Ok(missing(seen, "payment"));
    }
    Ok(versioned(seen, &wanted, row.version, Payment::of(row)))
}

/// A payment. Amounts are null as long as no amount was ever named.
#[derive(Debug, Serialize, JsonSchema)]
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
    /// What of it the customer's bank has until it decides to whom it belongs.
    disputed: Option<Money>,
    /// What was taken and is still there.
    balance: Option<Money>,
    /// Whether nothing is wanted any more: what still comes in goes back.
    unwanted: bool,
    provider_ref: Option<String>,
    /// Where the customer does what is wanted of them, as long as it is.
    action_url: Option<String>,
    transactions: Vec<Entry>,
    /// What the customer asked their bank for.
    disputes: Vec<Disputed>,
    opened_at: Timestamp,
    updated_at: Timestamp,
}

#[derive(Debug, Serialize, JsonSchema)]
struct Entry {
    operation: Asking,
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

#[derive(Debug, Serialize, JsonSchema)]
struct Disputed {
    /// The provider's id.
    id: String,
    status: DisputeStatus,
    amount: Option<Money>,
    /// The provider's word for why, as `fraudulent`.
    reason: String,
    /// Until when the bank takes evidence.
    evidence_due: Option<Timestamp>,
    opened_at: Timestamp,
    closed_at: Option<Timestamp>,
}

impl Disputed {
    fn of(dispute: Dispute, currency: Option<Currency>) -> Self {
        Self {
            id: dispute.id,
            status: dispute.status,
            amount: currency.map(|currency| Money::new(dispute.amount, currency)),
            reason: dispute.reason,
            evidence_due: dispute.evidence_due,
            opened_at: dispute.opened_at,
            closed_at: dispute.closed_at,
        }
    }
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
            disputed: money(row.disputed),
            balance: money(row.balance),
            unwanted: row.unwanted,
            provider_ref: row.provider_ref,
            action_url: row.action_url,
            transactions: row.transactions.0.into_iter().map(|t| Entry::of(t, currency)).collect(),
            disputes: row.disputes.0.into_iter().map(|d| Disputed::of(d, currency)).collect(),
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
