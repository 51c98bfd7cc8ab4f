//! What is asked of the log, and what it answers.

use schemas::{CommandId, Encoded, Position, StreamId, Timestamp, Version};
use uuid::Uuid;

/// Who asks, why, and under which id.
#[derive(Debug, Clone)]
pub struct Meta {
    /// The same id is the same request: it is answered as it was the first time.
    pub command_id: CommandId,
    /// SHA-256 of what is asked, so that another request under the same id is noticed.
    pub request_hash: [u8; 32],
    /// The whole conversation: for everything about an order, the order's id.
    pub correlation_id: Uuid,
    /// The event or command that led to this one; the command's own id where nothing did.
    pub causation_id: Uuid,
    /// When it happened, as far as the caller knows.
    pub occurred_at: Timestamp,
    /// Who asks, as `customer`, `saga`, `payment-adapter`.
    pub actor: String,
    /// W3C trace context of the request.
    pub traceparent: Option<String>,
    /// The version that the first stream must have (`If-Match`), where the caller minds.
    pub expected: Option<Version>,
    /// Whether a refusal is kept in the ledger and heard again by a retry (callers over HTTP),
    /// or decided anew (our own components, which may be asked to try again after a fix).
    pub keep_refusal: bool,
}

impl Meta {
    /// The beginning of a conversation: nothing led to it, any version will do, and a refusal is
    /// decided anew by a retry.
    #[must_use]
    pub fn new(
        command_id: CommandId,
        request_hash: [u8; 32],
        occurred_at: Timestamp,
        actor: &str,
    ) -> Self {
        Self {
            command_id,
            request_hash,
            correlation_id: command_id.uuid(),
            causation_id: command_id.uuid(),
            occurred_at,
            actor: actor.to_owned(),
            traceparent: None,
            expected: None,
            keep_refusal: false,
        }
    }
}

/// The events of one stream.
#[derive(Debug, Clone)]
pub struct Write {
    /// Whose.
    pub stream: StreamId,
    /// The version that the stream has now.
    pub expected: Version,
    /// What happened; not empty.
    pub events: Vec<Encoded>,
}

/// One command's answer, to be written whole or not at all.
#[derive(Debug, Clone)]
pub struct Append {
    /// Whose answer.
    pub meta: Meta,
    /// The streams it touches, the one that answers first. Empty where nothing happened.
    pub writes: Vec<Write>,
    /// The stream that answers, and its version, where nothing happened.
    pub answers: (StreamId, Version),
    /// The refusal to keep, where a rule said no.
    pub refused: Option<Refused>,
}

/// A rule said no.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refused {
    /// Stable name of the rule.
    pub code: String,
    /// For people.
    pub detail: String,
}

/// A command was carried out, now or before.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Done {
    /// The version of the command's first stream after it.
    pub version: Version,
    /// The position of its last event; where it changed nothing, the head of the log then.
    pub position: Position,
    /// Whether this was answered before.
    pub replayed: bool,
}
