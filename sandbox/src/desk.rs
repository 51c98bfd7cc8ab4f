//! Where every change is made: once per idempotency key, in the books, in the journal and in
//! the webhooks, all or nothing.

use std::collections::HashSet;
use std::future::ready;
use std::io;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use axum::extract::State;
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse as _, Response};
use axum::routing::get;
use axum::{Json, Router};
use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize, de::DeserializeOwned};
use serde_json::{Value, json};
use tokio::sync::Notify;

use crate::Config;
use crate::call::Call;
use crate::fault::{Fault, Faults};
use crate::journal::Journal;
use crate::keys::{Answer, Begun, Held, Keys};
use crate::outbox::{Notice, Outbox};

/// A server's own record of things.
pub(crate) trait Book: Default + Send + 'static {
    /// What the journal keeps.
    type Object: Serialize + DeserializeOwned + Send + 'static;

    /// Takes up an object as it was last written.
    fn restore(&mut self, object: Self::Object);
}

/// What a call came to.
#[derive(Debug)]
pub(crate) struct Effect<O> {
    /// The status.
    pub(crate) status: StatusCode,
    /// The body.
    pub(crate) body: Value,
    /// Whether the same key is answered the same way again. Not so where the request itself was
    /// no good and nothing was begun.
    pub(crate) keep: bool,
    /// What changed, as it is now.
    pub(crate) objects: Vec<O>,
    /// Whom to tell what: ids and bodies of webhooks.
    pub(crate) notices: Vec<(String, Value)>,
}

impl<O> Effect<O> {
    /// Nothing changed.
    pub(crate) const fn answer(status: StatusCode, body: Value) -> Self {
        Self { status, body, keep: true, objects: Vec::new(), notices: Vec::new() }
    }
}

/// The time, and new ids, for one change.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Moment<'a> {
    /// Now.
    pub(crate) now: DateTime<Utc>,
    ids: &'a Ids,
}

impl Moment<'_> {
    /// A new id. Ids sort by the time of their making.
    pub(crate) fn id(&self, prefix: &str) -> String {
        self.ids.next(prefix)
    }
}

#[derive(Debug)]
struct Ids {
    started_ms: i64,
    made: AtomicU64,
}

impl Ids {
    fn next(&self, prefix: &str) -> String {
        let number = self.made.fetch_add(1, Ordering::Relaxed);
        format!("{prefix}{:011x}{number:013x}", self.started_ms)
    }
}

/// A line of the journal: one change, whole.
#[derive(Debug, Serialize, Deserialize)]
struct Line<O> {
    #[serde(default = "Vec::new", skip_serializing_if = "Vec::is_empty")]
    objects: Vec<O>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    answer: Option<Answer>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    notices: Vec<Notice>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    settled: Option<String>,
}

/// A server's state.
#[derive(Debug)]
pub(crate) struct Desk<B: Book> {
    book: Mutex<B>,
    keys: Keys,
    faults: Faults,
    /// The webhooks on their way.
    pub(crate) outbox: Outbox,
    journal: Journal,
    ids: Ids,
    /// Rings after every change of the books.
    pub(crate) changed: Notify,
    /// How the server is set up.
    pub(crate) config: Config,
}

impl<B: Book> Desk<B> {
    /// Opens the books as the journal left them.
    ///
    /// # Errors
    /// Where the journal cannot be read.
    pub(crate) fn open(config: Config) -> io::Result<Self> {
        let (journal, lines) = Journal::open::<Line<B::Object>>(config.journal.as_deref())?;
        let (mut book, keys, outbox) = (B::default(), Keys::default(), Outbox::default());
        let settled = lines.iter().filter_map(|line| line.settled.clone()).collect::<HashSet<_>>();
        for line in lines {
            line.objects.into_iter().for_each(|object| book.restore(object));
            if let Some(answer) = line.answer {
                keys.restore(answer);
            }
            line.notices
                .into_iter()
                .filter(|notice| !settled.contains(&notice.id))
                .for_each(|notice| outbox.push(notice));
        }
        let ids = Ids { started_ms: (config.clock)().timestamp_millis(), made: AtomicU64::new(1) };
        let (book, faults) = (Mutex::new(book), Faults::default());
        Ok(Self { book, keys, faults, outbox, journal, ids, changed: Notify::new(), config })
    }

    /// The books, for reading.
    pub(crate) fn book(&self) -> MutexGuard<'_, B> {
        self.book.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether the caller has the key to this server.
    pub(crate) fn admits(&self, headers: &HeaderMap) -> bool {
        let given = headers.get("authorization").and_then(|value| value.to_str().ok());
        given.and_then(|value| value.strip_prefix("Bearer ")) == Some(&self.config.secret_key)
    }

    /// Answers a call that may change the books: once per idempotency key.
    pub(crate) async fn change(
        &self,
        call: &Call,
        operation: &str,
        act: impl FnOnce(&mut B, &Moment<'_>) -> Effect<B::Object> + Send,
    ) -> Response {
        let now = (self.config.clock)();
        let held = match &call.key {
            None => None,
            Some(key) => match self.keys.begin(key, &call.fingerprint, now) {
                Begun::Fresh(held) => Some(held),
                Begun::Answered(answer) => {
                    let mut again = self.respond(answer.status(), answer.body);
                    let replayed = axum::http::HeaderValue::from_static("true");
                    again.headers_mut().insert("idempotent-replayed", replayed);
                    return self.faults.around(operation, ready(again)).await;
                }
                Begun::Working => {
                    let message = "Another request with this idempotency key is under way.";
                    return self.key_refused(
                        StatusCode::CONFLICT,
                        "idempotency_key_in_use",
                        message,
                    );
                }
                Begun::Mismatch => {
                    let message = "This idempotency key was used with other parameters before.";
                    return self.key_refused(
                        StatusCode::BAD_REQUEST,
                        "idempotency_mismatch",
                        message,
                    );
                }
            },
        };
        let done = async { self.carry_out(held.map(|held| (held, call)), act) };
        self.faults.around(operation, done).await
    }

    /// Changes the books and answers; faults do not befall it.
    pub(crate) fn carry_out(
        &self,
        asked: Option<(Held<'_>, &Call)>,
        act: impl FnOnce(&mut B, &Moment<'_>) -> Effect<B::Object>,
    ) -> Response {
        let moment = Moment { now: (self.config.clock)(), ids: &self.ids };
        let mut book = self.book();
        let Effect { status, body, keep, objects, notices } = act(&mut book, &moment);
        let body = body.to_string();
        let (held, answer) = asked
            .filter(|_| keep)
            .map(|(held, call)| {
                let answer = Answer {
                    key: held.key().to_owned(),
                    fingerprint: call.fingerprint.clone(),
                    at: moment.now,
                    status: status.as_u16(),
                    body: body.clone(),
                };
                (held, answer)
            })
            .unzip();
        self.commit(book, objects, answer.clone(), self.notices(notices, moment.now));
        if let (Some(held), Some(answer)) = (held, answer) {
            held.answer(answer);
        }
        self.respond(status, body)
    }

    /// Changes the books because time passed, not because of a call.
    pub(crate) fn step<T>(
        &self,
        act: impl FnOnce(&mut B, &Moment<'_>) -> Option<(Effect<B::Object>, T)>,
    ) -> Option<T> {
        let moment = Moment { now: (self.config.clock)(), ids: &self.ids };
        let mut book = self.book();
        let (effect, told) = act(&mut book, &moment)?;
        self.commit(book, effect.objects, None, self.notices(effect.notices, moment.now));
        Some(told)
    }

    /// Writes the journal while the book is still held, so that its lines are in order.
    fn commit(
        &self,
        book: MutexGuard<'_, B>,
        objects: Vec<B::Object>,
        answer: Option<Answer>,
        notices: Vec<Notice>,
    ) {
        let changed = !objects.is_empty();
        if changed || answer.is_some() {
            let notices = notices.clone();
            self.journal.append(&Line { objects, answer, notices, settled: None });
        }
        drop(book);
        for notice in notices {
            self.outbox.push(notice);
        }
        if changed {
            self.changed.notify_one();
        }
    }

    fn notices(&self, notices: Vec<(String, Value)>, at: DateTime<Utc>) -> Vec<Notice> {
        if self.config.webhook_url.is_none() {
            return Vec::new();
        }
        let notice = |(id, body): (String, Value)| {
            let (copies, delay_ms) = self.faults.webhook();
            Notice { id, at, body: body.to_string(), copies, delay_ms }
        };
        notices.into_iter().map(notice).collect()
    }

    /// Notes that a webhook needs no further attempt.
    pub(crate) fn settle(&self, notice: &str) {
        let settled = Some(notice.to_owned());
        let (objects, notices) = (Vec::<B::Object>::new(), Vec::new());
        self.journal.append(&Line { objects, answer: None, notices, settled });
    }

    /// An answer in JSON, with a request id of its own.
    pub(crate) fn respond(&self, status: StatusCode, body: String) -> Response {
        let headers = [
            ("content-type", "application/json".to_owned()),
            ("request-id", self.ids.next("req_")),
        ];
        (status, headers, body).into_response()
    }

    fn key_refused(&self, status: StatusCode, code: &str, message: &str) -> Response {
        let error = json!({ "type": "idempotency_error", "code": code, "message": message });
        self.respond(status, json!({ "error": error }).to_string())
    }
}

/// The routes that every sandbox server is steered by: `GET`, `POST` and `DELETE` of
/// `/sandbox/faults`.
pub(crate) fn steering<B: Book>() -> Router<Arc<Desk<B>>> {
    let faults = get(async |State(desk): State<Arc<Desk<B>>>| Json(desk.faults.list()))
        .post(async |State(desk): State<Arc<Desk<B>>>, Json(fault): Json<Fault>| {
            desk.faults.add(fault);
            (StatusCode::CREATED, Json(desk.faults.list()))
        })
        .delete(async |State(desk): State<Arc<Desk<B>>>| {
            desk.faults.clear();
            StatusCode::NO_CONTENT
        });
    Router::new().route("/sandbox/faults", faults)
}
