//! Whether the `streams` table says what the events say.

use futures_util::TryStreamExt as _;
use schemas::{Position, Version};
use sqlx::{FromRow, PgPool};
use uuid::Uuid;

use super::audit::{Audit, Seen};
use super::report::Kind;
use super::verify::Range;
use crate::Error;

/// How many streams are asked about at once.
const ASKED_MAX: usize = 10_000;

#[derive(FromRow)]
struct Row {
    stream_id: Uuid,
    category: String,
    version: Version,
    first_position: Position,
    last_position: Position,
}

/// Holds every row of `streams` that concerns the range against what was seen of its stream, and
/// finds the streams that have no row. Appends may go on: what has moved on beyond the range is
/// held against the events there.
pub(super) async fn check(pool: &PgPool, range: &Range, audit: &mut Audit) -> Result<(), Error> {
    let mut moved = Vec::new();
    let mut seen = std::mem::take(&mut audit.streams);
    let streams = seen.len();
    {
        let mut rows = sqlx::query_as::<_, Row>(
            "select stream_id, category, version, first_position, last_position from streams \
             where last_position >= $1 and (first_position <= $2 or $3)",
        )
        .bind(range.from)
        .bind(range.to)
        .bind(range.is_whole())
        .fetch(pool);
        while let Some(row) = rows.try_next().await? {
            if row.first_position > range.to {
                moved.push(row.stream_id);
                continue;
            }
            let Some(found) = seen.remove(&row.stream_id) else {
                // In part of a log, a stream may have its events before and after.
                let inside = |position| (range.from..=range.to).contains(&position);
                if inside(row.first_position) || inside(row.last_position) {
                    let at = Some(row.first_position);
                    audit.violations.add(Kind::Stream, at, Some(row.stream_id), || {
                        format!(
                            "`streams` has it at version {} from position {} to {}, and it has no \
                             events there",
                            row.version, row.first_position, row.last_position
                        )
                    });
                }
                continue;
            };
            if row.last_position > range.to {
                moved.push(row.stream_id);
            }
            compare(&row, &found, range, audit);
        }
    }
    for (stream, found) in seen {
        audit.violations.add(Kind::Stream, Some(found.first), Some(stream), || {
            "it has events, and `streams` has no row for it".to_owned()
        });
    }
    audit.streams_seen = streams;
    for asked in moved.chunks(ASKED_MAX) {
        moved_on(pool, asked, audit).await?;
    }
    let unfounded = std::mem::take(&mut audit.unfounded);
    for asked in unfounded.chunks(ASKED_MAX) {
        founded(pool, range, asked, audit).await?;
    }
    Ok(())
}

fn compare(row: &Row, found: &Seen, range: &Range, audit: &mut Audit) {
    let category = audit.category(found).to_owned();
    let mut wrong = Vec::new();
    if row.category != category {
        wrong.push(format!("category {} (its events say {category})", row.category));
    }
    if found.first_version == 1 && row.first_position != found.first {
        wrong.push(format!("first position {} (events: {})", row.first_position, found.first));
    }
    if row.last_position <= range.to {
        if row.last_position != found.last {
            wrong.push(format!("last position {} (events: {})", row.last_position, found.last));
        }
        if row.version != found.version {
            wrong.push(format!("version {} (events: {})", row.version, found.version));
        }
    } else if row.version <= found.version {
        wrong.push(format!("version {} (events: {} or more)", row.version, found.version));
    }
    if !wrong.is_empty() {
        audit.violations.add(Kind::Stream, Some(found.last), Some(row.stream_id), || {
            format!("`streams` has {}", wrong.join(", "))
        });
    }
}

/// Streams whose last event is beyond the range: there is such an event.
async fn moved_on(pool: &PgPool, asked: &[Uuid], audit: &mut Audit) -> Result<(), Error> {
    let wrong: Vec<Row> = sqlx::query_as(
        "select s.stream_id, s.category, s.version, s.first_position, s.last_position \
         from streams s where s.stream_id = any ($1) and not exists ( \
             select from events e where e.position = s.last_position \
             and e.stream_id = s.stream_id and e.stream_version = s.version)",
    )
    .bind(asked)
    .fetch_all(pool)
    .await?;
    for row in wrong {
        let at = Some(row.last_position);
        audit.violations.add(Kind::Stream, at, Some(row.stream_id), || {
            format!("`streams` has it at version {} here, and it is not", row.version)
        });
    }
    Ok(())
}

/// Streams whose first event in the range is not their first: the one before it is before the
/// range.
async fn founded(
    pool: &PgPool,
    range: &Range,
    asked: &[(Uuid, Version, Position)],
    audit: &mut Audit,
) -> Result<(), Error> {
    let streams: Vec<Uuid> = asked.iter().map(|(stream, ..)| *stream).collect();
    let versions: Vec<Version> = asked.iter().map(|(_, version, _)| *version).collect();
    let positions: Vec<Position> = asked.iter().map(|(.., position)| *position).collect();
    let wrong: Vec<(Uuid, Version, Position)> = sqlx::query_as(
        "select a.stream, a.version, a.position \
         from unnest($1::uuid[], $2::bigint[], $3::bigint[]) as a (stream, version, position) \
         where not exists (select from events e where e.stream_id = a.stream \
             and e.stream_version = a.version - 1 and e.position < $4)",
    )
    .bind(streams)
    .bind(versions)
    .bind(positions)
    .bind(range.from)
    .fetch_all(pool)
    .await?;
    for (stream, version, position) in wrong {
        audit.violations.add(Kind::Version, Some(position), Some(stream), || {
            format!("it has version {version} here, and no version {} before", version - 1)
        });
    }
    Ok(())
}
