//! A command as it is asked, and what it is answered.

use event_store::{Append, AppendError, Done, ExecuteError, Meta, Store, Write};
use schemas::{Clock, CommandId, Encoded, Event as _, Position, Version};
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::{Accounts, Event, Order, stream};

/// A command. Streams are told by their number.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ask {
    /// The same id is the same command.
    pub id: Uuid,
    /// How it is written.
    pub how: How,
    /// What each stream is given, in this order.
    pub moves: Vec<(u32, i64)>,
    /// 1, and something else for another request under the same id.
    pub body: u8,
}

/// How a command is written.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum How {
    /// As it is, where the streams are at these versions.
    Append {
        /// Each stream once.
        expected: Vec<(u32, Version)>,
    },
    /// As its decider says.
    Execute {
        /// Each stream once.
        streams: Vec<u32>,
        /// The version that the first must have.
        expected: Option<Version>,
        /// Whether a refusal is kept.
        keep_refusal: bool,
        /// Whether the caller believes that the streams do not exist.
        create: bool,
    },
}

/// What a command is answered.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Answer {
    /// It is in the log.
    Done {
        /// Of its first stream.
        version: Version,
        /// Of its last event.
        position: Position,
        /// Whether it had been answered before.
        replayed: bool,
    },
    /// A stream is elsewhere.
    Conflict {
        /// Which.
        stream: Uuid,
        /// Where.
        current: Version,
    },
    /// The caller's version of the first stream does not hold.
    VersionMismatch {
        /// Where it is.
        current: Version,
    },
    /// The decider said no.
    Refused {
        /// Which rule.
        code: String,
        /// In which words.
        detail: String,
        /// Whether it had been answered before.
        replayed: bool,
    },
    /// There is another request under this id.
    Mismatch,
    /// Others were faster, too often.
    Contended,
    /// It was not even queued.
    Overloaded,
    /// It can never be written.
    Invalid(String),
    /// Nobody knows whether it is in the log.
    Unknown(String),
}

impl Ask {
    /// The streams that it touches, in the order in which their events are written.
    #[must_use]
    pub fn streams(&self) -> Vec<u32> {
        match &self.how {
            How::Append { expected } => expected.iter().map(|(stream, _)| *stream).collect(),
            How::Execute { streams, .. } => streams.clone(),
        }
    }

    /// The events that it makes, in the order in which they are written.
    #[must_use]
    pub fn events(&self) -> Vec<(u32, i64)> {
        let streams = self.streams();
        let of = |stream: u32| {
            self.moves.iter().filter(move |(to, by)| *to == stream && *by != 0).copied()
        };
        streams.into_iter().flat_map(of).collect()
    }

    /// Sends it and waits for the answer.
    pub async fn send(&self, store: &Store, seed: u64) -> Answer {
        match &self.how {
            How::Append { expected } => match self.append(expected, seed) {
                Ok(append) => store.append(append).await.map_or_else(Answer::from, Answer::from),
                Err(error) => Answer::Invalid(error.to_string()),
            },
            How::Execute { streams, expected, keep_refusal, create } => {
                let meta = Meta { expected: *expected, keep_refusal: *keep_refusal, ..self.meta() };
                let streams: Vec<_> = streams.iter().map(|number| stream(seed, *number)).collect();
                let moves = self.moves.iter();
                let moves = moves.map(|(to, by)| (stream(seed, *to).id, *by)).collect();
                let order = Order { command: self.id, moves };
                let done = if *create {
                    store.create::<Accounts>(&streams, &order, &meta).await
                } else {
                    store.execute::<Accounts>(&streams, &order, &meta).await
                };
                done.map_or_else(Answer::from, Answer::from)
            }
        }
    }

    fn meta(&self) -> Meta {
        Meta {
            command_id: CommandId::new(self.id),
            request_hash: [self.body; 32],
            correlation_id: self.id,
            causation_id: self.id,
            occurred_at: Clock::system().now(),
            actor: "chaos".to_owned(),
            traceparent: None,
            expected: None,
            keep_refusal: true,
        }
    }

    fn append(&self, expected: &[(u32, Version)], seed: u64) -> Result<Append, serde_json::Error> {
        let of = self.events().len();
        let encode = |(to, by): (u32, i64)| {
            let (account, command) = (stream(seed, to).id, self.id);
            Event::Moved { account, by, was: None, command, of }.encode()
        };
        let mut writes = Vec::new();
        for &(number, expected) in expected {
            let events = self.events().into_iter().filter(|(to, _)| *to == number).map(encode);
            let events = events.collect::<Result<Vec<Encoded>, _>>()?;
            if !events.is_empty() {
                writes.push(Write { stream: stream(seed, number), expected, events });
            }
        }
        let answers = expected.first().copied().unwrap_or_default();
        let answers = (stream(seed, answers.0), answers.1);
        Ok(Append { meta: self.meta(), writes, answers, refused: None })
    }
}

impl Answer {
    /// Whether the command may be sent again to find out.
    #[must_use]
    pub fn is_unknown(&self) -> bool {
        matches!(self, Self::Unknown(_))
    }
}

impl From<Done> for Answer {
    fn from(Done { version, position, replayed }: Done) -> Self {
        Self::Done { version, position, replayed }
    }
}

impl From<AppendError> for Answer {
    fn from(error: AppendError) -> Self {
        match error {
            AppendError::Conflict { stream, current } => {
                Self::Conflict { stream: stream.id, current }
            }
            AppendError::Mismatch => Self::Mismatch,
            AppendError::Refused(refused) => {
                Self::Refused { code: refused.code, detail: refused.detail, replayed: true }
            }
            AppendError::Invalid(why) => Self::Invalid(why),
            AppendError::Overloaded => Self::Overloaded,
            AppendError::Unavailable(error) => Self::Unknown(error.to_string()),
        }
    }
}

impl From<ExecuteError> for Answer {
    fn from(error: ExecuteError) -> Self {
        match error {
            ExecuteError::Refused { refused, replayed } => {
                Self::Refused { code: refused.code, detail: refused.detail, replayed }
            }
            ExecuteError::VersionMismatch { current } => Self::VersionMismatch { current },
            ExecuteError::Contended => Self::Contended,
            ExecuteError::Append(error) => error.into(),
            ExecuteError::Store(error) => Self::Unknown(error.to_string()),
        }
    }
}
