use chrono::DateTime;

use super::*;

const SEED: u64 = 7;

/// A run of three commands: two streams at their versions, one refused, one decided and sent twice.
struct Run {
    evidence: Evidence,
}

fn ask(id: u128, how: How, moves: &[(u32, i64)]) -> Ask {
    Ask { id: Uuid::from_u128(id), how, moves: moves.to_vec(), body: 1 }
}

fn asked(send: u64, turn: Option<u64>, ask: &Ask) -> Line {
    Line::Asked { send, turn: turn.map(|turn| (0, turn)), ask: ask.clone() }
}

fn heard(send: u64, answer: Answer) -> Line {
    Line::Heard { send, answer }
}

fn done(version: i64, position: i64, replayed: bool) -> Answer {
    Answer::Done { version, position, replayed }
}

/// An event of a command that has `of`, of which this is the one with the number `index`.
fn event(at: (i64, u32, i64), of: (u128, u32, usize), by: i64, was: Option<i64>) -> EventRow {
    let ((position, number, version), (command, index, of)) = (at, of);
    let (account, command) = (stream(SEED, number).id, Uuid::from_u128(command));
    let moved = Event::Moved { account, by, was, command, of };
    EventRow {
        position,
        stream_id: account,
        stream_version: version,
        event_id: EventId::derive(command, &index.to_string()).uuid(),
        command_id: command,
        recorded_at: DateTime::UNIX_EPOCH,
        payload: schemas::Event::encode(&moved).unwrap().payload,
    }
}

impl Run {
    fn new() -> Self {
        let execute = |keep_refusal| How::Execute {
            streams: vec![0],
            expected: None,
            keep_refusal,
            create: false,
        };
        let first =
            ask(1, How::Append { expected: vec![(0, 0), (1, 0)] }, &[(0, 5), (1, 6), (0, 1)]);
        let second = ask(2, execute(true), &[(0, -9)]);
        let third = ask(3, execute(false), &[(0, -2)]);
        let refused =
            Answer::Refused { code: "short".to_owned(), detail: String::new(), replayed: false };
        let other = Ask { body: 2, ..first.clone() };
        let journals = vec![
            vec![
                asked(0, Some(0), &first),
                heard(0, done(2, 3, false)),
                asked(1, Some(1), &second),
                heard(1, refused),
                asked(2, Some(2), &third),
                asked(3, None, &other),
                heard(3, Answer::Mismatch),
            ],
            vec![asked(0, None, &third), heard(0, done(3, 4, true))],
        ];
        let command = |id, version, position, refused: Option<&str>| CommandRow {
            command_id: Uuid::from_u128(id),
            request_hash: vec![1; 32],
            stream_id: stream(SEED, 0).id,
            version,
            position,
            refusal_code: refused.map(str::to_owned),
        };
        let stands = |number, version, first_position, last_position| StreamRow {
            stream_id: stream(SEED, number).id,
            category: "order".to_owned(),
            version,
            first_position,
            last_position,
        };
        let evidence = Evidence {
            seed: SEED,
            events: vec![
                event((1, 0, 1), (1, 0, 3), 5, None),
                event((2, 0, 2), (1, 1, 3), 1, None),
                event((3, 1, 1), (1, 2, 3), 6, None),
                event((4, 0, 3), (3, 0, 1), -2, Some(6)),
            ],
            commands: vec![
                command(1, 2, 3, None),
                command(2, 2, 3, Some("short")),
                command(3, 3, 4, None),
            ],
            streams: vec![stands(0, 3, 1, 4), stands(1, 1, 3, 3)],
            journals,
        };
        Self { evidence }
    }
}

#[track_caller]
fn check(expected: &str, change: impl FnOnce(&mut Evidence)) {
    let Run { mut evidence } = Run::new();
    change(&mut evidence);
    let faults = evidence.faults();
    assert!(faults.iter().any(|fault| fault.contains(expected)), "`{expected}`: {faults:#?}");
}

#[test]
fn a_run_without_faults_has_none() {
    let Run { evidence } = Run::new();
    assert_eq!(evidence.faults(), [] as [String; 0]);
    assert_eq!(evidence.counts().commands, 3);
}

#[test]
fn whatever_is_wrong_with_the_log_is_found() {
    check("position 3 stands where 2 should", |run| drop(run.events.remove(1)));
    check("was recorded before", |run| {
        run.events[0].recorded_at += std::time::Duration::from_secs(1);
    });
    check("an event id occurs twice", |run| run.events[1].event_id = run.events[0].event_id);
    check("version 4", |run| run.events[3].stream_version = 4);
    check("`streams` says", |run| run.streams[0].version = 2);
    check("`streams` says", |run| run.streams[1].last_position = 4);
    check("another's id", |run| run.events[0].event_id = Uuid::nil());
    check("is not an event of this run", |run| run.events[0].payload = "{}".to_owned());
    check("was decided on Some(6) when it was 7", |run| {
        run.events[1].payload = run.events[1].payload.replace("\"by\":1", "\"by\":2");
    });
    check("events are not those", |run| {
        run.events[1].payload = run.events[1].payload.replace("\"by\":1", "\"by\":2");
    });
    check("leaves -1", |run| {
        run.events[3].payload = run.events[3].payload.replace("\"by\":-2", "\"by\":-7");
    });
}

#[test]
fn a_command_that_is_lost_doubled_or_half_written_is_found() {
    check("it is lost", |run| drop(run.commands.remove(0)));
    check("in the log and not in the ledger", |run| drop(run.commands.remove(2)));
    check("in the ledger twice", |run| run.commands.push(run.commands[0].clone()));
    check("events are not those", |run| drop(run.events.pop()));
    check("stand between", |run| run.events[2].position = 5);
    check("another position", |run| run.commands[0].position = 2);
    check("another version", |run| run.commands[0].version = 1);
    check("another stream", |run| run.commands[0].stream_id = Uuid::nil());
    check("another request", |run| run.commands[0].request_hash = vec![2; 32]);
    check("nobody has asked", |run| run.commands[0].command_id = Uuid::nil());
    check("it expected (1, 7)", |run| {
        for line in &mut run.journals[0] {
            if let Line::Asked { ask: Ask { how: How::Append { expected }, .. }, .. } = line {
                expected[1].1 = 7;
            }
        }
    });
}

#[test]
fn an_answer_that_does_not_hold_is_found() {
    check("it was answered otherwise", |run| run.journals[1][1] = heard(0, done(3, 5, true)));
    check("refusal was not kept", |run| drop(run.commands.remove(1)));
    check("does not match itself", |run| run.journals[0][1] = heard(0, Answer::Mismatch));
    check("it is invalid", |run| run.journals[0][1] = heard(0, Answer::Invalid(String::new())));
    check("told no", |run| run.journals[0][1] = heard(0, Answer::Contended));
    check("moved on", |run| {
        let stream = stream(SEED, 1).id;
        run.journals[0][1] = heard(0, Answer::Conflict { stream, current: 1 });
    });
    check("another request was answered", |run| run.journals[0][6] = heard(3, done(2, 3, true)));
    check("had been answered before this was asked", |run| {
        // The first command's answer is heard to stand after the third.
        run.journals[0][1] = heard(0, done(2, 4, false));
    });
}
