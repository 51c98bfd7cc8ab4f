//! Idempotency keys: the same key and body hear the same answer, for a day.

use std::collections::{HashMap, VecDeque};
use std::sync::{Mutex, MutexGuard, PoisonError};

use axum::http::StatusCode;
use chrono::{DateTime, TimeDelta, Utc};
use serde::{Deserialize, Serialize};

/// How long an answer is kept, as Stripe does.
const KEPT_HOURS: i64 = 24;

/// An answer that was given under a key.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Answer {
    /// The caller's key.
    pub(crate) key: String,
    /// What was asked: a digest of path and body.
    pub(crate) fingerprint: String,
    /// When it was answered.
    pub(crate) at: DateTime<Utc>,
    /// The status, as a number.
    pub(crate) status: u16,
    /// The body.
    pub(crate) body: String,
}

impl Answer {
    /// The status to answer with.
    pub(crate) fn status(&self) -> StatusCode {
        StatusCode::from_u16(self.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR)
    }
}

/// What is known of a key.
#[derive(Debug)]
pub(crate) enum Begun<'a> {
    /// Nothing: the caller may go on, and holds the key until it has an answer.
    Fresh(Held<'a>),
    /// It was answered.
    Answered(Box<Answer>),
    /// Somebody is at it right now.
    Working,
    /// It was used for something else.
    Mismatch,
}

#[derive(Debug)]
enum Slot {
    Working { fingerprint: String },
    Answered(Box<Answer>),
}

#[derive(Debug, Default)]
struct Inner {
    slots: HashMap<String, Slot>,
    oldest_first: VecDeque<(DateTime<Utc>, String)>,
}

/// Every key in use.
#[derive(Debug, Default)]
pub(crate) struct Keys(Mutex<Inner>);

impl Keys {
    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Looks a key up, and takes it where it is free.
    pub(crate) fn begin(&self, key: &str, fingerprint: &str, now: DateTime<Utc>) -> Begun<'_> {
        let mut inner = self.lock();
        inner.forget_before(now - TimeDelta::hours(KEPT_HOURS));
        match inner.slots.get(key) {
            None => {
                let working = Slot::Working { fingerprint: fingerprint.to_owned() };
                inner.slots.insert(key.to_owned(), working);
                Begun::Fresh(Held { keys: self, key: key.to_owned(), answered: false })
            }
            Some(Slot::Working { fingerprint: before }) if before == fingerprint => Begun::Working,
            Some(Slot::Answered(answer)) if answer.fingerprint == fingerprint => {
                Begun::Answered(answer.clone())
            }
            Some(_) => Begun::Mismatch,
        }
    }

    /// Takes up an answer that the journal remembers.
    pub(crate) fn restore(&self, answer: Answer) {
        self.lock().keep(answer);
    }
}

impl Inner {
    fn keep(&mut self, answer: Answer) {
        self.oldest_first.push_back((answer.at, answer.key.clone()));
        self.slots.insert(answer.key.clone(), Slot::Answered(Box::new(answer)));
    }

    fn forget_before(&mut self, limit: DateTime<Utc>) {
        while self.oldest_first.front().is_some_and(|(at, _)| *at < limit) {
            if let Some((_, key)) = self.oldest_first.pop_front() {
                self.slots.remove(&key);
            }
        }
    }
}

/// A key that is being worked on. Dropped without an answer, it is free again.
#[derive(Debug)]
pub(crate) struct Held<'a> {
    keys: &'a Keys,
    key: String,
    answered: bool,
}

impl Held<'_> {
    /// The key.
    pub(crate) fn key(&self) -> &str {
        &self.key
    }

    /// Keeps the answer.
    pub(crate) fn answer(mut self, answer: Answer) {
        self.answered = true;
        self.keys.lock().keep(answer);
    }
}

impl Drop for Held<'_> {
    fn drop(&mut self) {
        if !self.answered {
            self.keys.lock().slots.remove(&self.key);
        }
    }
}
