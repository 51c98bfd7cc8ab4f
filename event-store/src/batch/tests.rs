//! Batches without a database: who goes together, who has lost.

use schemas::{Category, Clock, Encoded};
use tokio::sync::oneshot;

use super::*;
use crate::ticket::Ticket;
use crate::{Append, Write};

fn stream(name: u128) -> StreamId {
    StreamId::new(Category::Order, Uuid::from_u128(name))
}

/// A command that adds an event to each of `writes`.
fn request(id: u128, writes: &[(u128, Version)]) -> Request {
    let event = Encoded { event_type: "order.counted.v1".to_owned(), payload: "1".to_owned() };
    let write = |&(name, expected): &_| Write {
        stream: stream(name),
        expected,
        events: vec![event.clone()],
    };
    let id = Uuid::from_u128(id);
    Request {
        append: Append {
            meta: Meta {
                command_id: CommandId::new(id),
                request_hash: [1; 32],
                correlation_id: id,
                causation_id: id,
                occurred_at: Clock::system().now(),
                actor: "customer".to_owned(),
                traceparent: None,
                expected: None,
                keep_refusal: true,
            },
            writes: writes.iter().map(write).collect(),
            answers: (stream(writes[0].0), writes[0].1),
            refused: None,
        },
        reads: Vec::new(),
        after: Vec::new(),
        ticket: Ticket::new(),
        reply: oneshot::channel().0,
    }
}

fn facts(streams: &[(u128, Version)]) -> Facts {
    let streams = streams.iter().map(|&(name, version)| {
        (Uuid::from_u128(name), (version, (version > 0).then(|| "order".to_owned())))
    });
    Facts { answered: HashMap::new(), streams: streams.collect() }
}

fn included(waiting: &[Request]) -> Vec<usize> {
    Round::compose(waiting, false).included.iter().map(|(index, _)| *index).collect()
}

/// One letter each: ok, replayed, mismatch, refused, invalid, conflict; a dot where open.
fn letters(answers: &Answers) -> String {
    let letter = |answer: &Option<_>| match answer {
        None => '.',
        Some(Ok(Done { replayed: false, .. })) => 'o',
        Some(Ok(Done { replayed: true, .. })) => 'r',
        Some(Err(AppendError::Mismatch)) => 'm',
        Some(Err(AppendError::Refused(_))) => 'f',
        Some(Err(AppendError::Invalid(_))) => 'i',
        Some(Err(AppendError::Conflict { .. })) => 'c',
        Some(Err(_)) => '?',
    };
    answers.iter().map(letter).collect()
}

#[test]
fn a_round_takes_what_fits_on_top_of_each_other() {
    let waiting = [
        request(1, &[(7, 0)]),
        request(2, &[(7, 1), (8, 5)]),
        request(3, &[(7, 1)]),         // 2 was faster.
        request(4, &[(9, 0), (8, 5)]), // So it was here.
        request(5, &[(8, 6), (9, 0)]), // And 4 left no trace.
        request(1, &[(10, 0)]),        // Asked twice.
    ];
    let round = Round::compose(&waiting, false);
    assert_eq!(round.included, [(0, 1), (1, 3), (4, 5)]);
    let uses: Vec<_> = round
        .uses
        .iter()
        .map(|u| (u.stream.id.as_u128(), u.base, u.version, u.first, u.last))
        .collect();
    assert_eq!(uses, [(7, 0, 2, 1, 2), (8, 5, 7, 3, 4), (9, 0, 1, 5, 5)]);

    let answers = round.finish(&waiting, 100);
    assert_eq!(letters(&answers), "ooccor");
    let positions: Vec<_> = answers
        .iter()
        .map(|a| a.as_ref().unwrap().as_ref().map_or(0, |done| done.position))
        .collect();
    assert_eq!(positions, [101, 103, 0, 0, 105, 101]);
}

#[test]
fn what_was_only_read_must_stand_still_too() {
    let mut reader = request(2, &[(8, 0)]);
    reader.reads.push((stream(7), 0));
    let mut late = request(3, &[(9, 0)]);
    late.reads.push((stream(7), 1));
    let waiting = [request(1, &[(7, 0)]), reader, late];
    let round = Round::compose(&waiting, false);
    assert_eq!(letters(&round.finish(&waiting, 0)), "oco");
}

#[test]
fn a_command_waits_for_the_one_it_builds_on() {
    let rival = request(1, &[(7, 5)]);
    let loser = request(2, &[(7, 5)]);
    let mut follower = request(3, &[(7, 6)]); // The loser's 6, not the rival's.
    follower.after.push(loser.ticket.clone());
    let waiting = [rival, loser, follower];
    assert_eq!(included(&waiting), [0]);
    waiting[1].ticket.settle(true);
    assert_eq!(included(&waiting[2..]), [0]);
    waiting[1].ticket.settle(false);
    assert_eq!(included(&waiting[2..]), [0; 0]);
}

#[test]
fn the_facts_settle_whom_they_concern() {
    let waiting = [
        request(1, &[(7, 1)]), // 7 is at 2.
        request(2, &[(8, 0)]),
        request(3, &[(8, 1)]), // On top of the one before.
        request(4, &[(8, 0)]), // Only if 2 fails: open.
        request(5, &[(7, 2)]), // On top of the first, it seems, which failed.
        request(6, &[(9, 0)]), // Nobody has looked.
        request(7, &[(8, 0), (7, 9)]),
    ];
    assert_eq!(letters(&judge(&waiting, &facts(&[(7, 2), (8, 0)]))), "c...c.c");
}

#[test]
fn the_ledger_comes_first() {
    let waiting = [1, 2, 3, 4].map(|id| request(id, &[(7, 0)]));
    let answered = |hash, refused| Answered {
        request_hash: vec![hash; 32],
        version: 3,
        position: 30,
        refused,
    };
    let refused = Refused { code: "no".to_owned(), detail: "no".to_owned() };
    let mut facts = facts(&[(7, 9)]);
    facts.answered.insert(CommandId::new(Uuid::from_u128(1)), answered(1, None));
    facts.answered.insert(CommandId::new(Uuid::from_u128(2)), answered(2, None));
    facts.answered.insert(CommandId::new(Uuid::from_u128(3)), answered(1, Some(refused)));
    let answers = judge(&waiting, &facts);
    assert_eq!(letters(&answers), "rmfc");
    assert!(matches!(answers[0], Some(Ok(Done { version: 3, position: 30, .. }))));
}

#[test]
fn a_stream_of_another_category_is_not_touched() {
    let waiting = [request(1, &[(7, 1)])];
    let mut facts = facts(&[]);
    facts.streams.insert(Uuid::from_u128(7), (1, Some("payment".to_owned())));
    assert_eq!(letters(&judge(&waiting, &facts)), "i");
}

#[test]
fn the_first_can_always_go_alone() {
    let mut orphan = request(1, &[(7, 3)]);
    orphan.after.push(Ticket::new());
    let round = Round::compose(&[orphan, request(2, &[(8, 0)])], true);
    assert_eq!(round.included, [(0, 1)]);
}
