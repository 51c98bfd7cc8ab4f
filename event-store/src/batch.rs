//! Sorts out a batch: who can be written together, and who has lost. Pure.
//!
//! A batch is written in rounds. [`Round::compose`] takes every command that fits on top of those
//! before it; if the log stands as they expect, all of them are written at once and
//! [`Round::finish`] answers. If not, nothing was written, the log says how it stands, and [`judge`]
//! answers those for whom that settles it. Whoever was not answered goes into the next round.
//! Usually there is one round, and two where somebody lost a race.

use std::collections::{HashMap, HashSet};

use schemas::{CommandId, Position, StreamId, Version};
use uuid::Uuid;

use crate::request::Request;
use crate::ticket::Fate;
use crate::{AppendError, Done, Meta, Refused};

/// What a command is answered; none where the next round has to tell.
pub(crate) type Answers = Vec<Option<Result<Done, AppendError>>>;

/// A stream as a round finds and leaves it.
#[derive(Debug)]
pub(crate) struct Use {
    pub(crate) stream: StreamId,
    pub(crate) base: Version,
    pub(crate) version: Version,
    /// Where in the round its first and last new events stand, counted from 1.
    pub(crate) first: Position,
    pub(crate) last: Position,
}

/// The commands that can be written together.
#[derive(Debug, Default)]
pub(crate) struct Round {
    /// Indexes into the waiting commands, and how many events the round has up to and including each.
    pub(crate) included: Vec<(usize, Position)>,
    pub(crate) uses: Vec<Use>,
    by_id: HashMap<Uuid, usize>,
    tickets: HashSet<usize>,
}

impl Round {
    /// Takes every command that fits on top of those before it, or the first one alone.
    pub(crate) fn compose(waiting: &[Request], alone: bool) -> Self {
        let mut round = Self::default();
        let mut ids = HashSet::new();
        let mut events = 0;
        for (index, request) in waiting.iter().enumerate() {
            let fits = alone || (round.fits(request) && ids.insert(request.append.meta.command_id));
            if !fits {
                continue;
            }
            for (stream, version) in &request.reads {
                round.touch(*stream, *version);
            }
            for write in &request.append.writes {
                let at = round.touch(write.stream, write.expected);
                let used = &mut round.uses[at];
                if used.first == 0 {
                    used.first = events + 1;
                }
                events += write.end() - write.expected;
                used.version = write.end();
                used.last = events;
            }
            round.included.push((index, events));
            round.tickets.insert(request.ticket.id());
            if alone {
                break;
            }
        }
        round
    }

    fn fits(&self, request: &Request) -> bool {
        let stands = request.bases().all(|(stream, expected)| match self.by_id.get(&stream.id) {
            Some(&at) => self.uses[at].stream == stream && self.uses[at].version == expected,
            None => true,
        });
        stands
            && request.after.iter().all(|ticket| match ticket.fate() {
                Fate::Written => true,
                Fate::Pending => self.tickets.contains(&ticket.id()),
                Fate::Failed => false,
            })
    }

    fn touch(&mut self, stream: StreamId, version: Version) -> usize {
        *self.by_id.entry(stream.id).or_insert_with(|| {
            self.uses.push(Use { stream, base: version, version, first: 0, last: 0 });
            self.uses.len() - 1
        })
    }

    /// Answers after the round was written on top of `head`: those in it are done; those left out
    /// because of them have lost, or asked the same thing.
    pub(crate) fn finish(&self, waiting: &[Request], head: Position) -> Answers {
        let mut answers: Answers = waiting.iter().map(|_| None).collect();
        let mut done = HashMap::new();
        for &(index, events) in &self.included {
            let request = &waiting[index];
            let position = head + events;
            done.insert(request.append.meta.command_id, (index, position));
            answers[index] =
                Some(Ok(Done { version: request.answer(), position, replayed: false }));
        }
        for (request, answer) in waiting.iter().zip(&mut answers).filter(|(_, a)| a.is_none()) {
            let meta = &request.append.meta;
            *answer = match done.get(&meta.command_id) {
                Some(&(first, position)) => {
                    let first = &waiting[first];
                    Some(replay(
                        meta,
                        &Answered {
                            request_hash: first.append.meta.request_hash.to_vec(),
                            version: first.answer(),
                            position,
                            refused: first.append.refused.clone(),
                        },
                    ))
                }
                None => request.bases().find_map(|(stream, expected)| {
                    let used = &self.uses[*self.by_id.get(&stream.id)?];
                    let lost = used.stream == stream && used.version != expected;
                    lost.then_some(Err(AppendError::Conflict { stream, current: used.version }))
                }),
            };
        }
        answers
    }
}

/// What the ledger says about a command.
#[derive(Debug)]
pub(crate) struct Answered {
    pub(crate) request_hash: Vec<u8>,
    pub(crate) version: Version,
    pub(crate) position: Position,
    pub(crate) refused: Option<Refused>,
}

/// How the log stands, where a round could not be written.
#[derive(Debug, Default)]
pub(crate) struct Facts {
    pub(crate) answered: HashMap<CommandId, Answered>,
    /// Version and category by stream; version 0 where there is none.
    pub(crate) streams: HashMap<Uuid, (Version, Option<String>)>,
}

/// The answer that was given before.
pub(crate) fn replay(meta: &Meta, answered: &Answered) -> Result<Done, AppendError> {
    if answered.request_hash != meta.request_hash {
        return Err(AppendError::Mismatch);
    }
    match &answered.refused {
        Some(refused) => Err(AppendError::Refused(refused.clone())),
        None => Ok(Done { version: answered.version, position: answered.position, replayed: true }),
    }
}

/// Answers those for whom the facts settle it: asked before, or expecting what is not so, or
/// building on somebody who has just lost.
pub(crate) fn judge(waiting: &[Request], facts: &Facts) -> Answers {
    let mut projected: HashMap<Uuid, Version> = HashMap::new();
    let mut never: HashSet<(StreamId, Version)> = HashSet::new();
    let mut answers = Vec::with_capacity(waiting.len());
    for request in waiting {
        let answer = match facts.answered.get(&request.append.meta.command_id) {
            Some(answered) => Some(replay(&request.append.meta, answered)),
            None => loses(request, facts, &projected, &never).map(Err),
        };
        if answer.is_some() {
            never.extend(request.ends());
        } else {
            projected.extend(request.ends().map(|(stream, end)| (stream.id, end)));
        }
        answers.push(answer);
    }
    answers
}

fn loses(
    request: &Request,
    facts: &Facts,
    projected: &HashMap<Uuid, Version>,
    never: &HashSet<(StreamId, Version)>,
) -> Option<AppendError> {
    request.bases().find_map(|(stream, expected)| {
        let (current, category) = facts.streams.get(&stream.id)?;
        let current = *current;
        match category {
            Some(category) if category != stream.category.as_str() => {
                Some(AppendError::Invalid(format!("{stream} belongs to category {category}")))
            }
            _ if never.contains(&(stream, expected)) => {
                Some(AppendError::Conflict { stream, current })
            }
            _ if expected == current || projected.get(&stream.id) == Some(&expected) => None,
            _ => Some(AppendError::Conflict { stream, current }),
        }
    })
}

#[cfg(test)]
mod tests;
