//! The JetStream side of the relay: the stream, what it holds, and how more gets into it.

use std::collections::VecDeque;
use std::time::Duration;

use async_nats::header::{NATS_EXPECTED_LAST_MESSAGE_ID, NATS_EXPECTED_LAST_SEQUENCE};
use async_nats::jetstream::context::{GetStreamErrorKind, PublishAckFuture, PublishErrorKind};
use async_nats::jetstream::{self, stream};
use async_nats::{HeaderMap, client};
use schemas::Position;
use trace::Span;
use uuid::Uuid;

use crate::feed::wire::{self, Raw};

/// How long the stream keeps a message, in total and at most. History lives in Postgres.
const AGE_MAX: Duration = Duration::from_hours(72);
const BYTES_MAX: i64 = 256 * 1024 * 1024;
const MESSAGES_MAX: i64 = 1_000_000;

/// How long JetStream remembers message ids: longer than any election of a stream leader, over
/// which the relay sends the same message again.
const DUPLICATE_WINDOW: Duration = Duration::from_mins(2);

/// How long to wait for JetStream's word.
const ACK_WAIT_MAX: Duration = Duration::from_secs(5);

/// Why something was not published.
#[derive(Debug, thiserror::Error)]
pub(super) enum PublishError {
    #[error("there is no stream")]
    NoStream,
    #[error("JetStream did not take an event")]
    Refused(#[source] jetstream::context::PublishError),
    #[error("JetStream's word on the last event is not its word on those before")]
    Unclear,
    #[error("JetStream does not answer")]
    JetStream(#[source] async_nats::Error),
}

impl PublishError {
    fn other(error: impl Into<async_nats::Error>) -> Self {
        Self::JetStream(error.into())
    }

    /// Whether the message before was not the one we named, as far as we know.
    pub(super) fn is_wrong_tip(&self) -> bool {
        match self {
            Self::Refused(error) => matches!(
                error.kind(),
                PublishErrorKind::WrongLastSequence | PublishErrorKind::WrongLastMessageId
            ),
            Self::Unclear => true,
            Self::NoStream | Self::JetStream(_) => false,
        }
    }
}

impl From<jetstream::context::PublishError> for PublishError {
    fn from(error: jetstream::context::PublishError) -> Self {
        match error.kind() {
            PublishErrorKind::StreamNotFound => Self::NoStream,
            _ => Self::Refused(error),
        }
    }
}

/// The event that a stream ends with.
pub(super) struct Last {
    pub(super) position: Position,
    pub(super) event_id: Uuid,
}

impl Last {
    fn of(headers: &HeaderMap) -> Option<Self> {
        Some(Self { position: wire::position(headers)?, event_id: wire::event_id(headers)? })
    }
}

/// How far a window got.
pub(super) struct Outcome {
    /// The last event that JetStream confirmed; everything before it was confirmed too.
    pub(super) published: Option<Position>,
    /// Why it got no further.
    pub(super) error: Option<PublishError>,
}

/// Publishes into the stream of one log.
pub(super) struct Publisher {
    nats: async_nats::Client,
    context: jetstream::Context,
    log: String,
    /// The stream's last sequence number, where we know it: then every message names the one
    /// before it, and what follows on a lost message is refused instead of closing the gap. Where
    /// we do not, a message is sent alone, when everything before it is confirmed.
    ///
    /// A number does not say whose message it is, so what is sent behind another also names its id:
    /// else a message of somebody else could take the place of one that is refused.
    tip: Option<u64>,
    /// The same once everything that waits has arrived.
    tip_ahead: Option<u64>,
    /// What waits for JetStream's word, in order.
    waiting: VecDeque<Waiting>,
}

/// An event that was sent.
struct Waiting {
    row: Raw,
    word: Word,
    /// Ends with JetStream's word.
    _span: Span,
}

/// What JetStream is to say of an event.
enum Word {
    /// It says whether it took this one, and with it every one that was sent before.
    Asked(PublishAckFuture),
    /// Nothing: a later one is asked about, which it takes only where it took this one.
    Implied,
    /// It can never take it.
    Never,
}

impl Publisher {
    pub(super) fn new(nats: &async_nats::Client, log: &str) -> Self {
        let context = jetstream::ContextBuilder::new().timeout(ACK_WAIT_MAX).build(nats.clone());
        let (log, waiting) = (log.to_owned(), VecDeque::new());
        Self { nats: nats.clone(), context, log, tip: None, tip_ahead: None, waiting }
    }

    /// Makes or updates the stream. The last event it holds, if it holds one of ours.
    pub(super) async fn open(&mut self) -> Result<Option<Last>, PublishError> {
        let stream = self.ensure().await?;
        let state = &stream.cached_info().state;
        self.waiting.clear();
        self.ends_with(Some(state.last_sequence));
        if state.messages == 0 {
            return Ok(None);
        }
        let last = match stream.get_raw_message(state.last_sequence).await {
            Ok(message) => Last::of(&message.headers),
            Err(error) if error.kind() == stream::RawMessageErrorKind::NoMessageFound => None,
            Err(error) => return Err(PublishError::other(error)),
        };
        if last.is_none() {
            tracing::warn!(log = self.log, "the last message of the stream is not ours");
        }
        Ok(last)
    }

    /// Begins with an empty stream.
    pub(super) async fn renew(&mut self) -> Result<(), PublishError> {
        let name = wire::stream_name(&self.log);
        self.context.delete_stream(name).await.map_err(PublishError::other)?;
        let last_sequence = self.ensure().await?.cached_info().state.last_sequence;
        self.ends_with(Some(last_sequence));
        Ok(())
    }

    /// Notes what the stream ends with, while nothing waits.
    fn ends_with(&mut self, tip: Option<u64>) {
        (self.tip, self.tip_ahead) = (tip, tip);
    }

    /// The stream as we want it, without touching what we have no opinion about.
    async fn ensure(&self) -> Result<stream::Stream, PublishError> {
        let name = wire::stream_name(&self.log);
        let known = match self.context.get_stream(&name).await {
            Ok(known) => Some(known),
            Err(error) if is_missing(&error) => None,
            Err(error) => return Err(PublishError::other(error)),
        };
        let before = known.as_ref().map(|known| known.cached_info().config.clone());
        let wanted = stream::Config {
            name: name.clone(),
            subjects: vec![wire::subjects(&self.log)],
            max_age: AGE_MAX,
            max_bytes: BYTES_MAX,
            max_messages: MESSAGES_MAX,
            duplicate_window: DUPLICATE_WINDOW,
            ..before.clone().unwrap_or_else(|| stream::Config {
                storage: stream::StorageType::File,
                discard: stream::DiscardPolicy::Old,
                ..stream::Config::default()
            })
        };
        match known {
            Some(known) if before.as_ref() == Some(&wanted) => return Ok(known),
            Some(_) => {
                self.context.update_stream(&wanted).await.map_err(PublishError::other)?;
            }
            None => {
                self.context.create_stream(&wanted).await.map_err(PublishError::other)?;
            }
        }
        self.context.get_stream(&name).await.map_err(PublishError::other)
    }

    /// Whether the stream is still there.
    pub(super) async fn stream_exists(&self) -> Result<bool, PublishError> {
        match self.context.get_stream(wire::stream_name(&self.log)).await {
            Ok(_) => Ok(true),
            Err(error) if is_missing(&error) => Ok(false),
            Err(error) => Err(PublishError::other(error)),
        }
    }

    /// Whether nothing waits for JetStream's word.
    pub(super) fn is_idle(&self) -> bool {
        self.waiting.is_empty()
    }

    /// Sends events without waiting in between, and then waits until JetStream has confirmed all
    /// that was sent but the last `open_max`, in order.
    ///
    /// Every event names the one before it, so JetStream's word on the last is its word on all, and
    /// it is asked for no other. Where what the stream ends with is not known, the first go one by
    /// one, until JetStream takes one that it did not have.
    ///
    /// Where the one before was not the one that was named, all that is not confirmed still waits:
    /// see [`Publisher::send_again`].
    pub(super) async fn publish(&mut self, rows: Vec<Raw>, open_max: usize) -> Outcome {
        let mut published = None;
        let result = self.try_publish(rows, open_max, &mut published).await;
        Outcome { published, error: result.err() }
    }

    /// Sends what waits once more: somebody else wrote into the stream, or a message was lost. What
    /// did arrive is known by its id.
    pub(super) async fn send_again(&mut self) -> Outcome {
        let rest = self.waiting.drain(..).map(|waiting| waiting.row).collect();
        self.ends_with(None);
        self.publish(rest, 0).await
    }

    async fn try_publish(
        &mut self,
        rows: Vec<Raw>,
        open_max: usize,
        published: &mut Option<Position>,
    ) -> Result<(), PublishError> {
        let mut rows = rows.into_iter();
        while self.tip_ahead.is_none()
            && let Some(row) = rows.next()
        {
            self.send_all(vec![row]).await?;
            self.confirm(0, published).await?;
        }
        let sent = self.send_all(rows.collect()).await;
        // Where sending broke off, what was sent before that is still confirmed.
        let open_max = if sent.is_ok() { open_max } else { 0 };
        let confirmed = self.confirm(open_max, published).await;
        sent.and(confirmed)
    }

    /// Waits for JetStream's word until so many are left, and notes the last event that it took.
    async fn confirm(
        &mut self,
        open_max: usize,
        published: &mut Option<Position>,
    ) -> Result<(), PublishError> {
        while self.waiting.len() > open_max {
            let asked = self.waiting.iter_mut().enumerate().find_map(|(at, waiting)| {
                matches!(waiting.word, Word::Asked(_))
                    .then(|| (at, std::mem::replace(&mut waiting.word, Word::Implied)))
            });
            let last = match asked {
                Some((at, Word::Asked(ack))) => {
                    let ack = ack.await?;
                    let implied = |waiting: &Waiting| matches!(waiting.word, Word::Implied);
                    if ack.duplicate && self.waiting.iter().take(at).any(implied) {
                        return Err(PublishError::Unclear); // Somebody else sent it, behind whatever.
                    }
                    self.tip = (!ack.duplicate).then_some(ack.sequence);
                    at
                }
                _ if self.waiting.iter().all(|waiting| matches!(waiting.word, Word::Never)) => {
                    self.waiting.len() - 1
                }
                _ => return Err(PublishError::Unclear),
            };
            *published = self.waiting.drain(..=last).next_back().map(|last| last.row.position);
        }
        if self.waiting.is_empty() {
            self.tip_ahead = self.tip;
        }
        Ok(())
    }

    async fn send_all(&mut self, rows: Vec<Raw>) -> Result<(), PublishError> {
        let last = rows.len().saturating_sub(1);
        for (at, row) in rows.into_iter().enumerate() {
            let span = row.span();
            let taken = self.waiting.iter().rfind(|sent| !matches!(sent.word, Word::Never));
            let before = taken.map(|sent| sent.row.message_id(&self.log));
            let word = self.send(&row, before, at == last).await?;
            let taken = u64::from(!matches!(word, Word::Never));
            self.tip_ahead = self.tip_ahead.map(|tip| tip + taken);
            self.waiting.push_back(Waiting { row, word, _span: span });
        }
        Ok(())
    }

    /// Sends one event behind the message `before`, where that was sent just now, and asks for
    /// JetStream's word where it is the `last`.
    async fn send(
        &self,
        row: &Raw,
        before: Option<String>,
        last: bool,
    ) -> Result<Word, PublishError> {
        let mut headers = row.headers(&self.log);
        if let Some(sequence) = self.tip_ahead {
            headers.insert(NATS_EXPECTED_LAST_SEQUENCE, sequence.to_string());
        }
        if let Some(id) = before {
            headers.insert(NATS_EXPECTED_LAST_MESSAGE_ID, id);
        }
        let (subject, payload) = (row.subject(&self.log), row.payload.clone().into());
        if !last {
            return match self.nats.publish_with_headers(subject, headers, payload).await {
                Ok(()) => Ok(Word::Implied),
                Err(error) if error.kind() == client::PublishErrorKind::MaxPayloadExceeded => {
                    Ok(self.too_large(row))
                }
                Err(error) => Err(PublishError::other(error)),
            };
        }
        match self.context.publish_with_headers(subject, headers, payload).await {
            Ok(ack) => Ok(Word::Asked(ack)),
            Err(error) if error.kind() == PublishErrorKind::MaxPayloadExceeded => {
                Ok(self.too_large(row))
            }
            Err(error) => Err(error.into()),
        }
    }

    fn too_large(&self, row: &Raw) -> Word {
        let position = row.position;
        tracing::warn!(log = self.log, position, "too large for NATS: not published");
        Word::Never
    }
}

fn is_missing(error: &jetstream::context::GetStreamError) -> bool {
    matches!(error.kind(), GetStreamErrorKind::JetStream(error)
        if error.error_code() == jetstream::ErrorCode::STREAM_NOT_FOUND)
}
