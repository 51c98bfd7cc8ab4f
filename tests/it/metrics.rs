//! What a process tells about itself at `/metrics`.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use crate::world::{World, key, order, until};

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

/// The numbers that were agreed upon with those who watch.
const AGREED: [&str; 9] = [
    "http_requests_total",
    "http_request_duration_seconds",
    "errors_total",
    "active_connections",
    "orders_created_total",
    "order_value",
    "payment_processing_duration_seconds",
    "inventory_levels",
    "active_user_sessions",
];

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

#[tokio::test]
async fn one_order_is_told_in_every_number_that_was_agreed_upon() {
    let world = World::start().await;
    world.stock("mug", 3).await;
    let key = key();
    let body = order(&[("mug", 1)], "pm_card_visa");
    let id = world.post_as(&key, "/v1/orders", body.clone()).await.expect(201).body["id"].clone();
    let id = id.as_str().unwrap();
    let again = world.post_as(&key, "/v1/orders", body).await.expect(201);
    assert_eq!(again.header("idempotent-replayed"), Some("true"));
    world.order_is(id, "confirmed").await;
    let customer = "usr_0197b0c0000070008000000000000001";
    let token = world.token_for(Some(customer), &["orders:read"]);
    let path = format!("{}/v1/orders/{id}", world.query_url());
    world.send(world.stranger().get(path).bearer_auth(token)).await.expect(200);
    world.get(&format!("/v1/orders/{id}/nothing")).await.expect(404);

    // The stock is summed up now and then only.
    let told = until("every number", || async {
        let told = scrape(&world, &world.query_url()).await;
        let stock = told.get(&("inventory_levels".to_owned(), r#"level="reserved"}"#.to_owned()));
        (stock == Some(&1.0) && AGREED.iter().all(|name| names(&told).contains(*name)))
            .then_some(told)
    })
    .await;
    let sum = |name: &str| -> f64 {
        told.iter().filter(|((found, _), _)| found == name).map(|(_, value)| value).sum()
    };
    assert_eq!(sum("orders_created_total").to_string(), "1");
    assert_eq!(sum("order_value_sum").to_string(), "1250");
    assert_eq!(sum("active_user_sessions").to_string(), "1");
    assert!(sum("payment_processing_duration_seconds_count") >= 1.0);
    assert!(sum("waybill_commands_replayed_total") >= 1.0);
    // Labels are patterns and kinds, and never what somebody sent.
    let labels = told.keys().map(|(_, labels)| labels);
    let sent: Vec<_> =
        labels.filter(|text| text.contains(&id[4..]) || text.contains("mug")).collect();
    assert!(sent.is_empty(), "{sent:?}");
    world.end().await;
}

/// Every metric that an expression names.
fn named(expression: &str) -> BTreeSet<String> {
    let words = expression.split(|c: char| !c.is_ascii_alphanumeric() && c != '_');
    let words = words.filter(|word| word.contains('_') && *word != "histogram_quantile");
    words
        .map(|word| {
            ["_bucket", "_sum", "_count"]
                .iter()
                .fold(word, |word, end| word.strip_suffix(end).unwrap_or(word))
        })
        .map(str::to_owned)
        .collect()
}

#[test]
fn alerts_and_dashboard_name_metrics_that_there_are() {
    let deploy = Path::new(env!("CARGO_MANIFEST_DIR")).join("../deploy");
    let read = |name: &str| std::fs::read_to_string(deploy.join(name)).unwrap();
    let alerts = read("alerts.yaml");
    let mut expressions: Vec<String> = alerts
        .lines()
        .filter_map(|line| line.trim().strip_prefix("expr: "))
        .map(str::to_owned)
        .collect();
    let dashboard: serde_json::Value = serde_json::from_str(&read("dashboard.json")).unwrap();
    for panel in dashboard["panels"].as_array().unwrap() {
        let targets = panel["targets"].as_array().unwrap();
        expressions
            .extend(targets.iter().map(|target| target["expr"].as_str().unwrap().to_owned()));
    }
    assert!(expressions.len() > 30, "{expressions:?}");
    let advertised = advertised();
    for expression in &expressions {
        let named = named(expression);
        assert!(!named.is_empty() && named.is_subset(&advertised), "{expression}");
    }
    let watched: BTreeSet<_> =
        expressions.iter().flat_map(|expression| named(expression)).collect();
    for agreed in AGREED {
        assert!(watched.contains(agreed), "nobody looks at {agreed}");
    }
}

#[tokio::test]
async fn health_tells_how_long_each_thing_took_to_answer() {
    let world = World::start().await;
    world.stock("mug", 1).await;
    for (url, needed) in [
        (world.command_url(), ["database", "nats"].as_slice()),
        (world.query_url(), ["database"].as_slice()),
    ] {
        let told = world.send(world.http().get(format!("{url}/healthz"))).await.expect(200).body;
        assert!(told["status"] == "healthy" || told["status"] == "degraded", "{told}");
        for name in needed {
            assert!(told["checks"][name]["response_ms"].is_u64(), "{told}");
        }
    }
    world.end().await;
}
