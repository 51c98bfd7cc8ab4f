//! The parcels on their way: every one is scanned three times, at even intervals.

use std::collections::VecDeque;
use std::sync::Arc;

use tokio::time::{Instant, sleep_until};
use tokio_util::sync::CancellationToken;

use super::book::Book;
use crate::desk::Desk;

/// Scans every parcel that is picked up, until `drain` is cancelled.
pub(crate) async fn scan_all(desk: Arc<Desk<Book>>, drain: CancellationToken) {
    let Some(interval) = desk.config.scan_interval else { return drain.cancelled().await };
    // Every wait is equally long, so the first in the queue is always the next to be due.
    let mut due: VecDeque<(Instant, String)> = VecDeque::new();
    loop {
        let started = desk.book().next_picked_up();
        if let Some(id) = started {
            due.push_back((Instant::now() + interval, id));
            continue;
        }
        let next = due.front().map(|(at, _)| *at);
        tokio::select! {
            () = drain.cancelled() => return,
            () = desk.changed.notified() => {}
            () = sleep_until(next.unwrap_or_else(Instant::now)), if next.is_some() => {
                if let Some((_, id)) = due.pop_front() && scan(&desk, &id) {
                    due.push_back((Instant::now() + interval, id));
                }
            }
        }
    }
}

fn scan(desk: &Desk<Book>, id: &str) -> bool {
    desk.step(|book, moment| book.scan_next(id, moment)).unwrap_or(false)
}
