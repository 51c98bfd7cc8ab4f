//! What the streams of a run hold: accounts that are never overdrawn.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use schemas::{Category, Decider, StreamId};
use serde::{Deserialize, Serialize};
use uuid::Uuid;

/// What some accounts hold.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Accounts(BTreeMap<Uuid, i64>);

/// Moves amounts, all of them or none.
#[derive(Debug, Clone)]
pub struct Order {
    /// The command that this is.
    pub command: Uuid,
    /// Accounts and what each is given, in this order; 0 changes nothing.
    pub moves: Vec<(Uuid, i64)>,
}

/// What happened to an account.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Event {
    /// It was given, or something was taken from it.
    #[serde(rename = "order.moved.v1")]
    Moved {
        /// Which.
        account: Uuid,
        /// How much; negative where something was taken.
        by: i64,
        /// What it held before, as far as whoever decided knew; none where nobody decided.
        was: Option<i64>,
        /// By which command.
        command: Uuid,
        /// How many events that command has.
        of: usize,
    },
}

/// An account holds less than it should give.
#[derive(Debug, thiserror::Error)]
#[error("only {0} left")]
pub struct Short(i64);

impl schemas::Event for Event {
    const CATEGORY: Category = Category::Order;
}

impl schemas::Refusal for Short {
    fn code(&self) -> &'static str {
        "short"
    }
}

impl Decider for Accounts {
    const NAME: &'static str = "accounts";
    type Command = Order;
    type Event = Event;
    type Refusal = Short;

    fn decide(&self, order: &Order) -> Result<Vec<Event>, Short> {
        let mut held = self.0.clone();
        let moves = order.moves.iter().filter(|(_, by)| *by != 0);
        let of = moves.clone().count();
        let mut events = Vec::new();
        for &(account, by) in moves {
            let balance = held.entry(account).or_default();
            let was = *balance;
            *balance += by;
            if *balance < 0 {
                return Err(Short(was));
            }
            let command = order.command;
            events.push(Event::Moved { account, by, was: Some(was), command, of });
        }
        Ok(events)
    }

    fn evolve(mut self, Event::Moved { account, by, .. }: &Event) -> Self {
        *self.0.entry(*account).or_default() += by;
        self
    }

    fn stream_of(Event::Moved { account, .. }: &Event) -> Option<StreamId> {
        Some(StreamId::new(Category::Order, *account))
    }

    fn join(mut self, other: Self) -> Self {
        self.0.extend(other.0);
        self
    }
}
