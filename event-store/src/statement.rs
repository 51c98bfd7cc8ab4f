//! The statements that write, their arguments and their answers.

use std::collections::HashMap;

use schemas::{CommandId, EventId, Position, Timestamp, Version};
use sqlx::{FromRow, PgConnection};
use uuid::Uuid;

use crate::batch::{Answered, Facts, Round};
use crate::json::Json;
use crate::request::Request;
use crate::slice::slice;
use crate::{Append, Refused};

/// What `log_append` answers.
#[derive(Debug, FromRow)]
struct Answer {
    written: bool,
    head: Position,
    found_ids: Option<Vec<Uuid>>,
    found_hashes: Option<Vec<Vec<u8>>>,
    found_versions: Option<Vec<Version>>,
    found_positions: Option<Vec<Position>>,
    found_codes: Option<Vec<Option<String>>>,
    found_details: Option<Vec<Option<String>>>,
    current_versions: Option<Vec<Version>>,
    current_names: Option<Vec<Option<String>>>,
}

/// What came of a round.
#[derive(Debug)]
pub(crate) enum Outcome {
    /// It is in the log, after `head`.
    Written {
        /// The last position before it.
        head: Position,
    },
    /// Nothing was written.
    Stale(Facts),
}

#[derive(Default)]
struct Commands<'a> {
    ids: Vec<Uuid>,
    hashes: Vec<&'a [u8]>,
    streams: Vec<Uuid>,
    versions: Vec<Version>,
    lasts: Vec<Position>,
    codes: Vec<Option<&'a str>>,
    details: Vec<Option<&'a str>>,
}

#[derive(Default)]
struct Events<'a> {
    streams: Vec<Uuid>,
    versions: Vec<Version>,
    ids: Vec<Uuid>,
    commands: Vec<Uuid>,
    correlations: Vec<Uuid>,
    causations: Vec<Uuid>,
    times: Vec<Timestamp>,
    slices: Vec<i16>,
    categories: Vec<&'a str>,
    types: Vec<&'a str>,
    actors: Vec<&'a str>,
    traces: Vec<Option<&'a str>>,
    payloads: Vec<Json<&'a str>>,
}

impl<'a> Commands<'a> {
    fn push(&mut self, request: &'a Request, last: Position) {
        let append = &request.append;
        self.ids.push(append.meta.command_id.uuid());
        self.hashes.push(&append.meta.request_hash);
        self.streams.push(append.answers.0.id);
        self.versions.push(request.answer());
        self.lasts.push(last);
        self.codes.push(append.refused.as_ref().map(|refused| refused.code.as_str()));
        self.details.push(append.refused.as_ref().map(|refused| refused.detail.as_str()));
    }
}

impl<'a> Events<'a> {
    fn push(&mut self, request: &'a Request) {
        let meta = &request.append.meta;
        let command = meta.command_id.uuid();
        let mut index = 0_u32;
        for write in &request.append.writes {
            let slice = slice(write.stream.id);
            for (version, event) in (write.expected + 1..).zip(&write.events) {
                self.streams.push(write.stream.id);
                self.versions.push(version);
                self.ids.push(EventId::derive(command, &index.to_string()).uuid());
                self.commands.push(command);
                self.correlations.push(meta.correlation_id);
                self.causations.push(meta.causation_id);
                self.times.push(meta.occurred_at);
                self.slices.push(slice);
                self.categories.push(write.stream.category.as_str());
                self.types.push(&event.event_type);
                self.actors.push(&meta.actor);
                self.traces.push(meta.traceparent.as_deref());
                self.payloads.push(Json(&event.payload));
                index += 1;
            }
        }
    }
}

/// Where the log ended when a session looked last.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Tip {
    pub(crate) position: Position,
    recorded_at: Timestamp,
}

/// Writes the one event of the only command, where that is all there is to do: in less time than a
/// round takes. `tip` is what this very connection has seen; gives what it sees now. None where there
/// is more to do, or where the log does not stand as it expects; then nothing was written.
///
/// # Errors
/// As [`append`].
pub(crate) async fn append_one(
    connection: &mut PgConnection,
    hint: Position,
    tip: Option<Tip>,
    waiting: &[Request],
) -> Result<Option<Tip>, sqlx::Error> {
    let [Request { append: Append { meta, writes, answers, refused: None }, reads, .. }] = waiting
    else {
        return Ok(None);
    };
    let [write] = writes.as_slice() else { return Ok(None) };
    let [event] = write.events.as_slice() else { return Ok(None) };
    if !reads.is_empty() || answers.0 != write.stream {
        return Ok(None);
    }
    let command = meta.command_id.uuid();
    let written: Vec<Option<Vec<i64>>> = sqlx::query_scalar(
        "select log_append_one($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16)",
    )
    .bind(tip.map_or(hint, |tip| tip.position))
    .bind(tip.map(|tip| tip.recorded_at))
    .bind(command)
    .bind(&meta.request_hash[..])
    .bind(write.stream.id)
    .bind(write.stream.category.as_str())
    .bind(write.expected)
    .bind(EventId::derive(command, "0").uuid())
    .bind(meta.correlation_id)
    .bind(meta.causation_id)
    .bind(meta.occurred_at)
    .bind(slice(write.stream.id))
    .bind(&event.event_type)
    .bind(&meta.actor)
    .bind(meta.traceparent.as_deref())
    .bind(Json(&event.payload))
    .fetch_all(connection)
    .await?;
    Ok(written.into_iter().flatten().next().and_then(|written| match *written {
        [position, at_ms] => {
            Some(Tip { position, recorded_at: Timestamp::from_timestamp_millis(at_ms)? })
        }
        _ => None,
    }))
}

/// Writes a round. `hint` is a position that the log surely has.
///
/// # Errors
/// What Postgres says; then nothing was written, or, if the connection broke, nobody knows.
pub(crate) async fn append(
    connection: &mut PgConnection,
    hint: Position,
    waiting: &[Request],
    round: &Round,
) -> Result<Outcome, sqlx::Error> {
    let known: Vec<Uuid> =
        waiting.iter().map(|request| request.append.meta.command_id.uuid()).collect();
    let mut commands = Commands::default();
    let mut events = Events::default();
    for &(index, last) in &round.included {
        commands.push(&waiting[index], last);
        events.push(&waiting[index]);
    }
    let uses = &round.uses;
    let stream_ids: Vec<Uuid> = uses.iter().map(|used| used.stream.id).collect();
    let answers: Vec<Answer> = sqlx::query_as(
        "select * from log_append($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, \
         $16, $17, $18, $19, $20, $21, $22, $23, $24, $25, $26, $27, $28)",
    )
    .bind(hint)
    .bind(known)
    .bind(&stream_ids)
    .bind(uses.iter().map(|used| used.stream.category.as_str()).collect::<Vec<_>>())
    .bind(uses.iter().map(|used| used.base).collect::<Vec<_>>())
    .bind(uses.iter().map(|used| used.version).collect::<Vec<_>>())
    .bind(uses.iter().map(|used| used.first).collect::<Vec<_>>())
    .bind(uses.iter().map(|used| used.last).collect::<Vec<_>>())
    .bind(commands.ids)
    .bind(commands.hashes)
    .bind(commands.streams)
    .bind(commands.versions)
    .bind(commands.lasts)
    .bind(commands.codes)
    .bind(commands.details)
    .bind(events.streams)
    .bind(events.versions)
    .bind(events.ids)
    .bind(events.commands)
    .bind(events.correlations)
    .bind(events.causations)
    .bind(events.times)
    .bind(events.slices)
    .bind(events.categories)
    .bind(events.types)
    .bind(events.actors)
    .bind(events.traces)
    .bind(events.payloads)
    // Not `fetch_one`, which is content with the row: what counts is that the commit came through.
    .fetch_all(connection)
    .await?;
    let answer = answers.into_iter().next().ok_or(sqlx::Error::RowNotFound)?;
    Ok(if answer.written {
        Outcome::Written { head: answer.head }
    } else {
        Outcome::Stale(answer.facts(&stream_ids))
    })
}

impl Answer {
    fn facts(self, stream_ids: &[Uuid]) -> Facts {
        let refusals = self.found_codes.unwrap_or_default().into_iter();
        let refusals = refusals.zip(self.found_details.unwrap_or_default());
        let found = self.found_ids.unwrap_or_default().into_iter();
        let found = found.zip(self.found_hashes.unwrap_or_default());
        let found = found.zip(self.found_versions.unwrap_or_default());
        let found = found.zip(self.found_positions.unwrap_or_default()).zip(refusals);
        let answered = found.map(|((((id, request_hash), version), position), (code, detail))| {
            let refused = code.map(|code| Refused { code, detail: detail.unwrap_or_default() });
            (CommandId::new(id), Answered { request_hash, version, position, refused })
        });
        let current = self.current_versions.unwrap_or_default().into_iter();
        let current = current.zip(self.current_names.unwrap_or_default());
        Facts {
            answered: answered.collect::<HashMap<_, _>>(),
            streams: stream_ids.iter().copied().zip(current).collect(),
        }
    }
}
