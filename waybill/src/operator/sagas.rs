//! `waybill sagas list | show | retry | resume | skip | set-outcome | compensate | abandon`: sagas
//! that wait for a person, through the APIs. `waybill sagas run` runs them.

use clap::{Args, Subcommand};
use schemas::saga::Verb;
use schemas::{SagaId, Timestamp, Version};
use serde_json::{Map, Value, json};

use super::orders::At;
use crate::client::Client;
use crate::exit::Ending;
use crate::output::{Output, Style};
use crate::role;

/// Sagas that one call shows: a page of the query API.
const SAGAS_MAX: u32 = 200;

/// Run the sagas and their timers, or look after those that are parked.
#[derive(Debug, Args)]
pub(crate) struct Options {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Run the sagas and their timers, until stopped.
    Run(Box<role::sagas::Options>),
    /// Those that are parked, the longest running first; or others, by their state.
    List(List),
    /// One saga: its steps, its timers, and what may be done about it now.
    Show {
        /// As `sag_0197…`.
        saga: SagaId,
        /// And all that happened to it; takes the operators' token. What is personal stays sealed.
        #[arg(long)]
        journal: bool,
        /// As an object of JSON.
        #[arg(long)]
        json: bool,
        #[command(flatten)]
        at: At,
    },
    /// Send again what nobody answered, and what failed.
    Retry(Act),
    /// Ask nothing again, and wait for what is open as long as in the beginning.
    Resume(Act),
    /// Go on without a step that only tells somebody something.
    Skip {
        /// The step, as `waybill sagas show` names it.
        #[arg(long)]
        step: String,
        #[command(flatten)]
        act: Act,
    },
    /// Say what became of a step: the saga goes on as though it had heard so. Takes --evidence.
    SetOutcome {
        /// The step, as `waybill sagas show` names it.
        #[arg(long)]
        step: String,
        /// What became of it.
        #[arg(long, value_parser = ["done", "failed"])]
        outcome: String,
        #[command(flatten)]
        act: Act,
    },
    /// Turn round: give back what was taken, and cancel the order.
    Compensate(Act),
    /// End it as it stands. Refused while money or goods may still be held, unless forced.
    Abandon {
        /// Also while money or goods may still be held: somebody sees to them by hand.
        #[arg(long)]
        force: bool,
        #[command(flatten)]
        act: Act,
    },
}

#[derive(Debug, Args)]
struct List {
    /// Those in these states instead, parked or not.
    #[arg(long, value_name = "STATE", value_delimiter = ',', conflicts_with = "reasons")]
    state: Vec<String>,
    /// Only those that are parked for one of these reasons.
    #[arg(long = "reason", value_name = "REASON", value_delimiter = ',')]
    reasons: Vec<String>,
    /// Only those that began before this time, as `2026-11-23T08:00:00Z`.
    #[arg(long, value_name = "TIME")]
    older_than: Option<Timestamp>,
    /// As an array of JSON.
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    at: At,
}

/// Which saga, and why. Who does it is whose token it is.
#[derive(Debug, Args)]
struct Act {
    /// As `sag_0197…`.
    saga: SagaId,
    /// Why, for those who ask later.
    #[arg(long, value_name = "TEXT")]
    reason: String,
    /// What shows that it is so.
    #[arg(long, value_name = "TEXT")]
    evidence: Option<String>,
    /// The version that one has looked at: nothing is done where the saga has moved on.
    /// [default: the version that it has now]
    #[arg(long, value_name = "VERSION")]
    if_version: Option<Version>,
    /// The answer as an object of JSON.
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    at: At,
}

/// Runs the command.
pub(crate) async fn run(options: Options) -> anyhow::Result<Ending> {
    let output = Output::standard();
    match options.command {
        Command::Run(role) => return role::sagas::run(*role).await,
        Command::List(asked) => list(output, &asked).await?,
        Command::Show { saga, journal, json, at } => {
            let client = at.client()?;
            show(output, &client, saga, journal, json).await?;
        }
        Command::Retry(asked) => act(output, Verb::Retry, &asked, json!({})).await?,
        Command::Resume(asked) => act(output, Verb::Resume, &asked, json!({})).await?,
        Command::Skip { step, act: asked } => {
            act(output, Verb::Skip, &asked, json!({ "step": step })).await?;
        }
        Command::SetOutcome { step, outcome, act: asked } => {
            let said = json!({ "step": step, "outcome": outcome });
            act(output, Verb::SetOutcome, &asked, said).await?;
        }
        Command::Compensate(asked) => {
            act(output, Verb::Compensate, &asked, json!({})).await?;
        }
        Command::Abandon { force, act: asked } => {
            act(output, Verb::Abandon, &asked, json!({ "force": force })).await?;
        }
    }
    Ok(Ending::Orderly)
}

/// Does it to the saga as it stands.
async fn act(output: Output, verb: Verb, asked: &Act, more: Value) -> anyhow::Result<()> {
    let client = asked.at.client()?;
    let path = format!("/v1/sagas/{}", asked.saga);
    let version = match asked.if_version {
        Some(version) => version,
        None => client.get(&path).await?["version"].as_i64().unwrap_or(0),
    };
    let mut body = Map::new();
    body.insert("reason".to_owned(), asked.reason.clone().into());
    if let Some(evidence) = &asked.evidence {
        body.insert("evidence".to_owned(), evidence.clone().into());
    }
    if let Value::Object(more) = more {
        body.extend(more);
    }
    let path = format!("{path}/{}", verb.as_str());
    let reply = client.post_if(&path, &Value::Object(body), version).await?.succeeded()?;
    if asked.json {
        output.line(serde_json::to_string_pretty(&reply.body)?);
        return Ok(());
    }
    let now = client.get(&format!("/v1/sagas/{}", asked.saga)).await?;
    summary(output, &now);
    Ok(())
}

async fn list(output: Output, asked: &List) -> anyhow::Result<()> {
    let rows = asked.at.client()?.get(&asked.path()).await?;
    let rows = rows["data"].as_array().cloned().unwrap_or_default();
    if asked.json {
        output.line(serde_json::to_string_pretty(&Value::Array(rows))?);
        return Ok(());
    }
    let title =
        format!("{:<36} {:<22} {:<20} {:<20} {}", "saga", "state", "reason", "since", "order");
    output.line(output.paint(Style::Bold, title));
    for row in &rows {
        let parked = &row["parked"];
        let since = if parked.is_null() { &row["updated_at"] } else { &parked["since"] };
        let since = since.as_str().and_then(|at| at.get(..19)).unwrap_or_default();
        output.line(format!(
            "{:<36} {:<22} {:<20} {since:<20} {}",
            word(row, "id"),
            word(row, "state"),
            word(parked, "reason"),
            word(row, "business_key"),
        ));
    }
    if rows.len() == SAGAS_MAX as usize {
        output.line(output.paint(Style::Dim, format!("no more than {SAGAS_MAX} are shown")));
    }
    Ok(())
}

impl List {
    fn path(&self) -> String {
        let which = match (self.state.is_empty(), self.reasons.is_empty()) {
            (false, _) => format!("filter[state]={}", self.state.join(",")),
            (true, false) => format!("filter[reason]={}", self.reasons.join(",")),
            (true, true) => "filter[parked]=true".to_owned(),
        };
        let older = self.older_than.map_or_else(String::new, |at| {
            let at = at.to_rfc3339_opts(chrono::SecondsFormat::Micros, true);
            format!("&filter[older_than]={at}")
        });
        format!("/v1/sagas?{which}{older}&sort=started_at&limit={SAGAS_MAX}")
    }
}

async fn show(
    output: Output,
    client: &Client,
    saga: SagaId,
    journal: bool,
    json: bool,
) -> anyhow::Result<()> {
    let path = format!("/v1/sagas/{saga}");
    let mut seen = client.get(&path).await?;
    let events = if journal { client.list(&format!("{path}/journal")).await? } else { Vec::new() };
    if json {
        if journal {
            seen["journal"] = Value::Array(events);
        }
        output.line(serde_json::to_string_pretty(&seen)?);
        return Ok(());
    }
    summary(output, &seen);
    let rows = |name: &str| seen[name].as_array().cloned().unwrap_or_default();
    for step in rows("steps") {
        output.line(format!(
            "  {:<22} {:<10} attempt {}, sent {} times, asked {}",
            word(&step, "step"),
            word(&step, "status"),
            step["attempt"],
            step["sending"],
            word(&step, "context"),
        ));
    }
    for timer in rows("timers") {
        output.line(format!("  wakes for {} at {}", word(&timer, "name"), word(&timer, "due")));
    }
    for event in &events {
        let what = word(event, "type");
        let at = event["recorded_at"].as_str().and_then(|at| at.get(..19)).unwrap_or_default();
        output.line(format!("  {:>5} {at} {what}: {}", event["version"], event["payload"]));
    }
    Ok(())
}

/// How it stands, and what may be done.
fn summary(output: Output, saga: &Value) {
    let parked = &saga["parked"];
    let how = match (parked.is_null(), saga["outcome"].as_str()) {
        (false, _) => output.paint(Style::Bad, format!("parked: {}", word(parked, "reason"))),
        (true, Some(outcome)) => output.paint(Style::Good, format!("ended: {outcome}")),
        (true, None) => "goes on".to_owned(),
    };
    output.line(format!(
        "{}  {}  {how}  version {}  {}",
        output.paint(Style::Key, word(saga, "id")),
        output.paint(Style::Bold, word(saga, "state")),
        saga["version"],
        word(saga, "business_key"),
    ));
    for legal in saga["verbs"].as_array().into_iter().flatten() {
        output.line(format!("  may {}", possible(legal)));
    }
}

/// A verb with the options that it takes.
fn possible(legal: &Value) -> String {
    let verb = word(legal, "verb");
    let steps = legal["steps"].as_array().into_iter().flatten().map(|choice| {
        let outcomes = choice["outcomes"].as_array().into_iter().flatten();
        let outcomes: Vec<_> = outcomes.filter_map(Value::as_str).collect();
        match verb.as_str() {
            "skip" => format!("--step {}", word(choice, "step")),
            _ => format!("--step {} --outcome {}", word(choice, "step"), outcomes.join("|")),
        }
    });
    let steps = steps.collect::<Vec<_>>().join(", ");
    let force = if legal["force"] == true { "--force" } else { "" };
    [verb.as_str(), &steps, force]
        .into_iter()
        .filter(|part| !part.is_empty())
        .collect::<Vec<_>>()
        .join(" ")
}

fn word(value: &Value, name: &str) -> String {
    value[name].as_str().unwrap_or_default().to_owned()
}

#[cfg(test)]
mod tests {
    use clap::Parser as _;

    use super::*;
    use crate::cli::{Choice, Cli};

    fn parsed(line: &str) -> Result<Options, clap::Error> {
        match Cli::try_parse_from(line.split(' '))?.command {
            Choice::Sagas(options) => Ok(*options),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn an_act_takes_a_reason_and_needs_no_servers() {
        let saga = "sag_0197b0c0000070008000000000000001";
        assert!(parsed(&format!("waybill sagas retry {saga}")).is_err());
        let act = format!("{saga} --reason outage");
        for line in [
            format!("retry {act}"),
            format!("resume {act}"),
            format!("skip {act} --step complete"),
            format!("set-outcome {act} --step capture --outcome done --evidence receipt"),
            format!("compensate {act}"),
            format!("abandon {act} --force"),
            format!("show {saga} --journal --json"),
        ] {
            assert!(parsed(&format!("waybill sagas {line}")).is_ok(), "{line}");
        }
        assert!(parsed(&format!("waybill sagas set-outcome {act} --step capture")).is_err());
    }

    #[test]
    fn a_list_is_of_what_is_parked_unless_a_state_is_named() {
        let path = |line: &str| match parsed(format!("waybill sagas list {line}").trim_end()) {
            Ok(Options { command: Command::List(list) }) => list.path(),
            other => panic!("{other:?}"),
        };
        let rest = "&sort=started_at&limit=200";
        assert_eq!(path(""), format!("/v1/sagas?filter[parked]=true{rest}"));
        assert_eq!(path("--reason a,b"), format!("/v1/sagas?filter[reason]=a,b{rest}"));
        assert_eq!(path("--state unwinding"), format!("/v1/sagas?filter[state]=unwinding{rest}"));
        let older = "&filter[older_than]=2026-11-23T08:00:00.000000Z";
        assert_eq!(
            path("--older-than 2026-11-23T08:00:00Z"),
            format!("/v1/sagas?filter[parked]=true{older}{rest}")
        );
    }

    #[test]
    fn what_may_be_done_is_told_as_it_is_typed() {
        let legal = json!({ "verb": "set-outcome",
                            "steps": [{ "step": "capture", "outcomes": ["done", "failed"] }] });
        assert_eq!(possible(&legal), "set-outcome --step capture --outcome done|failed");
        assert_eq!(possible(&json!({ "verb": "retry" })), "retry");
        let forced = json!({ "verb": "abandon", "force": true });
        assert_eq!(possible(&forced), "abandon --force");
    }
}
