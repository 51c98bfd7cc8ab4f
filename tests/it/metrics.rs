//! What a process tells about itself at `/metrics`.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use crate::world::{World, until};

/// The series of a scrape: name and labels, and the value.
type Series = BTreeMap<(String, String), f64>;

/// Scrapes an API, and checks that the answer is what Prometheus reads.
async fn scrape(world: &World, url: &str) -> Series {
    let answer = world.http().get(format!("{url}/metrics")).send().await.unwrap();
    assert_eq!(answer.status(), 200);
    assert_eq!(answer.headers()["content-type"], "text/plain; version=0.0.4; charset=utf-8");
    let text = answer.text().await.unwrap();
    let mut helped = BTreeSet::new();
    let mut found = Series::new();
    for line in text.lines().filter(|line| !line.is_empty()) {
        if let Some(help) = line.strip_prefix("# HELP ") {
            helped.insert(help.split(' ').next().unwrap().to_owned());
        } else if !line.starts_with('#') {
            let (series, value) = line.rsplit_once(' ').unwrap();
            let (name, labels) = series.split_once('{').unwrap_or((series, ""));
            found.insert((name.to_owned(), labels.to_owned()), value.parse().unwrap());
        }
    }
    for (name, _) in found.keys() {
        let base = |end| name.strip_suffix(end).is_some_and(|base| helped.contains(base));
        let described =
            helped.contains(name) || ["_sum", "_count", "_bucket"].map(base).contains(&true);
        assert!(described, "{name} is not described");
    }
    found
}

/// The metrics that the manual names, each in the first column of its table.
fn advertised() -> BTreeSet<String> {
    let manual = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/running.md");
    let manual = std::fs::read_to_string(manual).unwrap();
    let (_, section) = manual.split_once("\n## Metrics\n").unwrap();
    let rows = section.lines().take_while(|line| !line.starts_with("## "));
    let rows = rows.filter_map(|line| line.strip_prefix("| `"));
    rows.map(|row| row.split(['`', '{']).next().unwrap().to_owned()).collect()
}

fn names(series: &Series) -> BTreeSet<String> {
    let base = |(name, _): &(String, String)| {
        let summed = name.strip_suffix("_sum").or_else(|| name.strip_suffix("_count"));
        summed.or_else(|| name.strip_suffix("_bucket")).unwrap_or(name).to_owned()
    };
    series.keys().map(base).collect()
}

#[tokio::test]
async fn every_metric_of_the_manual_is_told_and_no_other() {
    let world = World::start().await;
    world.stock("mug", 1).await;
    let id = world.place(&[("mug", 1)], "pm_card_visa").await;
    world.order_is(&id, "confirmed").await;
    let advertised = advertised();
    assert!(advertised.len() > 10, "{advertised:?}");
    world.get("/v1/nothing").await.expect(404);
    for url in [world.command_url(), world.query_url()] {
        let missing = until("every metric", || async {
            let told = names(&scrape(&world, &url).await);
            (told.is_superset(&advertised)).then_some(told)
        });
        let told = missing.await;
        let extra: Vec<_> = told.difference(&advertised).collect();
        assert!(extra.is_empty(), "docs/running.md does not name {extra:?}");
    }
    world.end().await;
}

#[tokio::test]
async fn every_queue_cache_and_pool_tells_its_bound() {
    let world = World::start().await;
    world.stock("mug", 1).await;
    let told = scrape(&world, &world.command_url()).await;
    let mut bounded = 0;
    for ((name, labels), value) in &told {
        let held = ["_queue_", "_cache_", "_pool_"].iter().any(|kind| name.contains(kind));
        let gauge = !["_max", "_total", "_open_connections", "_sum", "_count", "_bucket"]
            .iter()
            .any(|end| name.ends_with(end));
        if held && gauge {
            let max = told.get(&(format!("{name}_max"), labels.clone()));
            assert!(
                max.is_some_and(|max| value <= max && *max >= 1.0),
                "{name}: {value} of {max:?}"
            );
            bounded += 1;
        }
    }
    assert!(bounded >= 3, "{told:?}");
    world.end().await;
}

#[tokio::test]
async fn positions_and_lags_are_those_of_the_log() {
    let world = World::start().await;
    world.stock("mug", 1).await;
    let id = world.place(&[("mug", 1)], "pm_card_visa").await;
    world.order_is(&id, "confirmed").await;
    world.settle().await;
    let told = until("the numbers to be those of the log", || async {
        let told = scrape(&world, &world.command_url()).await;
        let head: i64 = sqlx::query_scalar("select max(position) from events")
            .fetch_one(world.pool())
            .await
            .unwrap();
        let one = |name: &str| told.get(&(name.to_owned(), String::new())).copied();
        #[expect(clippy::cast_precision_loss, reason = "few events")]
        let head = head as f64;
        let positions = ["waybill_log_head_position", "waybill_relay_position"];
        positions.iter().all(|name| one(name) == Some(head)).then_some(told)
    })
    .await;
    let of = |name: &str| -> Vec<(String, f64)> {
        let named = told.iter().filter(|((found, _), _)| found == name);
        named.map(|((_, labels), value)| (labels.clone(), *value)).collect()
    };
    let consumers: Vec<String> = sqlx::query_scalar("select consumer from checkpoints")
        .fetch_all(world.pool())
        .await
        .unwrap();
    for name in ["waybill_consumer_lag_events", "waybill_consumer_parked_streams"] {
        let lags = of(name);
        assert_eq!(lags.len(), consumers.len(), "{lags:?}");
        assert!(lags.iter().all(|(_, value)| *value == 0.0), "{lags:?}");
    }
    assert_eq!(of("waybill_relay_lag_events"), [(String::new(), 0.0)]);
    assert_eq!(of("waybill_relay_leading_flag"), [(String::new(), 1.0)]);
    assert_eq!(of("waybill_log_reachable_flag"), [(String::new(), 1.0)]);
    world.end().await;
}
