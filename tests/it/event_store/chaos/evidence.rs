//! What the log says and what the processes say, and where the two do not agree.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::path::Path;

use ::tests::chaos::{Answer, Ask, Event, How, Line, Plan, read, stream};
use schemas::{EventId, Timestamp};
use sqlx::{FromRow, PgPool};
use uuid::Uuid;

/// How many faults are told; one that repeats itself needs no list.
const TOLD_MAX: usize = 50;

#[derive(Debug, Clone, FromRow)]
struct EventRow {
    position: i64,
    stream_id: Uuid,
    stream_version: i64,
    event_id: Uuid,
    command_id: Uuid,
    recorded_at: Timestamp,
    payload: String,
}

#[derive(Debug, Clone, FromRow)]
struct CommandRow {
    command_id: Uuid,
    request_hash: Vec<u8>,
    stream_id: Uuid,
    version: i64,
    position: i64,
    refusal_code: Option<String>,
}

#[derive(Debug, Clone, FromRow)]
struct StreamRow {
    stream_id: Uuid,
    category: String,
    version: i64,
    first_position: i64,
    last_position: i64,
}

/// Everything there is to know about a run.
#[derive(Debug, Clone)]
pub(super) struct Evidence {
    seed: u64,
    /// By position.
    events: Vec<EventRow>,
    commands: Vec<CommandRow>,
    streams: Vec<StreamRow>,
    journals: Vec<Vec<Line>>,
}

/// What was asked under one id, and every answer that was heard.
#[derive(Debug)]
struct Story<'a> {
    ask: &'a Ask,
    /// What the same request was answered; nothing where that was not heard.
    answers: Vec<Option<&'a Answer>>,
    /// What another request under the id was answered.
    others: Vec<Option<&'a Answer>>,
    /// A position that somebody had heard of before the command was sent for the first time.
    after: i64,
}

/// How often what happened.
#[derive(Debug, Default)]
pub(super) struct Counts {
    pub(super) commands: u64,
    sends: u64,
    events: usize,
    done: u64,
    replayed: u64,
    conflicts: u64,
    refused: u64,
    mismatches: u64,
    unknown: u64,
    unheard: u64,
    several_streams: u64,
    found_done: u64,
    found_absent: u64,
}

impl fmt::Display for Counts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{} commands sent {} times, {} events: {} done ({} on several streams), {} replayed, \
             {} conflicts, {} refused, {} mismatches, {} unknown, {} not heard; of commands never \
             answered before the end {} were there and {} were not",
            self.commands,
            self.sends,
            self.events,
            self.done,
            self.several_streams,
            self.replayed,
            self.conflicts,
            self.refused,
            self.mismatches,
            self.unknown,
            self.unheard,
            self.found_done,
            self.found_absent,
        )
    }
}

impl Counts {
    /// Fails where something that should be survived did not happen.
    pub(super) fn assert_varied(&self) {
        let enough = self.commands / 200;
        for count in [self.done, self.several_streams, self.replayed, self.conflicts, self.refused]
        {
            assert!(count > enough, "{self}");
        }
        assert!(self.mismatches > 0 && self.unheard > 0 && self.found_done > 0, "{self}");
    }
}

/// Reads the log as a superuser, and every journal.
pub(super) async fn gather(url: &str, folder: &Path, processes: u32, seed: u64) -> Evidence {
    let pool = PgPool::connect(url).await.unwrap();
    let events = sqlx::query_as(
        "select position, stream_id, stream_version, event_id, command_id, recorded_at, \
         payload::text as payload from events order by position",
    );
    let commands = sqlx::query_as(
        "select command_id, request_hash, stream_id, version, position, refusal_code from commands",
    );
    let streams = sqlx::query_as(
        "select stream_id, category, version, first_position, last_position from streams",
    );
    let journals = (0..processes).map(|process| read(&Plan::journal(folder, process), u64::MAX));
    let evidence = Evidence {
        seed,
        events: events.fetch_all(&pool).await.unwrap(),
        commands: commands.fetch_all(&pool).await.unwrap(),
        streams: streams.fetch_all(&pool).await.unwrap(),
        journals: journals.map(Result::unwrap).collect(),
    };
    pool.close().await;
    evidence
}

impl Evidence {
    /// Everything that is not as it should be; nothing where all is well.
    pub(super) fn faults(&self) -> Vec<String> {
        let stories = self.stories();
        let mut faults = Vec::new();
        self.check_positions(&mut faults);
        self.check_streams(&mut faults);
        self.check_balances(&mut faults);
        self.check_commands(&stories, &mut faults);
        self.check_answers(&stories, &mut faults);
        faults.truncate(TOLD_MAX);
        faults
    }

    fn stories(&self) -> BTreeMap<Uuid, Story<'_>> {
        let mut stories: BTreeMap<Uuid, Story<'_>> = BTreeMap::new();
        // Whose command it is comes first, whoever else has sent it.
        let mut first = BTreeMap::new();
        for line in self.journals.iter().flatten() {
            if let Line::Asked { turn: Some(_), ask, .. } = line {
                first.insert(ask.id, ask);
            }
        }
        for journal in &self.journals {
            let heard: BTreeMap<u64, &Answer> = journal
                .iter()
                .filter_map(|line| match line {
                    Line::Heard { send, answer } => Some((*send, answer)),
                    Line::Asked { .. } => None,
                })
                .collect();
            let mut known = 0;
            for line in journal {
                match line {
                    Line::Asked { send, turn, ask } => {
                        let own = first.get(&ask.id).copied().unwrap_or(ask);
                        let story = stories.entry(ask.id).or_insert_with(|| Story {
                            ask: own,
                            answers: Vec::new(),
                            others: Vec::new(),
                            after: 0,
                        });
                        let answer = heard.get(send).copied();
                        if ask.body == 1 {
                            story.answers.push(answer);
                        } else {
                            story.others.push(answer);
                        }
                        if turn.is_some() {
                            story.after = known;
                        }
                    }
                    Line::Heard { answer: Answer::Done { position, .. }, .. } => {
                        known = known.max(*position);
                    }
                    Line::Heard { .. } => {}
                }
            }
        }
        stories
    }

    /// Positions are 1, 2, 3 …, and time does not run backwards along them.
    fn check_positions(&self, faults: &mut Vec<String>) {
        for (row, expected) in self.events.iter().zip(1..) {
            if row.position != expected {
                faults.push(format!("position {} stands where {expected} should", row.position));
                return;
            }
        }
        for pair in self.events.windows(2) {
            if pair[0].recorded_at > pair[1].recorded_at {
                faults.push(format!("{} was recorded before its predecessor", pair[1].position));
            }
        }
        let ids: BTreeSet<Uuid> = self.events.iter().map(|row| row.event_id).collect();
        if ids.len() != self.events.len() {
            faults.push("an event id occurs twice".to_owned());
        }
    }

    /// Versions of each stream are 1, 2, 3 …, and `streams` says the same.
    fn check_streams(&self, faults: &mut Vec<String>) {
        let mut found: BTreeMap<Uuid, (i64, i64, i64)> = BTreeMap::new();
        for row in &self.events {
            let entry = found.entry(row.stream_id).or_insert((0, row.position, 0));
            if row.stream_version != entry.0 + 1 {
                let (at, id) = (row.stream_version, row.stream_id);
                faults.push(format!("version {at} of {id} follows {}", entry.0));
            }
            *entry = (row.stream_version, entry.1, row.position);
        }
        let said: BTreeMap<Uuid, (i64, i64, i64)> = self
            .streams
            .iter()
            .map(|row| (row.stream_id, (row.version, row.first_position, row.last_position)))
            .collect();
        if said != found {
            faults.push(format!("`streams` says {said:?}, and the events say {found:?}"));
        }
        if self.streams.iter().any(|row| row.category != "order") {
            faults.push("a stream changed its category".to_owned());
        }
    }

    /// Whoever decided knew what the account held, and no account was overdrawn.
    fn check_balances(&self, faults: &mut Vec<String>) {
        let mut held: BTreeMap<Uuid, i64> = BTreeMap::new();
        for row in &self.events {
            let position = row.position;
            let Some(Event::Moved { account, by, was, command, of }) = event(row) else {
                faults.push(format!("{position} is not an event of this run: {}", row.payload));
                continue;
            };
            let balance = held.entry(account).or_default();
            if was.is_some_and(|was| was != *balance) {
                faults.push(format!("{position} was decided on {was:?} when it was {balance}"));
            }
            *balance += by;
            if *balance < 0 || account != row.stream_id || command != row.command_id || of == 0 {
                faults.push(format!("{position} leaves {balance}: {row:?}"));
            }
        }
    }

    /// Every command in the log is there once, whole, as it was asked, and in the ledger.
    fn check_commands(&self, stories: &BTreeMap<Uuid, Story<'_>>, faults: &mut Vec<String>) {
        let mut ledger: BTreeMap<Uuid, &CommandRow> = BTreeMap::new();
        for row in &self.commands {
            if ledger.insert(row.command_id, row).is_some() {
                faults.push(format!("{} is in the ledger twice", row.command_id));
            }
        }
        let mut written: BTreeMap<Uuid, Vec<&EventRow>> = BTreeMap::new();
        for row in &self.events {
            written.entry(row.command_id).or_default().push(row);
        }
        for id in written.keys().filter(|id| !ledger.contains_key(id)) {
            faults.push(format!("{id} is in the log and not in the ledger"));
        }
        for (id, row) in &ledger {
            let Some(story) = stories.get(id) else {
                faults.push(format!("nobody has asked {id}"));
                continue;
            };
            let rows = written.get(id).map_or(&[][..], Vec::as_slice);
            if let Some(fault) = self.misfit(story, row, rows) {
                faults.push(format!("{id}: {fault}; {story:?}; {row:?}; {rows:?}"));
            }
        }
    }

    /// What is wrong with a command that is in the ledger.
    fn misfit(&self, story: &Story<'_>, row: &CommandRow, rows: &[&EventRow]) -> Option<String> {
        let asked = match &row.refusal_code {
            Some(_) => Vec::new(),
            None => story.ask.events(),
        };
        let expected = asked.iter().map(|(to, by)| (stream(self.seed, *to).id, *by));
        let found = rows.iter().filter_map(|row| {
            let Event::Moved { account, by, .. } = event(row)?;
            Some((account, by))
        });
        if !expected.eq(found) || asked.len() != rows.len() {
            return Some("its events are not those that were asked for".to_owned());
        }
        if rows.windows(2).any(|pair| pair[0].position + 1 != pair[1].position) {
            return Some("somebody else's events stand between its own".to_owned());
        }
        for (row, index) in rows.iter().zip(0_u32..) {
            if row.event_id != EventId::derive(row.command_id, &index.to_string()).uuid() {
                return Some(format!("event {index} has another's id"));
            }
        }
        if row.request_hash != [1; 32] {
            return Some("the ledger keeps another request".to_owned());
        }
        let first = story.ask.streams().first().map(|first| stream(self.seed, *first).id);
        if first != Some(row.stream_id) {
            return Some("the ledger names another stream".to_owned());
        }
        let last = rows.iter().rfind(|event| event.stream_id == row.stream_id);
        if last.is_some_and(|last| last.stream_version != row.version) {
            return Some("the ledger names another version".to_owned());
        }
        if rows.last().is_some_and(|last| last.position != row.position) {
            return Some("the ledger names another position".to_owned());
        }
        let begins = rows.first().map_or(row.position + 1, |first| first.position);
        if begins <= story.after {
            let after = story.after;
            return Some(format!("{after} had been answered before this was asked"));
        }
        if let How::Append { expected } = &story.ask.how {
            let wrong = expected.iter().find(|(to, version)| {
                let to = stream(self.seed, *to).id;
                let first = rows.iter().find(|row| row.stream_id == to);
                first.is_some_and(|first| first.stream_version != version + 1)
            });
            return wrong.map(|wrong| format!("it expected {wrong:?}"));
        }
        None
    }

    /// Every answer is what the log and the ledger say.
    fn check_answers(&self, stories: &BTreeMap<Uuid, Story<'_>>, faults: &mut Vec<String>) {
        let ledger: BTreeMap<Uuid, &CommandRow> =
            self.commands.iter().map(|row| (row.command_id, row)).collect();
        for (id, story) in stories {
            let row = ledger.get(id).copied();
            for answer in story.answers.iter().flatten() {
                if let Some(fault) = contradiction(self.seed, story.ask, answer, row) {
                    faults.push(format!("{id}: {fault}; {story:?}; {row:?}"));
                }
            }
            for answer in story.others.iter().flatten() {
                if !matches!(answer, Answer::Mismatch | Answer::Unknown(_) | Answer::Contended) {
                    faults.push(format!("{id}: another request was answered {answer:?}"));
                }
            }
            let told_no = |answer: Option<&Answer>| {
                !matches!(
                    answer,
                    None | Some(Answer::Unknown(_) | Answer::Done { .. } | Answer::Refused { .. })
                )
            };
            if row.is_some() && story.answers.iter().copied().all(told_no) {
                faults.push(format!("{id} is there although everybody was told no; {story:?}"));
            }
            // Another request is only made under an id whose answer is kept.
            if row.is_none() && !story.others.is_empty() {
                faults.push(format!("{id} was answered for ever, and is gone; {story:?}"));
            }
        }
    }

    /// How often what happened.
    pub(super) fn counts(&self) -> Counts {
        let mut counts = Counts { events: self.events.len(), ..Counts::default() };
        let ledger: BTreeSet<Uuid> = self.commands.iter().map(|row| row.command_id).collect();
        let settled = self.journals.len() - 1;
        let heard_before_the_end: BTreeSet<Uuid> = self.journals[..settled]
            .iter()
            .flat_map(|journal| {
                let asked: BTreeMap<u64, Uuid> = journal
                    .iter()
                    .filter_map(|line| match line {
                        Line::Asked { send, ask, .. } => Some((*send, ask.id)),
                        Line::Heard { .. } => None,
                    })
                    .collect();
                journal.iter().filter_map(move |line| match line {
                    Line::Heard { send, answer } if !answer.is_unknown() => {
                        asked.get(send).copied()
                    }
                    _ => None,
                })
            })
            .collect();
        for (id, story) in self.stories() {
            counts.commands += 1;
            if !heard_before_the_end.contains(&id) {
                let there = u64::from(ledger.contains(&id));
                counts.found_done += there;
                counts.found_absent += 1 - there;
            }
            let sends = story.answers.iter().chain(&story.others);
            for answer in sends {
                counts.sends += 1;
                match answer {
                    Some(Answer::Done { replayed: false, .. }) => {
                        counts.done += 1;
                        counts.several_streams += u64::from(story.ask.streams().len() > 1);
                    }
                    Some(Answer::Done { .. } | Answer::Refused { replayed: true, .. }) => {
                        counts.replayed += 1;
                    }
                    Some(
                        Answer::Conflict { .. }
                        | Answer::VersionMismatch { .. }
                        | Answer::Contended,
                    ) => {
                        counts.conflicts += 1;
                    }
                    Some(Answer::Refused { .. }) => counts.refused += 1,
                    Some(Answer::Mismatch) => counts.mismatches += 1,
                    Some(Answer::Unknown(_)) => counts.unknown += 1,
                    Some(Answer::Invalid(_) | Answer::Overloaded) => {}
                    None => counts.unheard += 1,
                }
            }
        }
        counts
    }
}

fn event(row: &EventRow) -> Option<Event> {
    <Event as schemas::Event>::decode("order.moved.v1", &row.payload).ok()
}

/// What is wrong with an answer, given what the ledger says about the command.
fn contradiction(
    seed: u64,
    ask: &Ask,
    answer: &Answer,
    row: Option<&CommandRow>,
) -> Option<&'static str> {
    match (answer, row) {
        (Answer::Done { .. }, None) => Some("it is lost"),
        (Answer::Done { version, position, .. }, Some(row)) => {
            let same =
                row.refusal_code.is_none() && (row.version, row.position) == (*version, *position);
            (!same).then_some("it was answered otherwise")
        }
        (Answer::Refused { code, .. }, row) => {
            let kept = matches!(ask.how, How::Execute { keep_refusal: true, .. });
            let same = row.is_some_and(|row| row.refusal_code.as_ref() == Some(code));
            (kept && !same).then_some("its refusal was not kept")
        }
        (Answer::Conflict { stream: moved, current }, Some(_)) => {
            let How::Append { expected } = &ask.how else { return None };
            let of = expected.iter().find(|(to, _)| stream(seed, *to).id == *moved);
            // No stream goes back to the version that it had left.
            let over = of.is_some_and(|(_, version)| current > version);
            over.then_some("it was written although a stream had moved on")
        }
        (Answer::Mismatch, _) => Some("it does not match itself"),
        (Answer::Invalid(_), _) => Some("it is invalid"),
        _ => None,
    }
}

#[cfg(test)]
mod tests;
