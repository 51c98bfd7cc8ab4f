//! Every role as processes of its own, each of which can be killed and frozen.

use std::net::TcpListener;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};

use event_store::MasterKey;
use schemas::Chance;
use serde_json::json;
use tests::chaos::Dice;

use crate::delivery::consumers::Scribe;
use crate::delivery::{Log, Process};
use crate::services;
use crate::world::{key, until};

pub(super) const PAYMENT_KEY: &str = "sk_test_storm";

/// Which roles run, some of them twice or more.
const ROLES: [&str; 11] = [
    "command-api",
    "query-api",
    "relay",
    "relay",
    "projections",
    "projections",
    "projections",
    "sagas",
    "sagas",
    "adapters",
    "sandbox",
];

/// Processes that run a counting consumer inside the test: they are stopped as SIGKILL would.
const SCRIBES: usize = 2;

/// Ports that no passing connection takes.
const PORTS: std::ops::Range<u64> = 20_000..31_000;

/// The processes.
pub(super) struct Fleet {
    roles: Vec<Child>,
    scribes: Vec<Option<Process>>,
    environment: Vec<(&'static str, String)>,
    folder: PathBuf,
    ports: [u16; 4],
    pub(super) kills: u64,
    pub(super) freezes: u64,
}

impl Fleet {
    pub(super) async fn start(log: &Log, nats_url: &str, seed: u64) -> Self {
        let folder = services::folder(&format!("storm-{seed}-fleet"));
        let migrated = Command::new(env!("CARGO_BIN_EXE_waybill-under-test"))
            .args(["migrate", "--database-url", &log.url])
            .output()
            .unwrap();
        assert!(migrated.status.success(), "{}", String::from_utf8_lossy(&migrated.stderr));
        let ports = free_ports(seed);
        let [command, query, payment, carrier] = ports.map(|port| format!("127.0.0.1:{port}"));
        let master = MasterKey::generate(Chance::system()).to_string();
        let environment = vec![
            ("DATABASE_URL", services::serving(&log.url).await),
            ("NATS_URL", nats_url.to_owned()),
            ("WAYBILL_LOG", log.name.clone()),
            ("WAYBILL_DATABASE_CONNECTIONS", "8".to_owned()),
            ("WAYBILL_MASTER_KEY", master),
            ("WAYBILL_COMMAND_ADDR", command.clone()),
            ("WAYBILL_QUERY_ADDR", query),
            ("WAYBILL_SANDBOX_PAYMENT_ADDR", payment.clone()),
            ("WAYBILL_SANDBOX_CARRIER_ADDR", carrier.clone()),
            ("WAYBILL_SANDBOX_DATA_DIR", folder.join("sandbox").to_str().unwrap().to_owned()),
            ("WAYBILL_COMMAND_URL", format!("http://{command}")),
            ("WAYBILL_PAYMENT_URL", format!("http://{payment}")),
            ("WAYBILL_CARRIER_URL", format!("http://{carrier}")),
            ("WAYBILL_PAYMENT_SECRET_KEY", PAYMENT_KEY.to_owned()),
            ("WAYBILL_CARRIER_SECRET_KEY", "sk_carrier_storm".to_owned()),
            ("WAYBILL_PAYMENT_WEBHOOK_SECRET", "whsec_payment_storm".to_owned()),
            ("WAYBILL_CARRIER_WEBHOOK_SECRET", "whsec_carrier_storm".to_owned()),
            ("WAYBILL_DRIFT_ROWS_PER_SECOND", "20".to_owned()),
            ("WAYBILL_JWKS", crate::tokens::issuer(7).key_set()),
            ("WAYBILL_RATE_LIMITS", "none".to_owned()),
        ];
        std::fs::create_dir_all(folder.join("sandbox")).unwrap();
        let mut fleet = Self {
            roles: Vec::new(),
            scribes: Vec::new(),
            environment,
            folder,
            ports,
            kills: 0,
            freezes: 0,
        };
        fleet.roles = (0..ROLES.len()).map(|at| fleet.spawn(at)).collect();
        for _ in 0..SCRIBES {
            fleet.scribes.push(Some(scribe(log).await));
        }
        fleet
    }

    /// How many there are to make trouble for.
    pub(super) const fn size() -> usize {
        ROLES.len() + SCRIBES
    }

    pub(super) fn command_url(&self) -> String {
        format!("http://127.0.0.1:{}", self.ports[0])
    }

    pub(super) fn payment_url(&self) -> String {
        format!("http://127.0.0.1:{}", self.ports[2])
    }

    fn spawn(&self, at: usize) -> Child {
        let role = ROLES[at];
        let file = self.folder.join(format!("{at}-{role}.log"));
        let output = std::fs::File::options().create(true).append(true).open(file).unwrap();
        let mut command = Command::new(env!("CARGO_BIN_EXE_waybill-under-test"));
        command.arg(role);
        if ["projections", "sagas"].contains(&role) {
            command.arg("run");
        }
        let variables = self.environment.iter().map(|(name, value)| (*name, value.as_str()));
        command.envs(variables).stdin(Stdio::null());
        command.stdout(output.try_clone().unwrap()).stderr(output).spawn().unwrap()
    }

    /// Puts units into stock, as soon as somebody takes the command.
    pub(super) async fn stock(&self, sku: &str, units: u32) {
        let (http, url) = (super::client(), self.command_url());
        let key = key();
        until("the stock to be there", || async {
            let request = http.post(format!("{url}/v1/stock/{sku}/receive"));
            let request =
                request.header("idempotency-key", &key).json(&json!({ "quantity": units }));
            request.send().await.ok().filter(|answer| answer.status().is_success()).map(drop)
        })
        .await;
    }

    /// SIGKILL, and a new one.
    pub(super) async fn kill(&mut self, at: usize, log: &Log) {
        self.kills += 1;
        if let Some(child) = self.roles.get_mut(at) {
            child.kill().unwrap();
            child.wait().unwrap();
            self.roles[at] = self.spawn(at);
            return;
        }
        if let Some(process) = self.scribes[at - ROLES.len()].take() {
            process.kill().await;
        }
        self.scribes[at - ROLES.len()] = Some(scribe(log).await);
    }

    /// Starts whoever has ended by itself; a role must not, but for what it was started into.
    pub(super) fn revive(&mut self) {
        for at in 0..self.roles.len() {
            if self.roles[at].try_wait().unwrap().is_some() {
                self.roles[at] = self.spawn(at);
            }
        }
    }

    /// The process of a role, to be frozen.
    pub(super) fn pid(&self, at: usize) -> Option<u32> {
        self.roles.get(at).map(Child::id)
    }

    /// Ends everybody in order: no role may hang.
    pub(super) async fn stop(mut self) {
        for child in &self.roles {
            super::trouble::signal("TERM", child.id());
        }
        for (at, child) in self.roles.iter_mut().enumerate() {
            let status = until("a role to end", || {
                let ended = child.try_wait().unwrap();
                async move { ended }
            });
            assert!(status.await.success(), "{}", ROLES[at]);
        }
        for process in self.scribes.drain(..).flatten() {
            process.stop().await;
        }
    }
}

impl Drop for Fleet {
    fn drop(&mut self) {
        for (at, child) in self.roles.iter_mut().enumerate() {
            let _ = child.kill();
            let _ = child.wait();
            if std::thread::panicking() {
                let file = self.folder.join(format!("{at}-{}.log", ROLES[at]));
                let text = std::fs::read_to_string(&file).unwrap_or_default();
                let lines: Vec<_> = text.lines().rev().take(12).collect();
                eprintln!("--- {}", file.display());
                lines.into_iter().rev().for_each(|line| eprintln!("{line}"));
            }
        }
    }
}

/// A process that counts every event.
async fn scribe(log: &Log) -> Process {
    until("Postgres to answer", || async {
        sqlx::query("select 1 from events limit 1").execute(&log.database).await.ok().map(drop)
    })
    .await;
    let mut process = log.process().await;
    process.projector(Scribe::new("scribe"));
    process
}

fn free_ports(seed: u64) -> [u16; 4] {
    let mut dice = Dice::new(&[seed, 77]);
    [(); 4].map(|()| {
        loop {
            let port = u16::try_from(dice.range(PORTS)).unwrap();
            if TcpListener::bind(("127.0.0.1", port)).is_ok() {
                return port;
            }
        }
    })
}
