//! One row per payment: every transaction with the provider, and what they add up to.

use schemas::payment::{DisputeStatus, Event, Operation};
use schemas::{
    Category, Currency, Fact, Money, OrderId, PaymentId, Recorded, RefundId, Text, Timestamp,
};
use serde::{Deserialize, Serialize};
use sqlx::types::Json;
use sqlx::{PgPool, Postgres, QueryBuilder};
use uuid::Uuid;

use crate::projection::{Keys, Projection};
use crate::row::{self, AsText};
use crate::walk::{self, List, Only, Part, Place, Placed};
use crate::words::words;

words! {
    /// How the payment stands.
    pub enum State {
        /// Nothing was asked of the provider yet.
        Created = "created",
        /// The provider is to hold money.
        Authorising = "authorising",
        /// The customer has to do something first, as to confirm the payment with their bank.
        ActionRequired = "action_required",
        /// The provider holds money.
        Authorised = "authorised",
        /// The provider held it, and let go since nobody took it in time.
        Expired = "expired",
        /// The provider said no.
        Declined = "declined",
        /// Nobody knows what became of the last request.
        Unknown = "unknown",
        /// The provider is to take what it holds.
        Capturing = "capturing",
        /// The provider took it.
        Captured = "captured",
        /// The provider did not take it.
        CaptureFailed = "capture_failed",
        /// What the provider took is gone again, without our giving it back.
        CaptureReversed = "capture_reversed",
        /// The customer's bank has some of it until it decides to whom it belongs.
        Disputed = "disputed",
        /// The provider is to let go.
        Voiding = "voiding",
        /// Nothing is held.
        Voided = "voided",
        /// The provider is to give money back.
        Refunding = "refunding",
        /// Some was given back.
        PartiallyRefunded = "partially_refunded",
        /// All was given back.
        Refunded = "refunded",
        /// The provider did not give it back.
        RefundFailed = "refund_failed",
    }
}

words! {
    /// How a transaction stands.
    pub enum Outcome {
        /// Asked for, not answered.
        Pending = "pending",
        /// Done.
        Succeeded = "succeeded",
        /// Not done.
        Failed = "failed",
        /// Nobody knows.
        Unknown = "unknown",
    }
}

/// One thing that was asked of the provider.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Transaction {
    /// What was asked.
    pub operation: Operation,
    /// What came of it.
    pub outcome: Outcome,
    /// How much it is about, in minor units.
    pub amount: i64,
    /// Which authorisation, counted from 1.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub op: Option<u32>,
    /// Which refund.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub refund: Option<RefundId>,
    /// The provider's code, where it did not do it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub code: Option<String>,
    /// When it was asked.
    pub requested_at: Timestamp,
    /// When the answer was recorded.
    pub settled_at: Option<Timestamp>,
}

/// Money that a customer asked their bank for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Dispute {
    /// The provider's id.
    pub id: String,
    /// What the bank says.
    pub status: DisputeStatus,
    /// How much it is about, in minor units.
    pub amount: i64,
    /// The provider's word for why.
    pub reason: String,
    /// Until when the bank takes evidence.
    pub evidence_due: Option<Timestamp>,
    /// When it was recorded.
    pub opened_at: Timestamp,
    /// When the bank's decision was.
    pub closed_at: Option<Timestamp>,
}

crate::table! {
    /// A payment.
    pub struct Row {
        /// The payment.
        payment_id: Uuid,
        /// For which order.
        order_id: Uuid,
        /// How it stands.
        state: AsText<State>,
        /// The currency of all its amounts, once one is known.
        currency: Option<AsText<Currency>>,
        /// What is due, in minor units.
        amount: i64,
        /// What is held or was taken, in minor units.
        authorised: i64,
        /// What was taken, in minor units.
        captured: i64,
        /// What was given back, in minor units.
        refunded: i64,
        /// What of it is gone again without our giving it back, in minor units.
        reversed: i64,
        /// What of it a bank has until it decides to whom it belongs, in minor units.
        disputed: i64,
        /// What was taken and is still there, in minor units.
        balance: i64,
        /// Whether nothing is wanted any more: what still comes in goes back.
        unwanted: bool,
        /// The provider's id of the payment.
        provider_ref: Option<String>,
        /// Where the customer does what is wanted of them, as long as it is.
        action_url: Option<String>,
        /// Everything that was asked of the provider, in order.
        transactions: Json<Vec<Transaction>>,
        /// What the customer asked their bank for.
        disputes: Json<Vec<Dispute>>,
        /// When its first event was recorded.
        opened_at: Timestamp,
        /// When its last event was recorded.
        updated_at: Timestamp,
        /// The version of its stream.
        version: i64,
    }
}

impl Row {
    /// The payment's id.
    #[must_use]
    pub const fn id(&self) -> PaymentId {
        PaymentId::new(self.payment_id)
    }

    /// The order that it pays for.
    #[must_use]
    pub const fn order(&self) -> OrderId {
        OrderId::new(self.order_id)
    }

    fn opened(key: Uuid, order: OrderId, at: Timestamp) -> Self {
        Self {
            payment_id: key,
            order_id: order.uuid(),
            state: AsText(State::Created),
            currency: None,
            amount: 0,
            authorised: 0,
            captured: 0,
            refunded: 0,
            reversed: 0,
            disputed: 0,
            balance: 0,
            unwanted: false,
            provider_ref: None,
            action_url: None,
            transactions: Json(Vec::new()),
            disputes: Json(Vec::new()),
            opened_at: at,
            updated_at: at,
            version: 0,
        }
    }

    fn in_currency(&mut self, money: &Money) -> i64 {
        self.currency.get_or_insert(AsText(money.currency));
        money.amount
    }

    fn ask(&mut self, operation: Operation, amount: i64, at: Timestamp) -> &mut Transaction {
        self.transactions.0.push(Transaction {
            operation,
            outcome: Outcome::Pending,
            amount,
            op: None,
            refund: None,
            code: None,
            requested_at: at,
            settled_at: None,
        });
        let last = self.transactions.0.len() - 1;
        &mut self.transactions.0[last]
    }

    /// The youngest transaction of that kind which has no definite outcome; where the provider
    /// acted without being asked, a new one.
    fn answer(
        &mut self,
        operation: Operation,
        outcome: Outcome,
        amount: i64,
        at: Timestamp,
    ) -> &mut Transaction {
        let open = |t: &Transaction| {
            t.operation == operation && matches!(t.outcome, Outcome::Pending | Outcome::Unknown)
        };
        let index = self.transactions.0.iter().rposition(open).unwrap_or_else(|| {
            self.ask(operation, amount, at);
            self.transactions.0.len() - 1
        });
        let transaction = &mut self.transactions.0[index];
        transaction.outcome = outcome;
        transaction.settled_at = Some(at);
        if outcome == Outcome::Succeeded {
            transaction.amount = amount;
        }
        transaction
    }

    fn requested(&mut self, fact: &Event, at: Timestamp) {
        match fact {
            Event::Created { amount, .. } => self.amount = self.in_currency(amount),
            Event::AuthorisationRequested { op, amount, .. } => {
                let due = self.in_currency(amount);
                self.amount = self.amount.max(due);
                self.ask(Operation::Authorise, due, at).op = Some(*op);
                self.state = AsText(State::Authorising);
            }
            Event::CaptureRequested { op, amount, provider_ref, .. } => {
                let due = self.in_currency(amount);
                self.ask(Operation::Capture, due, at).op = Some(*op);
                self.provider_ref = Some(provider_ref.to_string());
                self.state = AsText(State::Capturing);
            }
            Event::VoidRequested { op, provider_ref, .. } => {
                self.unwanted = true;
                self.state = AsText(State::Voiding);
                if let Some(provider_ref) = provider_ref {
                    self.provider_ref = Some(provider_ref.to_string());
                    let held = self.authorised - self.captured;
                    self.ask(Operation::Void, held, at).op = Some(*op);
                }
            }
            Event::RefundRequested { refund, amount, provider_ref, .. } => {
                let due = self.in_currency(amount);
                self.ask(Operation::Refund, due, at).refund = Some(*refund);
                self.provider_ref = Some(provider_ref.to_string());
                self.state = AsText(State::Refunding);
            }
            Event::LateMoneyDetected { amount, .. } => {
                self.in_currency(amount);
                self.unwanted = true;
            }
            _ => {}
        }
    }

    /// What goes on between the customer and their bank.
    fn waits(&mut self, fact: &Event, at: Timestamp) {
        match fact {
            Event::ActionRequired { op, provider_ref, url, .. } => {
                let answer = self.answer(Operation::Authorise, Outcome::Pending, 0, at);
                (answer.op, answer.settled_at) = (Some(*op), None);
                self.provider_ref = Some(provider_ref.to_string());
                self.action_url = Some(url.to_string());
                self.state = AsText(State::ActionRequired);
            }
            // The customer named another card instead: nothing comes of what was asked before.
            Event::MethodReplaced { .. } if self.state.0 == State::ActionRequired => {
                self.answer(Operation::Authorise, Outcome::Failed, 0, at).code =
                    Some("replaced".to_owned());
                self.state = AsText(State::Declined);
            }
            _ => {}
        }
    }

    /// What goes on between the customer and their bank afterwards.
    fn disputes(&mut self, fact: &Event, at: Timestamp) {
        match fact {
            Event::DisputeOpened { dispute, amount, reason, evidence_due, .. } => {
                let amount = self.in_currency(amount);
                self.disputed += amount;
                self.disputes.0.push(Dispute {
                    id: dispute.to_string(),
                    status: DisputeStatus::Open,
                    amount,
                    reason: reason.to_string(),
                    evidence_due: *evidence_due,
                    opened_at: at,
                    closed_at: None,
                });
                self.state = AsText(State::Disputed);
            }
            Event::DisputeWon { dispute, amount, .. } => {
                self.disputed -= amount.amount;
                self.closed(dispute, DisputeStatus::Won, at);
                self.state = AsText(State::Captured);
            }
            Event::DisputeLost { dispute, amount, .. } => {
                self.disputed -= amount.amount;
                self.reversed += amount.amount;
                self.closed(dispute, DisputeStatus::Lost, at);
                self.state = AsText(State::CaptureReversed);
            }
            _ => {}
        }
    }

    fn closed(&mut self, dispute: &Text, status: DisputeStatus, at: Timestamp) {
        if let Some(dispute) = self.disputes.0.iter_mut().find(|of| of.id == dispute.as_str()) {
            (dispute.status, dispute.closed_at) = (status, Some(at));
        }
    }

    fn answered(&mut self, fact: &Event, at: Timestamp) {
        match fact {
            Event::Authorised { op, amount, provider_ref, .. } => {
                self.authorised = self.in_currency(amount);
                let authorised = self.authorised;
                self.answer(Operation::Authorise, Outcome::Succeeded, authorised, at).op =
                    Some(*op);
                self.provider_ref = Some(provider_ref.to_string());
                self.state = AsText(State::Authorised);
            }
            Event::Declined { op, provider_ref, code, .. } => {
                if let Some(provider_ref) = provider_ref {
                    self.provider_ref = Some(provider_ref.to_string());
                }
                let answer = self.answer(Operation::Authorise, Outcome::Failed, 0, at);
                answer.op = Some(*op);
                answer.code = Some(code.to_string());
                self.state = AsText(if self.unwanted { State::Voided } else { State::Declined });
            }
            Event::AuthorisationExpired { .. } => {
                self.authorised = self.captured;
                self.state = AsText(State::Expired);
            }
            Event::OutcomeUnknown { operation, .. } => {
                self.answer(*operation, Outcome::Unknown, 0, at).settled_at = None;
                self.state = AsText(State::Unknown);
            }
            Event::Captured { op, amount, .. } => {
                let captured = self.in_currency(amount);
                self.captured += captured;
                self.answer(Operation::Capture, Outcome::Succeeded, captured, at).op = Some(*op);
                self.state = AsText(State::Captured);
            }
            Event::CaptureReversed { amount, .. } => {
                self.reversed += self.in_currency(amount);
                self.state = AsText(State::CaptureReversed);
            }
            Event::CaptureFailed { code, .. } => {
                let answer = self.answer(Operation::Capture, Outcome::Failed, 0, at);
                answer.code = Some(code.to_string());
                self.state = AsText(State::CaptureFailed);
            }
            Event::Voided { never_authorised, .. } => {
                self.unwanted = true;
                if !never_authorised {
                    let held = self.authorised - self.captured;
                    self.answer(Operation::Void, Outcome::Succeeded, held, at);
                    self.authorised = self.captured;
                }
                self.state = AsText(State::Voided);
            }
            Event::Refunded { refund, amount, .. } => {
                let refunded = self.in_currency(amount);
                self.refunded += refunded;
                self.answer(Operation::Refund, Outcome::Succeeded, refunded, at).refund =
                    Some(*refund);
                let all = self.refunded >= self.captured;
                self.state = AsText(if all { State::Refunded } else { State::PartiallyRefunded });
            }
            Event::RefundFailed { refund, code, .. } => {
                let answer = self.answer(Operation::Refund, Outcome::Failed, 0, at);
                answer.refund = Some(*refund);
                answer.code = Some(code.to_string());
                self.state = AsText(State::RefundFailed);
            }
            _ => {}
        }
    }
}

/// The books, as we know them.
#[derive(Debug)]
pub struct PaymentLedger;

impl Projection for PaymentLedger {
    const NAME: &'static str = "payment_ledger";
    const VERSION: u16 = 5;
    const CATEGORIES: &'static [Category] = &[Category::Payment];
    type Row = Row;

    fn keys(event: &Recorded) -> Keys {
        match event.fact {
            Fact::Payment(_) => Keys::One(event.stream.id),
            _ => Keys::None,
        }
    }

    fn evolve(row: Option<Row>, key: Uuid, event: &Recorded) -> Option<Row> {
        let Fact::Payment(fact) = &event.fact else { return row };
        let mut row = row.unwrap_or_else(|| Row::opened(key, fact.order(), event.recorded_at));
        row.requested(fact, event.recorded_at);
        row.waits(fact, event.recorded_at);
        row.answered(fact, event.recorded_at);
        row.disputes(fact, event.recorded_at);
        row.balance = row.captured - row.refunded - row.reversed - row.disputed;
        if row.state.0 != State::ActionRequired {
            row.action_url = None;
        }
        Some(Row { version: event.version, updated_at: event.recorded_at, ..row })
    }
}

/// One payment.
///
/// # Errors
/// Where the database is away.
pub async fn get(pool: &PgPool, payment: PaymentId) -> Result<Option<Row>, sqlx::Error> {
    row::get(pool, PaymentLedger::NAME, payment.uuid()).await
}

impl Placed for Row {
    fn place(&self) -> Place {
        (self.opened_at, self.payment_id)
    }
}

/// Which payments are wanted. What is absent does not matter.
#[derive(Debug, Clone, Default)]
pub struct Filter {
    /// For this order.
    pub order: Option<OrderId>,
    /// In one of these states.
    pub states: Vec<State>,
}

/// The payments of `part` that `filter` lets through, by the time at which they were opened.
///
/// # Errors
/// Where the database is away.
pub async fn list(pool: &PgPool, filter: &Filter, part: &Part) -> Result<Vec<Row>, sqlx::Error> {
    walk::read(pool, list_query(filter, part)).await
}

/// What [`list`] asks, for whoever looks at how it is planned.
#[must_use]
pub fn list_query(filter: &Filter, part: &Part) -> QueryBuilder<Postgres> {
    const PAYMENTS: List = List {
        prefix: "",
        from: "read_models.payment_ledger",
        time: "opened_at",
        id: "payment_id",
    };
    let order = filter.order.map(|order| Only::Id("order_id", order.uuid()));
    let always: Vec<_> = order.into_iter().collect();
    PAYMENTS.query::<Row>(&always, &Only::any("state", &filter.states), part)
}

#[cfg(test)]
mod tests {
    use chrono::DateTime;

    use super::*;
    use crate::given::{euro, given, order_id};

    fn requested(op: u32) -> Event {
        let method = "pm_card_visa".parse().unwrap();
        Event::AuthorisationRequested { order: order_id(), op, amount: euro(300), method }
    }

    fn authorised() -> Event {
        let (order, provider_ref) = (order_id(), "pi_1".parse().unwrap());
        let until = DateTime::UNIX_EPOCH;
        Event::Authorised { order, op: 1, amount: euro(300), provider_ref, until }
    }

    fn captured() -> [Event; 2] {
        let (order, provider_ref) = (order_id(), "pi_1".parse().unwrap());
        [
            Event::CaptureRequested { order, op: 1, attempt: 1, amount: euro(300), provider_ref },
            Event::Captured { order, op: 1, amount: euro(300) },
        ]
    }

    fn refunded() -> [Event; 2] {
        let (order, refund) = (order_id(), order_id().payment().undoing_refund());
        let provider_ref = "pi_1".parse().unwrap();
        [
            Event::RefundRequested { order, refund, amount: euro(300), provider_ref },
            Event::Refunded { order, refund, amount: euro(300) },
        ]
    }

    fn after(events: impl IntoIterator<Item = Event>) -> Row {
        given::<PaymentLedger>(events.into_iter().map(Fact::Payment)).one()
    }

    fn acting() -> [Event; 2] {
        let (order, provider_ref) = (order_id(), "pi_1".parse().unwrap());
        let url = "https://bank.example/confirm".parse().unwrap();
        [requested(1), Event::ActionRequired { order, op: 1, provider_ref, url }]
    }

    fn told(row: &Row) -> Vec<(Operation, &'static str)> {
        let transactions = row.transactions.0.iter();
        transactions.map(|t| (t.operation, t.outcome.as_str())).collect()
    }

    #[test]
    fn a_customer_who_has_to_act_is_told_where() {
        let row = after(acting());
        assert_eq!(row.state.0, State::ActionRequired);
        assert_eq!(row.action_url.as_deref(), Some("https://bank.example/confirm"));
        assert_eq!(told(&row), [(Operation::Authorise, "pending")]);
        let row = after(acting().into_iter().chain([authorised()]));
        assert_eq!((row.state.0, row.action_url.as_deref()), (State::Authorised, None));
        assert_eq!(told(&row), [(Operation::Authorise, "succeeded")]);
    }

    #[test]
    fn another_card_is_another_transaction() {
        let replaced = Event::MethodReplaced { order: order_id(), method: "pm_b".parse().unwrap() };
        let row = after(acting().into_iter().chain([replaced, requested(2)]));
        let authorise = Operation::Authorise;
        assert_eq!(told(&row), [(authorise, "failed"), (authorise, "pending")]);
        assert_eq!((row.state.0, row.action_url.as_deref()), (State::Authorising, None));
        assert_eq!(row.transactions.0[0].code.as_deref(), Some("replaced"));
    }

    #[test]
    fn money_that_is_gone_again_leaves_nothing() {
        let reversed = Event::CaptureReversed { order: order_id(), amount: euro(300) };
        let row =
            after([requested(1), authorised()].into_iter().chain(captured()).chain([reversed]));
        assert_eq!((row.captured, row.reversed, row.balance), (300, 300, 0));
        assert_eq!(row.state.0, State::CaptureReversed);
    }

    #[test]
    fn money_that_a_bank_has_is_not_ours_until_it_says_so() {
        let (order, dispute, amount) = (order_id(), "dp_1".parse::<Text>().unwrap(), euro(100));
        let opened = Event::DisputeOpened {
            order,
            dispute: dispute.clone(),
            amount,
            reason: "fraudulent".parse().unwrap(),
            evidence_due: None,
        };
        let won = Event::DisputeWon { order, dispute: dispute.clone(), amount };
        let lost = Event::DisputeLost { order, dispute, amount };
        let after = |events: &[&Event]| {
            let story = [requested(1), authorised()].into_iter().chain(captured());
            after(story.chain(events.iter().map(|event| (*event).clone())))
        };
        let row = after(&[&opened]);
        assert_eq!((row.disputed, row.balance, row.state.0), (100, 200, State::Disputed));
        let row = after(&[&opened, &won]);
        assert_eq!((row.disputed, row.balance, row.state.0), (0, 300, State::Captured));
        let row = after(&[&opened, &lost]);
        assert_eq!((row.disputed, row.reversed, row.balance), (0, 100, 200));
        let told = &row.disputes.0[0];
        assert_eq!((told.status, told.closed_at.is_some()), (DisputeStatus::Lost, true));
    }

    #[test]
    fn money_that_was_taken_and_given_back_leaves_nothing() {
        let taken = after([requested(1), authorised()].into_iter().chain(captured()));
        assert_eq!((taken.authorised, taken.captured, taken.balance), (300, 300, 300));
        assert_eq!(taken.state.0, State::Captured);
        let story = [requested(1), authorised()].into_iter().chain(captured()).chain(refunded());
        let row = after(story);
        assert_eq!((row.refunded, row.balance, row.version), (300, 0, 6));
        assert_eq!((row.opened_at, taken.opened_at < taken.updated_at), (taken.opened_at, true));
        assert_eq!(row.state.0, State::Refunded);
        let done = [Operation::Authorise, Operation::Capture, Operation::Refund];
        assert_eq!(told(&row), done.map(|operation| (operation, "succeeded")));
    }

    #[test]
    fn a_second_card_is_a_second_transaction() {
        let declined = Event::Declined {
            order: order_id(),
            op: 1,
            provider_ref: None,
            code: "card_declined".parse().unwrap(),
            retryable: true,
        };
        let row = after([requested(1), declined, requested(2), authorised()]);
        let expected = [(Operation::Authorise, "failed"), (Operation::Authorise, "succeeded")];
        assert_eq!(told(&row), expected);
        assert_eq!(row.transactions.0[0].code.as_deref(), Some("card_declined"));
        assert_eq!((row.state.0, row.authorised), (State::Authorised, 300));
    }

    #[test]
    fn an_unknown_outcome_is_settled_by_the_answer_that_comes_later() {
        let unknown =
            Event::OutcomeUnknown { order: order_id(), op: 1, operation: Operation::Authorise };
        let row = after([requested(1), unknown.clone()]);
        assert_eq!((row.state.0, told(&row)[0].1), (State::Unknown, "unknown"));
        let row = after([requested(1), unknown, authorised()]);
        assert_eq!(told(&row), [(Operation::Authorise, "succeeded")]);
    }

    #[test]
    fn a_payment_voided_before_it_began_has_no_transactions() {
        let row = after([Event::Voided { order: order_id(), never_authorised: true }]);
        assert_eq!((row.state.0, row.unwanted, row.currency), (State::Voided, true, None));
        assert!(row.transactions.0.is_empty());
    }

    #[test]
    fn money_that_is_held_no_longer_is_held_anew() {
        let order = order_id();
        let expired =
            Event::AuthorisationExpired { order, op: 1, provider_ref: "pi_1".parse().unwrap() };
        let row = after([requested(1), authorised(), expired.clone()]);
        assert_eq!((row.state.0, row.authorised, row.unwanted), (State::Expired, 0, false));
        let row = after([requested(1), authorised(), expired, requested(2)]);
        assert_eq!((row.state.0, row.transactions.0.len()), (State::Authorising, 2));
    }

    #[test]
    fn what_was_held_is_let_go() {
        let void = Event::VoidRequested {
            order: order_id(),
            op: 1,
            provider_ref: Some("pi_1".parse().unwrap()),
        };
        let done = Event::Voided { order: order_id(), never_authorised: false };
        let row = after([requested(1), authorised(), void, done]);
        assert_eq!((row.authorised, row.state.0), (0, State::Voided));
        assert_eq!(row.transactions.0[1].amount, 300);
    }
}
