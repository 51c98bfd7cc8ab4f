use std::collections::VecDeque;
use std::sync::{Arc, Mutex};

use axum::Router;
use axum::extract::State;
use axum::http::{HeaderMap, Uri};
use serde_json::json;
use tokio::net::TcpListener;
use tokio::sync::Semaphore;
use tokio::task::JoinSet;

use super::*;
use crate::outcome::Rejection;
use crate::world::LIMITS;

/// What the other side is told to do, and what it saw.
struct Script {
    statuses: Mutex<VecDeque<u16>>,
    keys: Mutex<Vec<Option<String>>>,
    traceparents: Mutex<Vec<Option<String>>>,
    gate: Semaphore,
}

struct Peer {
    script: Arc<Script>,
    base_url: String,
    _task: JoinSet<()>,
}

async fn reply(
    State(script): State<Arc<Script>>,
    headers: HeaderMap,
    uri: Uri,
) -> (StatusCode, String) {
    let given = |name| headers.get(name).map(|value| value.to_str().unwrap().to_owned());
    script.keys.lock().unwrap().push(given("idempotency-key"));
    script.traceparents.lock().unwrap().push(given("traceparent"));
    match uri.path() {
        "/gate" => script.gate.acquire().await.unwrap().forget(),
        "/silent" => std::future::pending().await,
        _ => {}
    }
    let status = script.statuses.lock().unwrap().pop_front().unwrap_or(200);
    let body = match status {
        200..=299 => json!({ "done": true }),
        _ => json!({ "error": { "code": "no" } }),
    };
    (StatusCode::from_u16(status).unwrap(), body.to_string())
}

impl Peer {
    async fn start() -> Self {
        let script = Arc::new(Script {
            statuses: Mutex::default(),
            keys: Mutex::default(),
            traceparents: Mutex::default(),
            gate: Semaphore::new(0),
        });
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let base_url = format!("http://{}", listener.local_addr().unwrap());
        let router = Router::new().fallback(reply).with_state(Arc::clone(&script));
        let mut task = JoinSet::new();
        task.spawn(async move { axum::serve(listener, router).await.unwrap() });
        Self { script, base_url, _task: task }
    }

    fn answers(&self, statuses: &[u16]) {
        self.script.statuses.lock().unwrap().extend(statuses);
    }

    fn hits(&self) -> usize {
        self.script.keys.lock().unwrap().len()
    }

    /// A way here that tries `attempts_max` times.
    fn way(&self, attempts_max: usize) -> Outbound {
        self.way_with(Limits { attempts_max, ..LIMITS })
    }

    fn way_with(&self, limits: Limits) -> Outbound {
        Outbound::new("test", &Config { limits, ..Config::new(&self.base_url, "sk") }).unwrap()
    }
}

fn question(path: &str) -> Question {
    Question::post("test", &[path], "key".to_owned(), Body::None)
}

async fn ask(way: &Outbound) -> &'static str {
    ask_at(way, "plain").await
}

async fn ask_at(way: &Outbound, path: &str) -> &'static str {
    match way.ask(&question(path)).await {
        Outcome::Ok(_) => "ok",
        Outcome::Rejected(_) => "rejected",
        Outcome::Transient(why) if why.contains("breaker") => "open",
        Outcome::Transient(_) => "transient",
        Outcome::Unknown(_) => "unknown",
    }
}

/// Asks until the circuit lets a call through, and says what became of that.
async fn first_trial(way: &Outbound) -> &'static str {
    let tried = async {
        loop {
            match ask(way).await {
                "open" => tokio::task::yield_now().await,
                outcome => return outcome,
            }
        }
    };
    tokio::time::timeout(Duration::from_secs(10), tried).await.unwrap()
}

#[tokio::test]
async fn a_question_is_repeated_under_its_key_until_there_is_an_answer() {
    let peer = Peer::start().await;
    peer.answers(&[500, 429, 200]);
    assert_eq!(ask(&peer.way(3)).await, "ok");
    assert_eq!(*peer.script.keys.lock().unwrap(), vec![Some("key".to_owned()); 3]);
}

#[tokio::test]
async fn whoever_is_called_is_told_where_in_the_trace() {
    let _spans = trace::collect(trace::Resource::builder_empty().build(), 1.0, 64);
    let peer = Peer::start().await;
    let caller = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";
    let way = peer.way(1);
    let span = Span::child(Kind::Consumer, || "caller".to_owned(), Some(caller));
    assert_eq!(span.around(ask(&way)).await, "ok");
    let told = peer.script.traceparents.lock().unwrap()[0].clone().unwrap();
    assert_eq!(told[..36], caller[..36], "the same trace");
    assert!(told != caller && Some(&told) != span.traceparent().as_ref(), "a span of its own");
}

#[tokio::test]
async fn a_definite_no_is_not_asked_again() {
    let peer = Peer::start().await;
    peer.answers(&[402]);
    let answer = peer.way(3).ask(&question("plain")).await;
    let rejection = Rejection { status: 402, error: json!({ "code": "no" }) };
    assert_eq!((answer, peer.hits()), (Outcome::Rejected(rejection), 1));
}

#[tokio::test]
async fn attempts_end_and_what_was_perhaps_done_stays_unknown() {
    let peer = Peer::start().await;
    let hasty = Limits { attempts_max: 2, call_timeout: Duration::from_millis(100), ..LIMITS };
    assert_eq!((ask_at(&peer.way_with(hasty), "silent").await, peer.hits()), ("unknown", 2));
    // Once is enough: a later definite "not now" does not make the first attempt undone.
    peer.answers(&[500, 429]);
    assert_eq!(ask(&peer.way(2)).await, "unknown");
    peer.answers(&[429, 429]);
    assert_eq!(ask(&peer.way(2)).await, "transient");
}

#[tokio::test]
async fn what_was_never_sent_is_transient() {
    let peer = Peer::start().await;
    let (way, gone) = (peer.way(2), TcpListener::bind("127.0.0.1:0").await.unwrap());
    let nobody = format!("http://{}", gone.local_addr().unwrap());
    drop(gone);
    assert_eq!(ask(&way).await, "ok");
    let config = Config { limits: LIMITS, ..Config::new(nobody, "sk") };
    assert_eq!(ask(&Outbound::new("test", &config).unwrap()).await, "transient");
}

#[tokio::test]
async fn five_failures_in_a_row_open_the_circuit() {
    let peer = Peer::start().await;
    let way = peer.way(1);
    // A success or a plain no in between starts the count anew.
    peer.answers(&[500, 500, 500, 500, 200, 500, 500, 500, 500, 402]);
    for _ in 0..10 {
        assert_ne!(ask(&way).await, "open");
    }
    peer.answers(&[500; 5]);
    for _ in 0..5 {
        assert_eq!(ask(&way).await, "unknown");
    }
    let hits = peer.hits();
    assert_eq!((ask(&way).await, peer.hits()), ("open", hits));
}

async fn opened(peer: &Peer) -> Outbound {
    let open_for = Duration::from_millis(500);
    let way = peer.way_with(Limits { attempts_max: 1, open_for, ..LIMITS });
    peer.answers(&[500; FAILURES_TO_OPEN]);
    for _ in 0..FAILURES_TO_OPEN {
        assert_eq!(ask(&way).await, "unknown");
    }
    way
}

#[tokio::test]
async fn one_failure_opens_a_half_open_circuit_again() {
    let peer = Peer::start().await;
    let way = opened(&peer).await;
    peer.answers(&[200, 200, 500]);
    assert_eq!(first_trial(&way).await, "ok");
    assert_eq!(ask(&way).await, "ok");
    assert_eq!(ask(&way).await, "unknown");
    assert_eq!(ask(&way).await, "open");
}

#[tokio::test]
async fn a_half_open_circuit_lets_three_through_and_their_success_closes_it() {
    let peer = Peer::start().await;
    let way = opened(&peer).await;
    assert_eq!(first_trial(&way).await, "ok");
    let hits = peer.hits();
    let fourth = async {
        while peer.hits() < hits + 2 {
            tokio::task::yield_now().await;
        }
        let outcome = ask(&way).await;
        peer.script.gate.add_permits(2);
        outcome
    };
    let outcomes = tokio::join!(ask_at(&way, "gate"), ask_at(&way, "gate"), fourth);
    assert_eq!(outcomes, ("ok", "ok", "open"));
    // Closed: more than three may pass, and one failure is nothing again.
    peer.answers(&[500, 200, 200, 200, 200]);
    assert_eq!(ask(&way).await, "unknown");
    for _ in 0..4 {
        assert_eq!(ask(&way).await, "ok");
    }
}

#[test]
fn the_circuit_stays_open_for_a_minute_unless_told_otherwise() {
    let patience = (FAILURES_TO_OPEN, Limits::default().open_for, TRIALS_TO_CLOSE);
    assert_eq!(patience, (5, Duration::from_mins(1), 3));
}

#[test]
fn a_wrong_set_up_is_noticed_at_once() {
    for base_url in ["", "api.stripe.com", "ftp://api.stripe.com", "mailto:a@b"] {
        let made = Outbound::new("test", &Config::new(base_url, "sk"));
        assert!(matches!(made, Err(ConfigError::BaseUrl(_))), "{base_url}");
    }
    let made = Outbound::new("test", &Config::new("http://localhost", "a\nb"));
    assert!(matches!(made, Err(ConfigError::SecretKey)));
    let shown = format!("{:?}", Config::new("http://localhost", "sk_secret"));
    assert!(!shown.contains("sk_secret"), "{shown}");
}
