//! The rebuild of a read model against one SQL statement that makes the same table.

use anyhow::Result;
use event_store::Store;
use schemas::Chance;
use sqlx::{AssertSqlSafe, PgPool};
use tokio::time::Instant;

/// What the fold of `order_summary` comes to for the orders of this benchmark, as one aggregate.
const AGGREGATE: &str = "
create table plain_summary as
select stream_id as order_id,
    max(payload ->> 'customer') as customer,
    (array_agg(event_type order by stream_version desc))[1] as status,
    max(json_array_length(payload -> 'lines')) as line_count,
    max(payload -> 'total' ->> 'currency') as currency,
    max((payload -> 'total' ->> 'amount')::bigint) as total,
    coalesce(sum((payload -> 'captured' ->> 'amount')::bigint), 0) as captured,
    coalesce(sum((payload -> 'refunded' ->> 'amount')::bigint), 0) as refunded,
    bool_or(event_type = 'order.confirmed.v1') as confirmed,
    max((payload ->> 'placed_at')::timestamptz) as placed_at,
    max(recorded_at) as updated_at,
    max(stream_version) as version
from events where category = 'order' group by stream_id";

/// The same as a join of the first event with the others.
const JOIN: &str = "
create table plain_summary as
select p.stream_id as order_id,
    p.payload ->> 'customer' as customer,
    l.event_type as status,
    json_array_length(p.payload -> 'lines') as line_count,
    p.payload -> 'total' ->> 'currency' as currency,
    (p.payload -> 'total' ->> 'amount')::bigint as total,
    coalesce((m.payload -> 'captured' ->> 'amount')::bigint, 0) as captured,
    0::bigint as refunded,
    c.position is not null as confirmed,
    (p.payload ->> 'placed_at')::timestamptz as placed_at,
    l.recorded_at as updated_at,
    s.version as version
from events p
join streams s on s.stream_id = p.stream_id
join events l on l.stream_id = s.stream_id and l.stream_version = s.version
left join events c on c.stream_id = p.stream_id and c.event_type = 'order.confirmed.v1'
left join events m on m.stream_id = p.stream_id and m.event_type = 'order.payment_recorded.v1'
where p.event_type = 'order.placed.v1'";

const KEY: &str = "alter table plain_summary add primary key (order_id)";

/// Events a second of a rebuild of `order_summary`.
///
/// # Errors
/// Where the rebuild fails.
pub(crate) async fn rate(store: &Store) -> Result<f64> {
    let how = projections::Rebuild::new(Chance::system());
    let started = Instant::now();
    let rebuilt = projections::rebuild(store, "order_summary", how, |_| {}).await?;
    Ok(per_second(rebuilt.events, started))
}

/// Events a second of the faster of two statements, key included, as `owner` of the database.
///
/// # Errors
/// Where a statement fails.
pub(crate) async fn sql_rate(owner: &PgPool, events: i64) -> Result<(&'static str, f64)> {
    let mut best = ("", 0.0);
    sqlx::raw_sql("analyze events; analyze streams").execute(owner).await?;
    for (name, statement) in [("aggregate", AGGREGATE), ("join", JOIN)] {
        let started = Instant::now();
        sqlx::raw_sql(AssertSqlSafe(format!("{statement}; {KEY}"))).execute(owner).await?;
        let rate = per_second(events, started);
        sqlx::raw_sql("drop table plain_summary").execute(owner).await?;
        if rate > best.1 {
            best = (name, rate);
        }
    }
    Ok(best)
}

fn per_second(events: i64, started: Instant) -> f64 {
    #[expect(clippy::cast_precision_loss, reason = "a rate for people")]
    let events = events as f64;
    events / started.elapsed().as_secs_f64()
}
