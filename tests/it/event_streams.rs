//! Events as they happen: server-sent events of the query API.
//!
//! Goal: who follows hears every event once and in order, whatever becomes of its connections, and
//! who cannot keep up, may not listen or asks for nonsense is told so.
//! Method: followers of the running program over HTTP, cut off at random places; and, where a test
//! wants other limits than the usual ones, the same query API in this process, on its database.

use std::net::SocketAddr;
use std::process::Command;
use std::time::Duration;

use axum::body::{Body, BodyDataStream};
use axum::http::Request;
use event_store::{MasterKey, MasterKeys, Moves, Vault};
use futures_util::StreamExt as _;
use query_api::{Config, StreamLimits, Streams};
use reqwest::header::HeaderMap;
use schemas::{Chance, Ids};
use serde_json::Value;
use sqlx::PgPool;
use tests::chaos::Dice;
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;
use tower::ServiceExt as _;
use waybill::embedded::Servers;

use crate::services;
use crate::tokens::{gate, issuer, scopes, token};
use crate::world::World;

const EVENT_STREAM: &str = "text/event-stream";
const LOG: &str = "/v1/events/stream";
/// A heartbeat that a test need not wait for.
const HEARTBEAT: Duration = Duration::from_millis(20);

/// What a stream told between two blank lines.
#[derive(Debug, Default, PartialEq)]
struct Frame {
    id: Option<i64>,
    event: String,
    data: Value,
}

/// Takes a stream apart as a browser does.
#[derive(Debug, Default)]
struct Frames(Vec<u8>);

impl Frames {
    /// The frames that are complete now.
    fn push(&mut self, bytes: &[u8]) -> Vec<Frame> {
        self.0.extend_from_slice(bytes);
        let mut frames = Vec::new();
        while let Some(end) = self.0.windows(2).position(|pair| pair == b"\n\n") {
            let text: Vec<u8> = self.0.drain(..end + 2).collect();
            frames.push(frame(std::str::from_utf8(&text).unwrap()));
        }
        frames
    }
}

fn frame(text: &str) -> Frame {
    let (mut frame, mut data) = (Frame::default(), String::new());
    for line in text.lines() {
        match line.split_once(": ").unwrap_or((line, "")) {
            ("id", id) => frame.id = Some(id.parse().unwrap()),
            ("event", event) => event.clone_into(&mut frame.event),
            ("data", line) => data.push_str(line),
            ("" | "retry", _) => {}
            _ => panic!("not a field of ours: {line}"),
        }
    }
    if !data.is_empty() {
        frame.data = serde_json::from_str(&data).unwrap();
    }
    frame
}

fn request(world: &World, path: &str, last: Option<i64>) -> reqwest::RequestBuilder {
    let request = world.http().get(format!("{}{path}", world.query_url()));
    let request = request.header("Accept", EVENT_STREAM);
    match last {
        Some(last) => request.header("Last-Event-ID", last),
        None => request,
    }
}

/// Who follows a path and is cut off again and again.
struct Listener<'a> {
    world: &'a World,
    path: String,
    last: Option<i64>,
    heard: Vec<Frame>,
    cuts: u32,
    dice: Dice,
}

impl<'a> Listener<'a> {
    fn new(world: &'a World, path: String, last: Option<i64>, seed: u64) -> Self {
        Self { world, path, last, heard: Vec::new(), cuts: 0, dice: Dice::new(&[seed]) }
    }

    /// Listens until it has heard of the position that `end` comes to tell.
    async fn listen(&mut self, end: &mut watch::Receiver<Option<i64>>) {
        while !self.is_done(*end.borrow()) {
            let reply = request(self.world, &self.path, self.last).send().await.unwrap();
            assert_eq!(reply.status(), 200);
            assert_eq!(reply.headers()["content-type"], EVENT_STREAM);
            self.listen_for_a_while(reply, end).await;
        }
    }

    fn is_done(&self, end: Option<i64>) -> bool {
        end.is_some_and(|end| self.last.is_some_and(|last| last >= end))
    }

    /// Listens until the connection is cut, anywhere.
    async fn listen_for_a_while(
        &mut self,
        mut reply: reqwest::Response,
        end: &mut watch::Receiver<Option<i64>>,
    ) {
        let mut bytes = usize::try_from(self.dice.range(1..20_000)).unwrap();
        let mut frames = Frames::default();
        while bytes > 0 {
            let last = self.last;
            let chunk = tokio::select! {
                chunk = reply.chunk() => chunk.unwrap().unwrap(),
                _ = end.wait_for(|end| end.is_some_and(|end| last.is_some_and(|last| last >= end)))
                    => return,
            };
            let taken = chunk.len().min(bytes);
            bytes -= taken;
            for frame in frames.push(&chunk[..taken]) {
                self.last = frame.id.or(self.last);
                if !frame.event.is_empty() {
                    self.heard.push(frame);
                }
            }
        }
        self.cuts += 1;
    }

    fn ids(&self) -> Vec<i64> {
        self.heard.iter().map(|frame| frame.id.unwrap()).collect()
    }
}

async fn head(world: &World) -> i64 {
    let head = sqlx::query_scalar("select max(position) from events");
    head.fetch_one(world.pool()).await.unwrap()
}

#[tokio::test]
async fn however_often_it_is_cut_off_a_follower_hears_each_event_once_and_in_order() {
    let world = World::start().await;
    world.stock("mug", 100).await;
    let followed = world.place(&[("mug", 1)], "pm_card_visa").await;
    let path = format!("/v1/orders/{followed}/events");
    world.get_until(&path, |body| body["data"].get(0).map(drop)).await;
    let (tell_end, mut end) = watch::channel(None);
    let (tell_order_end, mut order_end) = watch::channel(None);
    let mut log = Listener::new(&world, LOG.to_owned(), Some(0), 1);
    let mut order = Listener::new(&world, path.clone(), None, 2);
    let orders = async {
        for _ in 0..12 {
            world.place(&[("mug", 1)], "pm_card_visa").await;
        }
        world.send_goods(&followed).await;
        world.order_is(&followed, "completed").await;
        world.settle().await;
        tell_end.send_replace(Some(head(&world).await));
        let body = world.get(&format!("{path}?limit=200")).await.expect(200).body;
        let told = body["data"].as_array().unwrap().clone();
        tell_order_end.send_replace(told.last().unwrap()["position"].as_i64());
        told
    };
    let (told, (), ()) = tokio::join!(orders, log.listen(&mut end), order.listen(&mut order_end));

    // The log: every position, as it is stored.
    let stored: Vec<(i64, String, String)> =
        sqlx::query_as("select position, event_type, payload::text from events order by position")
            .fetch_all(world.pool())
            .await
            .unwrap();
    assert!(log.cuts > 2, "{}", log.cuts);
    assert_eq!(log.ids(), (1..=log.last.unwrap()).collect::<Vec<_>>());
    for (frame, (position, event_type, payload)) in log.heard.iter().zip(&stored) {
        assert_eq!((frame.id, &frame.event), (Some(*position), event_type));
        assert_eq!(frame.data["payload"], serde_json::from_str::<Value>(payload).unwrap());
        assert_eq!(frame.data["position"], *position);
    }
    // The order: what its timeline shows, word for word.
    let heard: Vec<_> = order.heard.iter().map(|frame| frame.data.clone()).collect();
    assert_eq!(heard[..told.len()], told);
    assert!(order.cuts > 0);
    world.end().await;
}

#[tokio::test]
async fn who_hears_of_an_event_finds_it_in_the_timeline() {
    let world = World::start().await;
    world.stock("mug", 100).await;
    let order = world.place(&[("mug", 1)], "pm_card_visa").await;
    let path = format!("/v1/orders/{order}/events");
    world.get_until(&path, |body| body["data"].get(0).map(drop)).await;
    let mut reply = request(&world, &path, None).send().await.unwrap();
    let mut frames = Frames::default();
    let mut confirmed = false;
    while !confirmed {
        for frame in frames.push(&reply.chunk().await.unwrap().unwrap()) {
            if !frame.event.is_empty() {
                let body = world.get(&format!("{path}?limit=200")).await.expect(200).body;
                let rows = body["data"].as_array().unwrap();
                assert!(rows.contains(&frame.data), "{frame:?} is not in {rows:?}");
            }
            confirmed |= frame.event.starts_with("order.confirmed");
        }
    }
    drop(reply);
    world.end().await;
}

#[tokio::test]
async fn a_silent_nats_keeps_nothing_from_followers() {
    let servers = Servers::start(&services::folder("silent")).await.unwrap();
    let url = servers.postgres.database("waybill").await.unwrap();
    let world = World::start_on(url, servers.nats.url()).await;
    world.stock("mug", 100).await;
    world.settle().await;
    let signal = |name: &str| {
        let pid = servers.nats.pid().unwrap().to_string();
        assert!(Command::new("kill").args([name, &pid]).status().unwrap().success());
    };
    signal("-STOP");
    let (tell_end, mut end) = watch::channel(None);
    let mut log = Listener::new(&world, LOG.to_owned(), Some(0), 3);
    let orders = async {
        let order = world.place(&[("mug", 1)], "pm_card_visa").await;
        world.order_is(&order, "confirmed").await;
        tell_end.send_replace(Some(head(&world).await));
    };
    tokio::join!(orders, log.listen(&mut end));
    assert_eq!(log.ids(), (1..=log.last.unwrap()).collect::<Vec<_>>());
    signal("-CONT");
    world.end().await;
    servers.stop().await;
}

#[tokio::test]
async fn a_process_that_stops_ends_its_streams_and_says_so() {
    let world = World::start().await;
    world.stock("mug", 100).await;
    let order = world.place(&[("mug", 1)], "pm_card_visa").await;
    world.order_is(&order, "confirmed").await;
    let mut listeners = JoinSet::new();
    for path in [LOG.to_owned(), format!("/v1/orders/{order}/events")] {
        let mut reply = request(&world, &path, Some(0)).send().await.unwrap();
        assert_eq!(reply.status(), 200);
        listeners.spawn(async move {
            let (mut frames, mut heard) = (Frames::default(), Vec::new());
            while let Some(chunk) = reply.chunk().await.unwrap() {
                heard.extend(frames.push(&chunk));
            }
            (frames, heard)
        });
    }
    let process_log = world.folder().join("waybill.log");
    world.end().await;
    for (rest, heard) in listeners.join_all().await {
        let last = heard.last().unwrap();
        assert_eq!((last.event.as_str(), last.id), ("closing", None));
        assert!(rest.0.is_empty());
    }
    let told = std::fs::read_to_string(process_log).unwrap();
    assert!(!told.contains("cut off"), "{told}");
}

#[tokio::test]
async fn what_cannot_be_followed_is_refused() {
    let world = World::start().await;
    world.stock("mug", 1).await;
    let order = world.place(&[("mug", 1)], "pm_card_visa").await;
    let events = format!("/v1/orders/{order}/events");
    let first = world.get_until(&events, |body| body["data"].get(0).cloned()).await;
    let follow = |path: &str, headers: &[(&'static str, &str)]| {
        let url = format!("{}{path}", world.query_url());
        let map =
            headers.iter().map(|(name, value)| (name.parse().unwrap(), value.parse().unwrap()));
        world.http().get(url).headers(map.collect::<HeaderMap>())
    };
    let accept = ("accept", EVENT_STREAM);
    for bad in ["-1", "x", "1.5", "1 2", ""] {
        for path in [events.as_str(), LOG] {
            let headers = [accept, ("last-event-id", bad)];
            let reply = world.send(follow(path, &headers)).await.expect(400);
            assert_eq!(reply.body["code"], "invalid_header", "{path} {bad}");
            assert_eq!(reply.body["errors"][0]["parameter"], "Last-Event-ID");
        }
    }
    let nobody = format!("/v1/orders/ord_{}/events", "0".repeat(32));
    let reply = world.send(follow(&nobody, &[accept])).await.expect(404);
    assert_eq!(reply.body["code"], "not_found");
    world.send(follow(LOG, &[accept, ("authorization", "Bearer guess")])).await.expect(401);
    let shop = format!("Bearer {}", world.token_for(None, &["orders:read"]));
    world.send(follow(LOG, &[accept, ("authorization", &shop)])).await.expect(403);
    // Who does not ask for a stream is given a page, as ever.
    let page = world.send(follow(&events, &[("accept", "application/json")])).await.expect(200);
    assert_eq!(page.body["data"][0], first);
    world.settle().await;
    world.end().await;
}

/// The query API in this process, on the database of a world.
struct Here {
    router: axum::Router,
    address: SocketAddr,
    drain: CancellationToken,
    tasks: JoinSet<()>,
}

impl Here {
    async fn start(world: &World, limits: StreamLimits) -> Self {
        let url = services::login(world.database_url(), &["waybill_read"]).await;
        let pool = PgPool::connect(&url).await.unwrap();
        let chance = Chance::system();
        let master = MasterKey::generate(chance).parse().unwrap();
        let vault = Vault::new(pool.clone(), MasterKeys::new(master, Vec::new()), chance);
        let (streams, follower) = Streams::new(pool.clone(), limits);
        let router = query_api::router(Config {
            pool,
            moves: Moves::new(),
            vault,
            ids: Ids::system(),
            cursor_secret: "secret".to_owned(),
            gate: gate(&issuer(7)),
            streams,
        });
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let (drain, mut tasks) = (CancellationToken::new(), JoinSet::new());
        tasks.spawn(follower.run(drain.clone()));
        let served = web::serve(listener, router.clone(), drain.clone());
        tasks.spawn(async move { served.await.unwrap() });
        Self { router, address, drain, tasks }
    }

    fn request(&self, world: &World, path: &str, last: Option<i64>) -> reqwest::RequestBuilder {
        let request = world.http().get(format!("http://{}{path}", self.address));
        let token = token(&issuer(7), None, &scopes());
        let request = request.header("Accept", EVENT_STREAM).bearer_auth(token);
        match last {
            Some(last) => request.header("Last-Event-ID", last),
            None => request,
        }
    }

    /// A stream that goes nowhere: it moves when the test takes something from it.
    async fn open(&self, path: &str, last: i64) -> BodyDataStream {
        let request = Request::get(path)
            .header("Accept", EVENT_STREAM)
            .header("Authorization", format!("Bearer {}", token(&issuer(7), None, &scopes())))
            .header("Last-Event-ID", last)
            .body(Body::empty())
            .unwrap();
        let response = self.router.clone().oneshot(request).await.unwrap();
        assert_eq!(response.status(), 200);
        response.into_body().into_data_stream()
    }

    async fn stop(mut self) {
        self.drain.cancel();
        while let Some(ended) = self.tasks.join_next().await {
            ended.unwrap();
        }
    }
}

/// Takes from a stream until `look` finds something in a frame.
async fn take<T>(stream: &mut BodyDataStream, look: impl Fn(&Frame) -> Option<T>) -> T {
    let mut frames = Frames::default();
    loop {
        let chunk = stream.next().await.unwrap().unwrap();
        if let Some(found) = frames.push(&chunk).iter().find_map(&look) {
            return found;
        }
    }
}

#[tokio::test]
async fn silence_is_broken_and_says_how_much_was_seen() {
    let world = World::start().await;
    world.stock("mug", 1).await;
    world.settle().await;
    let limits = StreamLimits { heartbeat: HEARTBEAT, ..StreamLimits::default() };
    let here = Here::start(&world, limits).await;
    let path = format!("{LOG}?filter[type]=order.placed.v1&filter[context]=order");
    let mut stream = here.open(&path, 0).await;
    let seen = head(&world).await;
    take(&mut stream, |frame| (frame.event.is_empty() && frame.id == Some(seen)).then_some(()))
        .await;
    // What nobody asked for is not told, and not looked at again by who comes back.
    world.stock("mug", 1).await;
    let more = head(&world).await;
    assert!(more > seen);
    take(&mut stream, |frame| {
        assert_eq!(frame.event, "");
        (frame.id == Some(more)).then_some(())
    })
    .await;
    let order = world.place(&[("mug", 1)], "pm_card_visa").await;
    let placed = take(&mut stream, |frame| {
        (!frame.event.is_empty()).then(|| (frame.event.clone(), frame.data["stream"].clone()))
    })
    .await;
    let stream_of_order = order.parse::<schemas::OrderId>().unwrap().stream().to_string();
    assert_eq!(placed, ("order.placed.v1".to_owned(), Value::from(stream_of_order)));
    drop(stream);
    here.stop().await;
    world.end().await;
}

#[tokio::test]
async fn who_does_not_read_is_cut_off_and_told_and_goes_on_from_there() {
    let world = World::start().await;
    world.stock("mug", 1).await;
    world.settle().await;
    let limits =
        StreamLimits { heartbeat: HEARTBEAT, queue_batches_max: 2, ..StreamLimits::default() };
    let here = Here::start(&world, limits).await;
    let begin = head(&world).await;
    let (mut slow, mut quick) = (here.open(LOG, begin).await, here.open(LOG, begin).await);
    // Both hear of an event, so both take part.
    world.stock("mug", 1).await;
    let begin = head(&world).await;
    for stream in [&mut slow, &mut quick] {
        take(stream, |frame| (frame.id == Some(begin) && !frame.event.is_empty()).then_some(()))
            .await;
    }
    let mut told = Vec::new();
    for _ in 0..4 {
        world.stock("mug", 1).await;
        let head = head(&world).await;
        take(&mut quick, |frame| (frame.id == Some(head)).then_some(())).await;
        told.push(head);
    }
    let (mut frames, mut heard) = (Frames::default(), Vec::new());
    while let Some(chunk) = slow.next().await {
        heard.extend(frames.push(&chunk.unwrap()));
    }
    let events = |heard: &[Frame]| -> Vec<i64> {
        let events = heard.iter().filter(|frame| !frame.event.is_empty());
        events.filter_map(|frame| frame.id).collect()
    };
    let last = heard.pop().unwrap();
    assert_eq!((last.event.as_str(), last.id), ("lagging", None));
    assert!(last.data["detail"].as_str().unwrap().contains("Last-Event-ID"), "{last:?}");
    let before = events(&heard);
    assert!(before.len() < told.len(), "{before:?}");
    assert_eq!(before, told[..before.len()]);

    // Nothing is lost: it goes on from the last that it heard.
    let mut again = here.open(LOG, before.last().copied().unwrap_or(begin)).await;
    let (mut frames, mut heard) = (Frames::default(), Vec::new());
    while events(&heard).len() < told.len() - before.len() {
        heard.extend(frames.push(&again.next().await.unwrap().unwrap()));
    }
    assert_eq!(events(&heard), told[before.len()..]);
    drop((again, quick));
    here.stop().await;
    world.end().await;
}

#[tokio::test]
async fn nobody_has_more_streams_than_is_allowed() {
    let world = World::start().await;
    world.stock("mug", 1).await;
    let limits =
        StreamLimits { per_caller_max: 2, heartbeat: HEARTBEAT, ..StreamLimits::default() };
    let here = Here::start(&world, limits).await;
    let open = || async { here.request(&world, LOG, None).send().await.unwrap() };
    let (first, second) = (open().await, open().await);
    assert_eq!((first.status().as_u16(), second.status().as_u16()), (200, 200));
    let third = world.send(here.request(&world, LOG, None)).await.expect(429);
    assert_eq!(third.body["code"], "too_many_event_streams");
    assert!(third.header("Retry-After").is_some());
    drop(first);
    crate::world::until("a place to be free again", || async {
        (open().await.status() == 200).then_some(())
    })
    .await;
    drop(second);
    here.stop().await;

    let limits = StreamLimits { open_max: 0, ..limits };
    let here = Here::start(&world, limits).await;
    let full = world.send(here.request(&world, LOG, None)).await.expect(503);
    assert_eq!(full.body["code"], "overloaded");
    assert!(full.header("Retry-After").is_some());
    here.stop().await;
    world.end().await;
}
