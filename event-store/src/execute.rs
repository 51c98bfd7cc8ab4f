//! Load, decide, append; on a lost race, again.

use std::time::Duration;

use metrics::counter;
use schemas::{Decider, Encoded, Event as _, Refusal as _, StreamId};
use tokio::time::sleep;
use trace::{Kind, Span};

use crate::batch::replay;
use crate::cache::Known;
use crate::metrics::REPLAYED;
use crate::ticket::Fate;
use crate::{Append, AppendError, Done, Error, ExecuteError, Meta, Refused, Store, Write};

/// How often a command is decided before its caller is told to come back.
const ATTEMPTS_MAX: u32 = 16;
/// The longest wait before another attempt, in milliseconds.
const DELAY_MS_MAX: u64 = 50;

/// Where the states come from that a command is decided on.
#[derive(Clone, Copy, PartialEq)]
enum Source {
    /// The first stream should not exist, so nobody looks; the others as for [`Source::Memory`].
    New,
    /// Whatever is remembered, be it stale or still on its way: the log will tell.
    Memory,
    /// The log, and what others in this process have put on top of it since.
    Latest,
    /// The log, so that the answer stands without an append.
    Log,
}

/// What became of an attempt.
enum Attempt {
    Done(Done),
    /// Somebody was faster.
    Lost,
    /// What is remembered is not good enough for this answer.
    Look,
}

impl Store {
    /// Carries out a command: loads its streams, asks `decide` what happens next, and appends
    /// the answer. A command answered before is not decided again. If another writer gets
    /// there first, all three steps are repeated, a bounded number of times.
    ///
    /// `streams` are those the command touches, the one that answers first.
    ///
    /// # Errors
    /// See [`ExecuteError`].
    pub async fn execute<D: Decider>(
        &self,
        streams: &[StreamId],
        command: &D::Command,
        meta: &Meta,
    ) -> Result<Done, ExecuteError> {
        self.traced::<D>(Source::Memory, streams, command, meta).await
    }

    /// The same where the first stream should not exist yet: decides without looking for it, and
    /// loads it only when it turns out otherwise.
    ///
    /// # Errors
    /// See [`ExecuteError`].
    pub async fn create<D: Decider>(
        &self,
        streams: &[StreamId],
        command: &D::Command,
        meta: &Meta,
    ) -> Result<Done, ExecuteError> {
        self.traced::<D>(Source::New, streams, command, meta).await
    }

    /// Measures it, and has the events name the span that they came from.
    async fn traced<D: Decider>(
        &self,
        source: Source,
        streams: &[StreamId],
        command: &D::Command,
        meta: &Meta,
    ) -> Result<Done, ExecuteError> {
        let name = || format!("execute {}", D::NAME);
        let mut span = Span::child(Kind::Internal, name, meta.traceparent.as_deref());
        let traced = span
            .traceparent()
            .map(|traceparent| Box::new(Meta { traceparent: Some(traceparent), ..meta.clone() }));
        let meta = traced.as_deref().unwrap_or(meta);
        let done = self.repeat::<D>(source, streams, command, meta).await;
        if let Ok(Done { replayed: true, .. }) | Err(ExecuteError::Refused { replayed: true, .. }) =
            done
        {
            counter!(REPLAYED).increment(1);
        }
        if span.is_on() {
            span.set("waybill.command_id", meta.command_id.to_string());
            match &done {
                Ok(done) => span.set("waybill.position", done.position),
                Err(ExecuteError::Refused { refused, .. }) => {
                    span.set("waybill.refused", refused.code.clone());
                }
                Err(error) => span.failed(|| error.to_string()),
            }
        }
        done
    }

    async fn repeat<D: Decider>(
        &self,
        mut source: Source,
        streams: &[StreamId],
        command: &D::Command,
        meta: &Meta,
    ) -> Result<Done, ExecuteError> {
        for attempt in 0..ATTEMPTS_MAX {
            let known = self.know::<D>(source, streams).await?;
            source = match self.attempt(source, streams, known, command, meta).await? {
                Attempt::Done(done) => return Ok(done),
                Attempt::Look => Source::Log,
                Attempt::Lost => {
                    if attempt > 0 {
                        sleep(delay(attempt, meta)).await;
                    }
                    Source::Latest
                }
            };
        }
        Err(ExecuteError::Contended)
    }

    /// The states to decide on.
    async fn know<D: Decider>(
        &self,
        source: Source,
        streams: &[StreamId],
    ) -> Result<Vec<Known<D>>, Error> {
        let latest = |stream: &StreamId| self.cache().latest::<D>(*stream);
        let mut known: Vec<Option<Known<D>>> = match source {
            Source::New | Source::Memory => streams.iter().map(latest).collect(),
            Source::Latest | Source::Log => streams.iter().map(|_| None).collect(),
        };
        if source == Source::New
            && let Some(first) = known.first_mut()
        {
            first.get_or_insert_default();
        }
        let missing = streams.iter().zip(&known).filter(|(_, known)| known.is_none());
        let missing: Vec<StreamId> = missing.map(|(stream, _)| *stream).collect();
        if !missing.is_empty() {
            let mut folded = self.fold(&missing).await?.into_iter();
            for (stream, known) in streams.iter().zip(&mut known) {
                if known.is_none() {
                    *known = folded.next();
                }
                // While we looked, others may have decided on top of it: follow them.
                if source != Source::Log
                    && let Some(later) = latest(stream)
                    && known.as_ref().is_none_or(|known| known.version < later.version)
                {
                    *known = Some(later);
                }
            }
        }
        Ok(known.into_iter().flatten().collect())
    }

    async fn attempt<D: Decider>(
        &self,
        source: Source,
        streams: &[StreamId],
        known: Vec<Known<D>>,
        command: &D::Command,
        meta: &Meta,
    ) -> Result<Attempt, ExecuteError> {
        let Some(version) = known.first().map(|known| known.version) else {
            return Err(invalid("a command that touches no stream".to_owned()));
        };
        if meta.expected.is_some_and(|expected| expected != version) {
            if source != Source::Log {
                return Ok(Attempt::Look);
            }
            let mismatch = ExecuteError::VersionMismatch { current: version };
            return self.replayed_or(meta, mismatch).await;
        }
        let joined;
        let state = match known.as_slice() {
            [only] => &*only.state,
            several => {
                let states = several.iter().map(|known| D::clone(&known.state));
                joined = states.reduce(D::join).unwrap_or_default();
                &joined
            }
        };
        let (events, refused) = match state.decide(command) {
            Ok(events) => (events, None),
            Err(refusal) => {
                let refused =
                    Refused { code: refusal.code().to_owned(), detail: refusal.to_string() };
                (Vec::new(), Some(refused))
            }
        };
        match refused {
            Some(_) if !meta.keep_refusal && source != Source::Log => Ok(Attempt::Look),
            Some(refused) if !meta.keep_refusal => {
                let refused = ExecuteError::Refused { refused, replayed: false };
                self.replayed_or(meta, refused).await
            }
            refused => self.write(streams, known, events, refused, meta).await,
        }
    }

    /// Appends what was decided, and lets the next command build on it at once.
    async fn write<D: Decider>(
        &self,
        streams: &[StreamId],
        mut known: Vec<Known<D>>,
        events: Vec<D::Event>,
        refused: Option<Refused>,
        meta: &Meta,
    ) -> Result<Attempt, ExecuteError> {
        let versions: Vec<_> = known.iter().map(|known| known.version).collect();
        let mut encoded: Vec<Vec<Encoded>> = streams.iter().map(|_| Vec::new()).collect();
        for event in &events {
            let stream = D::stream_of(event).unwrap_or(streams[0]);
            let at = streams.iter().position(|named| *named == stream).ok_or_else(|| {
                invalid(format!(
                    "the command names no stream {stream}, and something happened to it"
                ))
            })?;
            let event_encoded = event.encode().map_err(|error| invalid(error.to_string()))?;
            encoded[at].push(event_encoded);
            known[at].evolve(event);
        }
        let (mut writes, mut reads) = (Vec::new(), Vec::new());
        for ((stream, expected), events) in streams.iter().zip(&versions).zip(encoded) {
            let (stream, expected) = (*stream, *expected);
            if events.is_empty() {
                reads.push((stream, expected));
            } else {
                writes.push(Write { stream, expected, events });
            }
        }
        let after = known.iter().filter_map(|known| known.made_by.clone()).collect();
        let answers = (streams[0], versions[0]);
        let append = Append { meta: meta.clone(), writes, answers, refused: refused.clone() };
        let (ticket, answer) = self.submit(append, reads, after).map_err(ExecuteError::Append)?;
        let changed = streams.iter().zip(known).zip(versions);
        let changed = changed.filter(|((_, known), before)| known.version > *before);
        let changed: Vec<_> = changed.map(|((stream, known), b)| (*stream, known, b)).collect();
        for (stream, known, _) in &changed {
            let pending = Known { made_by: Some(ticket.clone()), ..known.clone() };
            self.cache().put(*stream, pending);
        }
        let answer = answer.await;
        if ticket.fate() == Fate::Written {
            let position = answer.as_ref().map_or(0, |done| done.position);
            for (stream, known, before) in changed {
                self.snapshots().offer_if_due(stream, before, &known, position);
                self.cache().put(stream, Known { made_by: None, ..known });
            }
        }
        match (answer, refused) {
            // One that cannot be kept, as about a stream of another category, is the answer all the same.
            (Ok(Done { replayed: false, .. }) | Err(AppendError::Invalid(_)), Some(refused)) => {
                Err(ExecuteError::Refused { refused, replayed: false })
            }
            (Ok(done), _) => Ok(Attempt::Done(done)),
            (Err(AppendError::Refused(refused)), _) => {
                Err(ExecuteError::Refused { refused, replayed: true })
            }
            (Err(AppendError::Conflict { .. }), _) => Ok(Attempt::Lost),
            (Err(error), _) => Err(ExecuteError::Append(error)),
        }
    }

    /// The answer that was given before, or `otherwise`.
    async fn replayed_or(
        &self,
        meta: &Meta,
        otherwise: ExecuteError,
    ) -> Result<Attempt, ExecuteError> {
        let Some(answered) = self.answered(meta.command_id).await? else {
            return Err(otherwise);
        };
        match replay(meta, &answered) {
            Ok(done) => Ok(Attempt::Done(done)),
            Err(AppendError::Refused(refused)) => {
                Err(ExecuteError::Refused { refused, replayed: true })
            }
            Err(error) => Err(ExecuteError::Append(error)),
        }
    }
}

fn invalid(why: String) -> ExecuteError {
    ExecuteError::Append(AppendError::Invalid(why))
}

/// How long to wait after losing attempt `attempt`, counted from 0 (the second comes at once): up to a
/// ceiling that starts at 1 ms and doubles. The command's id spreads those who lost together.
fn delay(attempt: u32, meta: &Meta) -> Duration {
    let ceiling_ms = (1_u64 << attempt.min(10)).min(DELAY_MS_MAX);
    let (high, low) = meta.command_id.uuid().as_u64_pair();
    let jitter = (high ^ low).rotate_left(attempt * 7);
    Duration::from_micros(jitter % (ceiling_ms * 1000))
}
