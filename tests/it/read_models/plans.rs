//! No list reads a table from end to end, or sorts what an index has in order already.

use std::collections::BTreeSet;

use chrono::{DateTime, NaiveDate};
use event_store::Store;
use projections::walk::{Part, Sort};
use projections::{
    order_search, order_sku, order_summary, order_timeline, payment_ledger, saga_view, sales,
    shipment_tracking, stock_level,
};
use schemas::{Currency, CustomerId, OrderId};
use serde_json::Value;
use sqlx::{AssertSqlSafe, Execute as _, PgPool, Postgres, QueryBuilder};
use uuid::Uuid;

use crate::services;

/// How many rows of each read model there are.
const ROWS: i64 = 20_000;

/// How many rows a query asks for.
const PAGE_ROWS: i64 = 51;

/// The most rows that a query may read to answer a page: some pages, not the table.
const READ_ROWS_MAX: f64 = 500.0;

/// Half of all orders are of customer 0, and most of these are completed; those of others are
/// rejected, as few of customer 0's are. `common` stands in every order, every other word in few.
const FILL: &str = "
    create temp table n as
        select n, md5(n::text)::uuid as id, 'epoch'::timestamptz + n * interval '1 hour' as at
        from generate_series(1, 20000) as n;
    insert into read_models.order_summary
        select id, (case when n % 2 = 0 then lpad('', 32, '0') else md5('c' || n / 20) end)::uuid,
               case when n % 2 = 1 or n % 1000 = 0 then 'rejected'
                    when n % 20 > 0 then 'completed' when n % 40 > 0 then 'pending'
                    else 'cancelled' end,
               'paid', 'delivered', 1, 'EUR', 100, 100, 0, true, at, at, 5 from n;
    insert into read_models.order_sku
        select md5(n || sku)::uuid, id, sku, 1, at
        from n, unnest(array['common', 'sku-' || n % 6000]) as sku;
    insert into read_models.order_search (order_id, words, placed_at)
        select id, 'ord_' || replace(id::text, '-', '') || ' common sku-' || n % 6000, at from n;
    insert into read_models.order_timeline
        select md5('e' || n)::uuid, md5((n / 20)::text)::uuid, n, 'order', id, 1,
               'order.placed.v1', id, id, id, at, at, 'customer', '{}' from n;
    insert into read_models.stock_level
        select id, 'sku-' || n, 1, 1, n % 1000, at, 1 from n;
    insert into read_models.payment_ledger
        select md5('p' || n)::uuid, id, case when n % 20 > 0 then 'captured' else 'declined' end,
               'EUR', 100, 100, 100, 0, 100, false, null, '[]', at, 4, at from n;
    insert into read_models.shipment_tracking (fulfilment_id, shipment_id, order_id, status,
            released, units, label, scans, updated_at, version, opened_at)
        select md5('f' || n)::uuid, id, id,
               case when n % 20 > 0 then 'delivered' else 'packed' end,
               true, '[]', 'bought', '[]', at, 4, at from n;
    insert into read_models.saga_view
        select md5('s' || n)::uuid, id, 'order-fulfilment', 1,
               case when n % 20 > 0 then 'done' else 'paying' end,
               case when n % 20 > 0 then 'completed' end, null,
               case when n % 1000 = 0 then jsonb_build_object('reason', 'dispute') end,
               '[]', '[]', 0, 0, at, at, at, 9 from n;
    insert into read_models.sales (order_id, day, currency, captured, refunded, items, skus)
        select id, at::date, case when n % 50 > 0 then 'EUR' else 'USD' end, 200, 0,
               jsonb_build_array(
                   jsonb_build_object('sku', 'sku-' || n % 20, 'units', 1, 'price', 100,
                                      'captured', 100, 'refunded', 0),
                   jsonb_build_object('sku', 'rare-' || n % 2000, 'units', 1, 'price', 100,
                                      'captured', 100, 'refunded', 0)),
               'sku-' || n % 20 || ' rare-' || n % 2000
        from n;
    analyze";

/// The read models that are only read by their key.
const BY_KEY: [&str; 2] = ["order_detail", "customer_summary"];

struct Plans {
    pool: PgPool,
    seen: BTreeSet<&'static str>,
    faults: Vec<String>,
}

impl Plans {
    /// Runs the query on the read model `name`, and looks at how it was run.
    async fn check(&mut self, name: &'static str, what: &str, mut query: QueryBuilder<Postgres>) {
        let mut query = query.build();
        let arguments = query.take_arguments().unwrap().unwrap();
        let explain = format!("explain (analyze, format json) {}", query.sql().as_str());
        let query = sqlx::query_scalar_with(AssertSqlSafe(explain), arguments);
        let plan: Value = query.fetch_one(&self.pool).await.unwrap();
        let mut found = Found::default();
        found.look(&plan[0]["Plan"]);
        self.seen.insert(name);
        if !found.faults.is_empty() || found.read > READ_ROWS_MAX || found.shown == 0.0 {
            let Found { faults, read, shown } = found;
            self.faults
                .push(format!("{name}, {what}: {faults:?}, read {read}, shown {shown}\n{plan:#}"));
        }
    }
}

/// What a plan does.
#[derive(Default)]
struct Found {
    faults: Vec<String>,
    /// Rows that were taken out of tables.
    read: f64,
    /// Rows of the answer.
    shown: f64,
}

impl Found {
    fn look(&mut self, top: &Value) {
        self.shown = top["Actual Rows"].as_f64().unwrap();
        self.node(top);
    }

    #[expect(clippy::float_arithmetic, reason = "Postgres counts rows in fractions")]
    fn node(&mut self, node: &Value) {
        let kind = node["Node Type"].as_str().unwrap();
        let number = |name: &str| node[name].as_f64().unwrap_or(0.0);
        let rows = (number("Actual Rows")
            + number("Rows Removed by Filter")
            + number("Rows Removed by Index Recheck"))
            * number("Actual Loops");
        if let Some(table) = node["Relation Name"].as_str() {
            self.read += rows;
            if kind == "Seq Scan" {
                self.faults.push(format!("reads {table} from end to end"));
            }
        }
        for inner in node["Plans"].as_array().into_iter().flatten() {
            let sorted = inner["Actual Rows"].as_f64().unwrap();
            if kind == "Sort" && sorted > READ_ROWS_MAX {
                self.faults.push(format!("sorts {sorted} rows"));
            }
            self.node(inner);
        }
    }
}

/// The middle of a list, in both directions.
fn parts() -> [Part; 4] {
    let at = |hours: i64| DateTime::from_timestamp(hours * 3600, 0).unwrap();
    let part = |sort, after| Part { sort, after, from: None, before: None, limit: PAGE_ROWS };
    let after = Some((at(ROWS / 2), Uuid::nil()));
    [
        part(Sort::NewestFirst, None),
        part(Sort::NewestFirst, after),
        part(Sort::OldestFirst, after),
        Part { before: Some(at(ROWS - 9)), from: Some(at(9)), ..part(Sort::NewestFirst, None) },
    ]
}

#[tokio::test]
async fn no_list_reads_more_than_some_pages() {
    let url = services::database().await;
    Store::migrate(&url).await.unwrap();
    projections::migrate(&url).await.unwrap();
    let pool = sqlx::postgres::PgPoolOptions::new().max_connections(1).connect(&url).await.unwrap();
    sqlx::raw_sql(FILL).execute(&pool).await.unwrap();
    let mut plans = Plans { pool, seen: BTreeSet::new(), faults: Vec::new() };
    for part in parts() {
        let what = format!("{part:?}");
        of_orders(&mut plans, &part, &what).await;
        of_the_rest(&mut plans, &part, &what).await;
    }
    of_keys(&mut plans).await;
    of_sales(&mut plans).await;
    assert!(plans.faults.is_empty(), "{}", plans.faults.join("\n"));
    let looked_at: BTreeSet<_> = plans.seen.into_iter().chain(BY_KEY).collect();
    assert_eq!(looked_at, projections::names().into_iter().collect());
}

async fn of_orders(plans: &mut Plans, part: &Part, what: &str) {
    use order_summary::Filter;
    use projections::order_progress::Status;
    let statuses = || vec![Status::Pending, Status::Cancelled, Status::Completed];
    let customer = Some(CustomerId::new(Uuid::nil()));
    for filter in [
        Filter::default(),
        Filter { statuses: vec![Status::Pending], ..Filter::default() },
        Filter { statuses: statuses(), ..Filter::default() },
        Filter { customer, ..Filter::default() },
        Filter { customer, statuses: vec![Status::Rejected] },
        Filter { customer, statuses: statuses() },
    ] {
        let query = order_summary::list_query(&filter, part);
        plans.check("order_summary", &format!("{filter:?} {what}"), query).await;
    }
    for sku in ["common", "sku-7"] {
        let query = order_sku::list_query(&sku.parse().unwrap(), part);
        plans.check("order_sku", &format!("{sku} {what}"), query).await;
    }
    for text in ["common", "sku-77", "common sku-77"] {
        let query = order_search::list_query(&text.parse().unwrap(), part);
        plans.check("order_search", &format!("{text} {what}"), query).await;
    }
}

async fn of_the_rest(plans: &mut Plans, part: &Part, what: &str) {
    use payment_ledger::State;
    use saga_view::Filter as Sagas;
    use shipment_tracking::Status;
    for states in [vec![], vec![State::Declined], vec![State::Declined, State::Captured]] {
        let filter = payment_ledger::Filter { order: None, states };
        let query = payment_ledger::list_query(&filter, part);
        plans.check("payment_ledger", &format!("{filter:?} {what}"), query).await;
    }
    for statuses in [vec![], vec![Status::Packed], vec![Status::Packed, Status::Delivered]] {
        let query = shipment_tracking::list_query(&statuses, part);
        plans.check("shipment_tracking", &format!("{statuses:?} {what}"), query).await;
    }
    let texts = |words: &[&str]| words.iter().map(|word| word.parse().unwrap()).collect();
    for filter in [
        Sagas::Any,
        Sagas::States(texts(&["paying"])),
        Sagas::States(texts(&["paying", "done"])),
        Sagas::Outcomes(texts(&["completed"])),
        Sagas::Running,
        Sagas::Parked,
        Sagas::Reasons(texts(&["dispute"])),
        Sagas::Reasons(texts(&["dispute", "refund_failed"])),
    ] {
        let query = saga_view::list_query(&filter, part);
        plans.check("saga_view", &format!("{filter:?} {what}"), query).await;
    }
}

async fn of_keys(plans: &mut Plans) {
    let id: String = sqlx::query_scalar("select replace(md5('7'), '-', '')")
        .fetch_one(&plans.pool)
        .await
        .unwrap();
    let order = OrderId::new(id.parse().unwrap());
    let filter = payment_ledger::Filter { order: Some(order), ..Default::default() };
    plans
        .check("payment_ledger", "of an order", payment_ledger::list_query(&filter, &parts()[0]))
        .await;
    let query = shipment_tracking::of_order_query(order);
    plans.check("shipment_tracking", "of an order", query).await;
    let query = order_timeline::list_query(order, 141, PAGE_ROWS);
    plans.check("order_timeline", "of an order", query).await;
    for out in [true, false] {
        for after in [None, Some("sku-3")] {
            let query = stock_level::list_query(out, after, PAGE_ROWS);
            plans.check("stock_level", &format!("{out} {after:?}"), query).await;
        }
    }
}

async fn of_sales(plans: &mut Plans) {
    use sales::Filter;
    let day = |month| NaiveDate::from_ymd_opt(1971, month, 1);
    let (euro, dollar) = (Some(Currency::EUR), Some(Currency::USD));
    let rare = || Some("rare-7".parse().unwrap());
    let place = (day(6).unwrap(), "sku-3".parse().unwrap(), Currency::EUR);
    for filter in [
        Filter::default(),
        Filter { from: day(2), before: day(7), ..Filter::default() },
        Filter { currency: euro, ..Filter::default() },
        Filter { currency: dollar, from: day(2), before: day(7), ..Filter::default() },
        Filter { sku: rare(), ..Filter::default() },
        Filter { sku: rare(), currency: euro, before: day(12), ..Filter::default() },
    ] {
        for after in [None, Some(&place)] {
            let query = sales::list_query(&filter, after, PAGE_ROWS);
            plans.check("sales", &format!("{filter:?} {after:?}"), query).await;
        }
    }
}
