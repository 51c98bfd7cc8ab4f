//! The callers of one process.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Duration;

use anyhow::Context as _;
use event_store::log::{Keeper, LEDGER_DAYS_DEFAULT};
use event_store::{Options, Store, Writer};
use schemas::Version;
use tokio::task::JoinSet;
use tokio::time::sleep;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use super::{Answer, Ask, Dice, How, Journal, Line, Plan, command, journal, stream};

/// How often a command is sent again whose outcome is unknown, at most.
const RESENDS_MAX: u32 = 100;
/// The wait before that, so that a server that is away is not hammered.
const RESEND_DELAY: Duration = Duration::from_millis(50);
/// How long a process waits for Postgres when it starts: tries, one every [`RESEND_DELAY`].
const OPENS_MAX: u32 = 1200;
/// How much of somebody else's journal is looked at, in bytes.
const TAIL_BYTES: u64 = 16 * 1024;
/// Of how many settled commands one is sent again in the end.
const SETTLED_EVERY: usize = 7;
/// The most events of one move.
const EVENTS_MAX: u64 = 4;

/// What the callers of a process share.
struct Shared {
    plan: Plan,
    store: Store,
    journal: Journal,
    /// Where the streams stand, as far as anybody here has heard.
    beliefs: Vec<AtomicI64>,
}

/// Does what the plan says, and returns when it is done.
///
/// # Errors
/// Where Postgres stays away, or a journal cannot be read or written.
pub async fn run(plan: Plan) -> anyhow::Result<()> {
    let path = Plan::journal(&plan.folder, plan.process);
    let before = journal::read(&path, u64::MAX).context("cannot read the journal")?;
    let journal = Journal::open(&path, &before).context("cannot write the journal")?;
    let (store, writer) = open(&plan.database_url).await?;
    let drain = CancellationToken::new();
    let mut writers = JoinSet::new();
    writers.spawn(writer.run(drain.clone()));
    writers.spawn(Keeper::new(store.clone(), LEDGER_DAYS_DEFAULT).run(drain.clone()));

    let beliefs = (0..plan.streams).map(|_| AtomicI64::new(0)).collect();
    let shared = Arc::new(Shared { plan, store, journal, beliefs });
    if shared.plan.settle {
        settle(&shared).await?;
    } else {
        let mut callers = JoinSet::new();
        for caller in 0..shared.plan.callers {
            let (next, open) = left_off(&before, caller);
            callers.spawn(Arc::clone(&shared).call(caller, next, open));
        }
        while let Some(ended) = callers.join_next().await {
            ended.context("a caller panicked")??;
        }
    }
    drain.cancel();
    while let Some(ended) = writers.join_next().await {
        ended.context("the writer panicked")?;
    }
    Ok(())
}

/// Opens the log, as soon as Postgres is there.
async fn open(database_url: &str) -> anyhow::Result<(Store, Writer)> {
    let options = Options {
        database_url: database_url.to_owned(),
        log: "main".to_owned(),
        connections_max: 2,
    };
    let mut tries = 0;
    loop {
        match Store::open(&options, None).await {
            Ok(opened) => return Ok(opened),
            Err(error) if tries == OPENS_MAX => return Err(error).context("Postgres stays away"),
            Err(_) => sleep(RESEND_DELAY).await,
        }
        tries += 1;
    }
}

/// The next turn of a caller whose process was killed, and its last command, where the answer to
/// that one was not heard.
fn left_off(lines: &[Line], caller: u32) -> (u64, Option<Ask>) {
    let (mut next, mut open) = (0, None);
    for line in lines {
        match line {
            Line::Asked { send, turn: Some((by, turn)), ask } if *by == caller => {
                next = turn + 1;
                open = Some((*send, ask));
            }
            Line::Heard { send, .. } => open = open.filter(|(asked, _)| asked != send),
            Line::Asked { .. } => {}
        }
    }
    (next, open.map(|(_, ask)| ask.clone()))
}

impl Shared {
    async fn call(
        self: Arc<Self>,
        caller: u32,
        next: u64,
        open: Option<Ask>,
    ) -> anyhow::Result<()> {
        let Plan { seed, process, turns, .. } = self.plan;
        let numbers = [seed, process.into(), caller.into()];
        if let Some(ask) = open {
            let mut dice = Dice::new(&[seed, process.into(), caller.into(), next, 1]);
            // The rest is left for others to find out.
            if dice.chance(75) {
                self.insist(None, &ask, &mut dice).await?;
            }
        }
        for turn in next..turns {
            let mut dice = Dice::new(&[numbers[0], numbers[1], numbers[2], turn]);
            let ask = self.draw(command(seed, process, caller, turn), &mut dice);
            let answer = if dice.chance(4) {
                let mut other = dice.clone();
                let (answer, again) = tokio::join!(
                    self.insist(Some((caller, turn)), &ask, &mut dice),
                    self.insist(None, &ask, &mut other)
                );
                again?;
                answer?
            } else {
                self.insist(Some((caller, turn)), &ask, &mut dice).await?
            };
            match dice.range(0..100) {
                0..8 => {
                    self.insist(None, &ask, &mut dice).await?;
                }
                8..12 if is_kept(&ask, &answer) => {
                    let moves = ask.moves.iter().map(|(to, by)| (*to, by + 1)).collect();
                    self.insist(None, &Ask { body: 2, moves, ..ask }, &mut dice).await?;
                }
                12..22 => {
                    if let Some(ask) = self.somebody_elses(&mut dice)? {
                        self.insist(None, &ask, &mut dice).await?;
                    }
                }
                _ => {}
            }
        }
        Ok(())
    }

    /// Sends a command, and again while nobody knows what came of it; now and then it is left at
    /// that.
    async fn insist(
        &self,
        mut turn: Option<(u32, u64)>,
        ask: &Ask,
        dice: &mut Dice,
    ) -> anyhow::Result<Answer> {
        let mut tries = 0;
        loop {
            let send = self.journal.asked(turn.take(), ask)?;
            let answer = ask.send(&self.store, self.plan.seed).await;
            self.journal.heard(send, &answer)?;
            self.believe(ask, &answer);
            tries += 1;
            if !answer.is_unknown() || tries > RESENDS_MAX || dice.chance(10) {
                return Ok(answer);
            }
            sleep(RESEND_DELAY).await;
        }
    }

    /// A command that nobody has sent yet.
    fn draw(&self, id: Uuid, dice: &mut Dice) -> Ask {
        let count = if dice.chance(60) { 1 } else { 2 + dice.range(0..3) };
        let streams = dice.several(usize::try_from(count).unwrap_or(1), self.plan.streams);
        let explicit = dice.chance(50);
        let mut moves = Vec::new();
        for (at, stream) in streams.iter().enumerate() {
            let events = if dice.chance(70) { 1 } else { dice.range(1..EVENTS_MAX) };
            for _ in 0..events {
                let amount = i64::try_from(dice.range(1..20)).unwrap_or(1);
                // Whoever decides also takes, more at a time than it gives.
                let takes = !explicit && at == 0 && dice.chance(50);
                moves.push((*stream, if takes { -3 * amount } else { amount }));
            }
        }
        let how = if explicit {
            let expected = streams.iter().map(|stream| (*stream, self.guess(*stream, dice)));
            How::Append { expected: expected.collect() }
        } else {
            if dice.chance(5) {
                moves.clear();
            }
            let expected = dice.chance(10).then(|| self.guess(streams[0], dice));
            let keep_refusal = dice.chance(50);
            How::Execute { streams, expected, keep_refusal, create: dice.chance(5) }
        };
        Ask { id, how, moves, body: 1 }
    }

    /// The version that a stream is believed to have; now and then an old or a future one.
    fn guess(&self, stream: u32, dice: &mut Dice) -> Version {
        let belief = self.beliefs.get(stream as usize);
        let belief = belief.map_or(0, |belief| belief.load(Ordering::Relaxed));
        match dice.range(0..100) {
            0..3 => belief.saturating_sub(1 + Version::from(dice.chance(50))).max(0),
            3..6 => belief + 1 + Version::from(dice.chance(50)),
            _ => belief,
        }
    }

    fn believe(&self, ask: &Ask, answer: &Answer) {
        let learn = |number: u32, version: Version| {
            if let Some(belief) = self.beliefs.get(number as usize) {
                belief.fetch_max(version, Ordering::Relaxed);
            }
        };
        match (answer, &ask.how) {
            (Answer::Done { .. }, How::Append { expected }) => {
                for (number, version) in expected {
                    let events = ask.events().iter().filter(|(to, _)| to == number).count();
                    learn(*number, version + Version::try_from(events).unwrap_or(0));
                }
            }
            (Answer::Done { version, .. }, How::Execute { streams, .. })
            | (Answer::VersionMismatch { current: version }, How::Execute { streams, .. }) => {
                if let Some(first) = streams.first() {
                    learn(*first, *version);
                }
            }
            (Answer::Conflict { stream: moved, current }, _) => {
                let named = ask.streams();
                let number =
                    named.iter().find(|number| stream(self.plan.seed, **number).id == *moved);
                if let Some(number) = number {
                    learn(*number, *current);
                }
            }
            _ => {}
        }
    }

    /// One of the last commands of another process, whatever came of it.
    fn somebody_elses(&self, dice: &mut Dice) -> anyhow::Result<Option<Ask>> {
        let others = (0..self.plan.processes).filter(|process| *process != self.plan.process);
        let others: Vec<PathBuf> =
            others.map(|process| Plan::journal(&self.plan.folder, process)).collect();
        let Some(path) = dice.pick(&others) else { return Ok(None) };
        let lines = journal::read(path, TAIL_BYTES)?;
        let asked = lines.into_iter().filter_map(|line| match line {
            Line::Asked { turn: Some(_), ask, .. } => Some(ask),
            _ => None,
        });
        Ok(dice.pick(&asked.collect::<Vec<_>>()).cloned())
    }
}

/// Whether the ledger keeps the answer, so that another request under the id is noticed.
fn is_kept(ask: &Ask, answer: &Answer) -> bool {
    let refusal_kept = matches!(ask.how, How::Execute { keep_refusal: true, .. });
    match answer {
        Answer::Done { .. } => true,
        Answer::Refused { .. } => refusal_kept,
        _ => false,
    }
}

/// Sends everything again whose outcome nobody has heard, and some of the rest.
async fn settle(shared: &Arc<Shared>) -> anyhow::Result<()> {
    let Plan { folder, processes, seed, callers, .. } = &shared.plan;
    let mut heard: BTreeMap<Uuid, (Ask, bool)> = BTreeMap::new();
    for process in 0..*processes {
        let mut open: BTreeMap<u64, Uuid> = BTreeMap::new();
        for line in journal::read(&Plan::journal(folder, process), u64::MAX)? {
            match line {
                Line::Asked { send, ask, .. } if ask.body == 1 => {
                    open.insert(send, ask.id);
                    heard.entry(ask.id).or_insert((ask, false));
                }
                Line::Heard { send, answer } => {
                    let ask = open.remove(&send).and_then(|id| heard.get_mut(&id));
                    if let Some((_, known)) = ask {
                        *known |= !answer.is_unknown();
                    }
                }
                Line::Asked { .. } => {}
            }
        }
    }
    let again = heard.into_values().enumerate();
    let again = again.filter(|(at, (_, known))| !known || at % SETTLED_EVERY == 0);
    let again = Arc::new(tokio::sync::Mutex::new(again.map(|(_, (ask, _))| ask)));
    let mut tasks = JoinSet::new();
    for caller in 0..*callers {
        let (shared, again) = (Arc::clone(shared), Arc::clone(&again));
        let mut dice = Dice::new(&[*seed, caller.into(), 2]);
        tasks.spawn(async move {
            loop {
                let Some(ask) = again.lock().await.next() else { return anyhow::Ok(()) };
                while shared.insist(None, &ask, &mut dice).await?.is_unknown() {}
            }
        });
    }
    while let Some(ended) = tasks.join_next().await {
        ended.context("a caller panicked")??;
    }
    Ok(())
}
