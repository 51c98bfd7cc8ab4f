//! The journal of a saga: what it heard, what it asked for, what it waits for.
//!
//! The stream of a saga is its inbox, its outbox and its audit at once. What it hears and the
//! state that follows are its own business, so inputs are kept as plain JSON here.

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use uuid::Uuid;

use crate::{Category, CommandId, SagaId, StreamId, Text, Timestamp};

/// What a person can do about a saga that is parked.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema,
)]
#[serde(rename_all = "kebab-case")]
pub enum Verb {
    /// Send what is open again.
    Retry,
    /// Go on waiting.
    Resume,
    /// Go on without a step.
    Skip,
    /// Say what became of a step.
    SetOutcome,
    /// Begin to undo.
    Compensate,
    /// End it as it stands.
    Abandon,
}

impl Verb {
    /// All of them.
    pub const ALL: [Self; 6] =
        [Self::Retry, Self::Resume, Self::Skip, Self::SetOutcome, Self::Compensate, Self::Abandon];

    /// As it is written in journals, paths and commands.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Retry => "retry",
            Self::Resume => "resume",
            Self::Skip => "skip",
            Self::SetOutcome => "set-outcome",
            Self::Compensate => "compensate",
            Self::Abandon => "abandon",
        }
    }
}

/// Everything that can happen to a saga.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub enum Event {
    /// It began.
    #[serde(rename = "saga.started.v1")]
    Started {
        /// Which saga, as `order-fulfilment`.
        definition: String,
        /// Which version of its table, kept to its end.
        definition_version: u16,
        /// What it is about: the order's id.
        business_key: Uuid,
    },
    /// It heard something and acted on it.
    #[serde(rename = "saga.input_received.v1")]
    InputReceived {
        /// The event it heard, or the id made for a timer.
        source: Uuid,
        /// The saga's own reading of it.
        input: Value,
        /// The time it went by.
        at: Timestamp,
        /// The step that the input answers, where it does.
        #[serde(skip_serializing_if = "Option::is_none")]
        step: Option<String>,
        /// Whether that step did what was asked; none where nobody knows, so that it goes on
        /// waiting. With an answer, the timer named like the step stops.
        #[serde(skip_serializing_if = "Option::is_none")]
        succeeded: Option<bool>,
        /// The state it is in now.
        state: String,
    },
    /// It heard something that can only be understood later.
    #[serde(rename = "saga.input_deferred.v1")]
    InputDeferred {
        /// The event it heard.
        source: Uuid,
        /// The saga's own reading of it.
        input: Value,
    },
    /// It heard something that changes nothing here.
    #[serde(rename = "saga.input_ignored.v1")]
    InputIgnored {
        /// The event it heard.
        source: Uuid,
        /// The saga's own reading of it.
        input: Value,
        /// The state in which it does not matter.
        state: String,
    },
    /// It asked somebody for something.
    #[serde(rename = "saga.command_issued.v1")]
    CommandIssued {
        /// The command's id: the same again where it is only sent again.
        command_id: CommandId,
        /// The step's name.
        step: String,
        /// Counted from 1; grows only after a definite failure.
        attempt: u32,
        /// Counted from 1; grows where nobody answered.
        sending: u32,
        /// Whether the step gives something back.
        compensation: bool,
        /// What is asked, and of whom.
        #[schemars(schema_with = "some_command")]
        command: crate::Command,
    },
    /// It wants to be woken.
    #[serde(rename = "saga.timer_started.v1")]
    TimerStarted {
        /// Which timer.
        name: String,
        /// Which start of that timer: an older one that fires late is ignored.
        epoch: u32,
        /// When.
        due: Timestamp,
    },
    /// It no longer wants to be woken.
    #[serde(rename = "saga.timer_stopped.v1")]
    TimerStopped {
        /// Which timer.
        name: String,
        /// Which start of it.
        epoch: u32,
    },
    /// It turned round: from here on it gives back.
    #[serde(rename = "saga.compensation_started.v1")]
    CompensationStarted {
        /// Why.
        reason: String,
    },
    /// Somebody should know; it goes on by itself.
    #[serde(rename = "saga.alerted.v1")]
    Alerted {
        /// What about.
        reason: String,
        /// The state it is in.
        state: String,
    },
    /// It cannot go on without a person.
    #[serde(rename = "saga.parked.v1")]
    Parked {
        /// Why.
        reason: String,
        /// The state it goes on from.
        resume: String,
    },
    /// A person did something about it.
    #[serde(rename = "saga.operator_acted.v1")]
    OperatorActed {
        /// The id of the act: what follows from it names it as its source.
        act: Uuid,
        /// What was done.
        verb: Verb,
        /// The step that it is about, where it is about one.
        #[serde(skip_serializing_if = "Option::is_none")]
        step: Option<String>,
        /// Whether that step did what was asked, as the person says.
        #[serde(skip_serializing_if = "Option::is_none")]
        succeeded: Option<bool>,
        /// Whether it was to be done although money or goods may still be held.
        forced: bool,
        /// Who.
        actor: Text,
        /// Why.
        reason: Text,
        /// What shows that it is so.
        #[serde(skip_serializing_if = "Option::is_none")]
        evidence: Option<Text>,
        /// The time it went by.
        at: Timestamp,
        /// The state it is in now.
        state: String,
    },
    /// It goes on: it is not parked any more, and every open step has its patience anew.
    #[serde(rename = "saga.resumed.v1")]
    Resumed {
        /// The state it goes on from.
        state: String,
    },
    /// It ended.
    #[serde(rename = "saga.finished.v1")]
    Finished {
        /// How, as `completed`, `cancelled`, `rejected`; `abandoned` where a person ended it.
        outcome: String,
    },
}

/// A command in the journal, whose own schema stands elsewhere: a new command must not make a new
/// version of the event that keeps it.
fn some_command(_: &mut SchemaGenerator) -> Schema {
    json_schema!({
        "type": "object",
        "description": "What is asked, and of whom: `command.name` of `context`, as the schema \
                        of the command `<context>.<name>` says.",
        "properties": {
            "context": { "type": "string" },
            "command": {
                "type": "object",
                "properties": { "name": { "type": "string" } },
                "required": ["name"],
            },
        },
        "required": ["context", "command"],
    })
}

impl crate::Event for Event {
    const CATEGORY: Category = Category::Saga;
}

impl SagaId {
    /// The saga's stream.
    #[must_use]
    pub const fn stream(self) -> StreamId {
        StreamId::new(Category::Saga, self.uuid())
    }
}
