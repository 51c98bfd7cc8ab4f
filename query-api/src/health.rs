//! How well the read side is: whether the database answers, and how far the read models lag.

use std::time::Duration;

use event_store::Health;
use projections::Status as Projection;
use serde_json::json;
use sqlx::PgPool;
use tokio::time::Instant;
use web::health::{Check, Checks, Report, Status};

/// From here on a lag is worth a word, in seconds.
const LAG_SECONDS_MAX: i64 = 30;

/// Looks through `pool`.
pub(crate) fn checks(pool: PgPool) -> Checks {
    Checks::new(move || {
        let pool = pool.clone();
        async move {
            let asked = Instant::now();
            let found = projections::list(&pool).await;
            report(found, asked.elapsed())
        }
    })
}

fn report(found: Result<Vec<Projection>, event_store::Error>, took: Duration) -> Report {
    match found {
        Err(_) => Report::from([("database", Check::new(Status::Unhealthy).after(took))]),
        Ok(projections) => Report::from([
            ("database", Check::new(Status::Healthy).after(took)),
            ("projection_lag", lag(&projections)),
        ]),
    }
}

fn lag(projections: &[Projection]) -> Check {
    let lag_seconds = projections.iter().map(|found| found.lag_seconds).max().unwrap_or(0);
    let lag_events = projections.iter().map(|found| found.lag_events).max().unwrap_or(0);
    let parked: i64 = projections.iter().map(|found| found.parked).sum();
    let stuck = projections.iter().flat_map(|found| &found.workers);
    let stuck = stuck.filter(|worker| worker.health == Health::Stuck.as_str()).count();
    let well = lag_seconds <= LAG_SECONDS_MAX && parked == 0 && stuck == 0;
    let status = if well { Status::Healthy } else { Status::Degraded };
    Check::new(status).observed(json!({
        "lag_seconds": lag_seconds, "lag_events": lag_events, "parked": parked,
        "stuck_workers": stuck,
    }))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(lag_seconds: i64, parked: i64) -> Projection {
        Projection {
            name: "order_summary",
            version: 1,
            health: Health::Behind.as_str(),
            position: 1,
            head: 2,
            lag_events: 1,
            lag_seconds,
            parked,
            rebuilt_at: None,
            workers: Vec::new(),
        }
    }

    #[test]
    fn a_lag_and_parked_streams_are_told() {
        assert_eq!(lag(&[found(1, 0)]).status, Status::Healthy);
        assert_eq!(lag(&[found(1, 0), found(31, 0)]).status, Status::Degraded);
        assert_eq!(lag(&[found(0, 1)]).status, Status::Degraded);
        let away = report(Err(sqlx::Error::PoolTimedOut.into()), Duration::from_millis(7));
        assert_eq!(away["database"].status, Status::Unhealthy);
        assert_eq!(away["database"].response_ms, Some(7));
    }
}
