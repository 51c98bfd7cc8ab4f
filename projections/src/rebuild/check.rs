//! What a new table has to stand before it is switched to.

use schemas::Chance;
use sqlx::PgConnection;

use super::record::Record;
use super::{RebuildError, shadow};
use crate::checkpoint;
use crate::events::LeftOut;
use crate::projection::Projection;
use crate::sample::{self, Checked};

/// How many rows are folded anew from their own streams.
const SAMPLES: usize = 64;

/// How many of the last positions half of the samples are taken from.
const RECENT_POSITIONS: i64 = 10_000;

/// The shadow has as many rows as were written into it.
pub(super) async fn count<P: Projection>(
    connection: &mut PgConnection,
    record: &Record,
) -> Result<(), RebuildError> {
    let written = record.folded(connection).await?.rows;
    let found = shadow::count(connection, &shadow::name(P::NAME)).await?;
    if found == written {
        return Ok(());
    }
    Err(RebuildError::Miscounted { name: P::NAME, found, written })
}

/// Rows by chance are what their streams say.
///
/// A whole log is folded in groups, pages and spills; a sample is folded in one go. A table that
/// fails is left as it is, to be looked at, until the next start begins anew.
pub(super) async fn samples<P: Projection>(
    connection: &mut PgConnection,
    record: &Record,
    chance: Chance,
) -> Result<(), RebuildError> {
    if record.position == 0 {
        return Ok(());
    }
    let table = shadow::name(P::NAME);
    let leaves_out = LeftOut::of(connection, &checkpoint(P::NAME)).await?;
    let left_out = record.left_out(connection).await?;
    let through = record.position;
    for _ in 0..SAMPLES {
        let event = sample::pick::<P>(connection, chance, through, RECENT_POSITIONS).await?;
        let Some(event) = event else { continue };
        // What was left out is folded again at the switch.
        if P::SHARED_ROWS && !left_out.is_empty() || left_out.contains(&event.stream.id) {
            continue;
        }
        let checked = sample::compare::<P>(connection, &table, &leaves_out, event, through).await?;
        if let Checked::Different(drift) = checked {
            return Err(RebuildError::Wrong(drift));
        }
    }
    Ok(())
}
