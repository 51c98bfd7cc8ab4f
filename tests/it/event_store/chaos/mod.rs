//! Many processes append at random to few streams while everything around them breaks.
//!
//! Goal: no command is lost, doubled, reordered or half-written, and every command that is sent
//! again hears its first answer.
//! Method: a Postgres of the test's own, as durable as in production; processes that write down
//! what they ask and hear (`tests::chaos`), some of them behind a network that cuts, tears,
//! delays and swallows; kills, restarts and freezes as a schedule says that is drawn from the
//! seed. In the end the log and the journals must tell the same story (`evidence`).
//!
//! `WAYBILL_CHAOS_SEED` repeats the commands and the faults of a run, though not the moments at
//! which they meet; `WAYBILL_CHAOS_COMMANDS` makes a run longer.

mod evidence;

use std::io::{Read as _, Seek as _, SeekFrom};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use event_store::Store;
use sqlx::{Connection as _, PgConnection};
use tests::chaos::{Dice, Plan};
use tokio::time::{Instant, interval, sleep};
use waybill::embedded::{Folder, Postgres};

use crate::proxy::{Fault, Proxy};
use crate::services;
use crate::world::until;

/// Processes that append.
const PROCESSES: u32 = 8;
/// Callers of each.
const CALLERS: u32 = 12;
/// Streams that all of them share.
const STREAMS: u32 = 16;
/// Commands of a run, unless `WAYBILL_CHAOS_COMMANDS` says otherwise.
const COMMANDS: u64 = 20_000;
/// The process that is killed again and again.
const VICTIM: u32 = 0;
/// The longest life of a connection through a proxy, in requests.
const REQUESTS_MAX: u64 = 150;
/// What a journal says of a command that was made up.
const TURN: &[u8] = b"\"turn\":[";
/// How long a run may go without a command.
const STANDSTILL_MAX: Duration = Duration::from_mins(2);

/// What is done to the processes and to Postgres.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Trouble {
    /// SIGKILL, and a new one that goes on from the journal.
    Kill(u32),
    /// SIGSTOP for a while.
    Freeze(u32, Duration),
    /// Postgres stops in order, and sessions are ended.
    Fast,
    /// Postgres stops without a checkpoint.
    Immediate,
    /// SIGKILL for the postmaster.
    Crash,
    /// The session of some writer is ended.
    Terminate(u64),
}

/// When what is done: after so many commands were made up.
fn schedule(seed: u64, commands: u64) -> Vec<(u64, Trouble)> {
    let mut dice = Dice::new(&[seed, u64::MAX]);
    let mut all = Vec::new();
    let mut add = |count: u64, dice: &mut Dice, draw: &dyn Fn(&mut Dice) -> Trouble| {
        for _ in 0..count {
            // Not at the very end, when there may be nobody left to be troubled.
            let at = dice.range(commands / 50..commands * 4 / 5);
            all.push((at, draw(dice)));
        }
    };
    let long = commands / COMMANDS;
    let process = |dice: &mut Dice| u32::try_from(dice.range(0..PROCESSES.into())).unwrap_or(0);
    add(8 + 8 * long, &mut dice, &|_| Trouble::Kill(VICTIM));
    add(1 + long, &mut dice, &|dice| Trouble::Kill(process(dice)));
    add(2 + 2 * long, &mut dice, &|dice| {
        Trouble::Freeze(process(dice), Duration::from_millis(dice.range(50..500)))
    });
    add(1 + long, &mut dice, &|_| Trouble::Fast);
    add(1 + long, &mut dice, &|_| Trouble::Immediate);
    add(1 + long / 4, &mut dice, &|_| Trouble::Crash);
    add(6 + 6 * long, &mut dice, &|dice| Trouble::Terminate(dice.throw()));
    all.sort_by_key(|(at, _)| *at);
    all
}

/// A number from the environment.
fn number(name: &str) -> Option<u64> {
    let text = std::env::var(name).ok()?;
    Some(text.parse().unwrap_or_else(|_| panic!("{name} is not a number: {text}")))
}

/// The processes, each with the journal that it writes.
struct Crowd {
    plans: Vec<Plan>,
    children: Vec<Option<Child>>,
    output: PathBuf,
    journals: Vec<(PathBuf, u64)>,
    /// Commands that were made up so far.
    commands: u64,
    kills: u64,
}

impl Crowd {
    fn start(plans: Vec<Plan>, folder: &Path) -> Self {
        let journals = plans.iter().map(|plan| (Plan::journal(folder, plan.process), 0)).collect();
        let mut crowd = Self {
            children: Vec::new(),
            output: folder.join("output"),
            journals,
            commands: 0,
            kills: 0,
            plans,
        };
        crowd.children = crowd.plans.iter().map(|plan| Some(crowd.spawn(plan))).collect();
        crowd
    }

    fn spawn(&self, plan: &Plan) -> Child {
        let output = std::fs::File::options().create(true).append(true).open(&self.output).unwrap();
        Command::new(env!("CARGO_BIN_EXE_chaos-appender"))
            .arg(serde_json::to_string(plan).unwrap())
            .stdin(Stdio::null())
            .stdout(output.try_clone().unwrap())
            .stderr(output)
            .spawn()
            .unwrap()
    }

    /// Looks who has ended and what was written since; whether anybody still works.
    fn look(&mut self) -> bool {
        for (path, offset) in &mut self.journals {
            let Ok(mut file) = std::fs::File::open(path) else { continue };
            let mut new = Vec::new();
            file.seek(SeekFrom::Start(*offset)).unwrap();
            file.read_to_end(&mut new).unwrap();
            // The last line may not be finished.
            new.truncate(new.iter().rposition(|byte| *byte == b'\n').map_or(0, |end| end + 1));
            *offset += new.len() as u64;
            let turns = new.windows(TURN.len()).filter(|bytes| *bytes == TURN);
            self.commands += turns.count() as u64;
        }
        for child in &mut self.children {
            let ended = child.as_mut().and_then(|child| child.try_wait().unwrap());
            if let Some(status) = ended {
                let said = std::fs::read_to_string(&self.output).unwrap_or_default();
                assert!(status.success(), "a process failed, {status}: {said}");
                *child = None;
            }
        }
        self.children.iter().any(Option::is_some)
    }

    /// Kills a process and starts it again; nothing where it has ended.
    fn kill(&mut self, process: u32) {
        let at = process as usize;
        let Some(mut child) = self.children[at].take() else { return };
        child.kill().unwrap();
        let status = child.wait().unwrap();
        // It may have ended by itself in the last moment.
        self.kills += u64::from(!status.success());
        self.children[at] = Some(self.spawn(&self.plans[at]));
    }

    async fn freeze(&self, process: u32, pause: Duration) {
        let Some(child) = &self.children[process as usize] else { return };
        signal("STOP", child.id());
        sleep(pause).await;
        signal("CONT", child.id());
    }
}

impl Drop for Crowd {
    fn drop(&mut self) {
        for child in self.children.iter_mut().flatten() {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

fn signal(name: &str, pid: u32) {
    let sent = Command::new("kill").args(["-s", name, &pid.to_string()]).status().unwrap();
    assert!(sent.success());
}

/// The Postgres of a run, and what was done to it.
struct Server {
    folder: Folder,
    postgres: Postgres,
    url: String,
    restarts: u64,
    /// Sessions that were ended.
    terminated: u64,
}

impl Server {
    async fn start(place: &Path) -> Self {
        let folder = Folder::open(place).unwrap();
        let postgres = Postgres::start(&folder).await.unwrap();
        let url = postgres.database("waybill").await.unwrap();
        Store::migrate(&url).await.unwrap();
        Self { folder, postgres, url, restarts: 0, terminated: 0 }
    }

    /// Sends the postmaster a signal, SIGKILL where none is named, and waits until the server
    /// that follows it answers.
    async fn restart(&mut self, name: Option<&str>) {
        let file = self.folder.path().join("postgres/postmaster.pid");
        let pid = || {
            let text = std::fs::read_to_string(&file).ok()?;
            text.lines().next()?.trim().parse::<u32>().ok()
        };
        let before = until("Postgres to have a process", || async { pid() }).await;
        match name {
            Some(name) => signal(name, before),
            None => self.postgres.kill(),
        }
        until("Postgres to be back", || async {
            let another = pid().is_some_and(|pid| pid != before);
            let connected = another && PgConnection::connect(&self.url).await.is_ok();
            connected.then_some(())
        })
        .await;
        self.restarts += 1;
    }

    /// Ends the session of the writer that was drawn.
    async fn terminate(&mut self, draw: u64) {
        let mut connection = PgConnection::connect(&self.url).await.unwrap();
        let ended = sqlx::query(
            "select pg_terminate_backend(pid) from ( \
                 select pid, row_number() over (order by pid) - 1 as at, count(*) over () as all \
                 from pg_stat_activity \
                 where application_name = 'waybill writer' and datname = current_database()) w \
             where at = $1 % w.all",
        )
        .bind(i64::try_from(draw >> 1).unwrap_or(0))
        .execute(&mut connection)
        .await;
        self.terminated += ended.unwrap().rows_affected();
    }
}

/// Makes trouble when its time has come, until every process has ended.
async fn endure(crowd: &mut Crowd, server: &mut Server, troubles: Vec<(u64, Trouble)>) {
    let mut troubles = troubles.into_iter().peekable();
    let mut tick = interval(Duration::from_millis(10));
    let mut moved = (0, Instant::now());
    while crowd.look() {
        while let Some((_, trouble)) = troubles.next_if(|(at, _)| *at <= crowd.commands) {
            match trouble {
                Trouble::Kill(process) => crowd.kill(process),
                Trouble::Freeze(process, pause) => crowd.freeze(process, pause).await,
                Trouble::Fast => server.restart(Some("INT")).await,
                Trouble::Immediate => server.restart(Some("QUIT")).await,
                Trouble::Crash => server.restart(None).await,
                Trouble::Terminate(draw) => server.terminate(draw).await,
            }
        }
        if crowd.commands > moved.0 {
            moved = (crowd.commands, Instant::now());
        }
        assert!(moved.1.elapsed() < STANDSTILL_MAX, "nothing moves at {} commands", moved.0);
        tick.tick().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn no_command_is_lost_doubled_reordered_or_half_written_whatever_breaks() {
    let seed = number("WAYBILL_CHAOS_SEED")
        .unwrap_or_else(|| schemas::Ids::system().next().as_u64_pair().1 >> 16);
    let commands = number("WAYBILL_CHAOS_COMMANDS").unwrap_or(COMMANDS);
    eprintln!("WAYBILL_CHAOS_SEED={seed} WAYBILL_CHAOS_COMMANDS={commands} repeats this run");
    let started = Instant::now();
    let place = services::folder(&format!("chaos-{seed}"));
    let mut server = Server::start(&place).await;
    let (url, port) = (server.url.clone(), server.postgres.port());
    let mut proxies = Vec::new();
    for number in 0..3 {
        let dice = Dice::new(&[seed, u64::MAX - 1, number]);
        proxies.push(Proxy::start(port, dice, REQUESTS_MAX).await);
    }
    let plan = |process: u32| {
        // The first two reach Postgres directly, the others two by two through a bad network.
        let proxy = process.checked_sub(2).and_then(|process| proxies.get(process as usize / 2));
        Plan {
            database_url: proxy.map_or_else(|| url.clone(), |proxy| proxy.url(&url, port)),
            folder: place.clone(),
            process,
            processes: PROCESSES,
            callers: CALLERS,
            turns: commands.div_ceil((PROCESSES * CALLERS).into()),
            streams: STREAMS,
            seed,
            settle: false,
        }
    };

    let mut crowd = Crowd::start((0..PROCESSES).map(plan).collect(), &place);
    endure(&mut crowd, &mut server, schedule(seed, commands)).await;
    let appended = started.elapsed();
    // Somebody else asks again what nobody has heard the answer to.
    let settle = Plan { process: PROCESSES, settle: true, database_url: url.clone(), ..plan(0) };
    let mut last = Crowd::start(vec![settle], &place);
    until_all_ended(&mut last).await;

    let verified = Command::new(env!("CARGO_BIN_EXE_waybill-under-test"))
        .args(["log", "verify", "--database-url", &url])
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&verified.stdout).into_owned();
    assert!(verified.status.success(), "{said}{}", String::from_utf8_lossy(&verified.stderr));

    let evidence = evidence::gather(&url, &place, PROCESSES + 1, seed).await;
    let (faults, counts) = (evidence.faults(), evidence.counts());
    let network = Fault::ALL
        .map(|fault| (fault, proxies.iter().map(|proxy| proxy.count(fault)).sum::<u64>()));
    let (kills, Server { restarts, terminated, .. }) = (crowd.kills, &server);
    eprintln!(
        "{counts}\n{said}{kills} kills, {restarts} restarts, {terminated} sessions ended, network \
         {network:?}; {appended:.1?} of appending, {:.1?} in all",
        started.elapsed()
    );
    assert!(faults.is_empty(), "seed {seed}: {} faults: {faults:#?}", faults.len());
    // What did not happen was not survived.
    assert!(counts.commands >= commands, "{counts}");
    assert!(kills >= 5 && *restarts >= 3, "{kills} kills, {restarts} restarts");
    assert!(network.iter().all(|(_, count)| *count > 0), "{network:?}");
    counts.assert_varied();
    server.postgres.stop().await;
    drop(server.folder);
    std::fs::remove_dir_all(place).unwrap();
}

async fn until_all_ended(crowd: &mut Crowd) {
    let mut tick = interval(Duration::from_millis(10));
    while crowd.look() {
        tick.tick().await;
    }
}
