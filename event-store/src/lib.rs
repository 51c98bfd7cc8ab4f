//! Everything between "decided" and "delivered": append, load, execute, relay, feed, consumers.
//!
//! The crate names no context. It writes what deciders decide, and hands what was written to
//! whoever follows the log; events and rules are the caller's, and so may be anybody's.
//!
//! * [`Store`] appends, loads and executes; its [`Writer`] is the one task of a process that
//!   writes, a batch at a time.
//! * [`History`] looks into the log, and into how things stood, and can change nothing.
//! * [`Relay`] publishes the log to JetStream; one process at a time leads.
//! * [`Feed`] follows the log through JetStream and fills every hole from Postgres.
//! * [`log`] keeps it for decades: seals, partitions, verification.
//! * [`Vault`] seals personal data under a key per person, which can be destroyed.
//! * [`run_projector`] and [`run_reactor`] drive consumers with a fenced checkpoint.
//!
//! # An aggregate
//! A category, what can happen in it, and the rule that says what happens next:
//!
//! ```
//! use schemas::{Category, Decider, Event, Refusal};
//!
//! #[derive(Debug, PartialEq, serde::Serialize, serde::Deserialize)]
//! enum Sale {
//!     // The name and the version are what is stored, for ever.
//!     #[serde(rename = "theatre.sold.v1")]
//!     Sold { guest: String },
//! }
//!
//! impl Event for Sale {
//!     const CATEGORY: Category = Category::new("theatre");
//! }
//!
//! #[derive(Debug, thiserror::Error)]
//! #[error("sold out")]
//! struct SoldOut;
//!
//! impl Refusal for SoldOut {
//!     fn code(&self) -> &'static str {
//!         "sold_out"
//!     }
//! }
//!
//! // The state is folded from the events; of a long stream it is kept as a snapshot.
//! #[derive(Clone, Default, serde::Serialize, serde::Deserialize, schemars::JsonSchema)]
//! struct Show {
//!     sold: usize,
//! }
//!
//! impl Decider for Show {
//!     const NAME: &'static str = "show";
//!
//!     type Command = String;
//!     type Event = Sale;
//!     type Refusal = SoldOut;
//!
//!     fn decide(&self, guest: &String) -> Result<Vec<Sale>, SoldOut> {
//!         if self.sold < 2 { Ok(vec![Sale::Sold { guest: guest.clone() }]) } else { Err(SoldOut) }
//!     }
//!
//!     fn evolve(self, _: &Sale) -> Self {
//!         Self { sold: self.sold + 1 }
//!     }
//! }
//!
//! let half = Show::default().evolve(&Sale::Sold { guest: "Ada".to_owned() });
//! let sold = half.decide(&"Grace".to_owned()).unwrap();
//! assert_eq!(sold, [Sale::Sold { guest: "Grace".to_owned() }]);
//! let full = half.evolve(&sold[0]);
//! assert_eq!(full.decide(&"Edsger".to_owned()).unwrap_err().code(), "sold_out");
//! ```
//!
//! # The log
//! A store needs a Postgres. NATS is a matter of speed between processes: without it whoever
//! follows the log asks Postgres.
//!
//! ```no_run
//! # use schemas::{Category, Decider, Event, Refusal};
//! # #[derive(Debug, PartialEq, serde::Serialize, serde::Deserialize)]
//! # enum Sale {
//! #     #[serde(rename = "theatre.sold.v1")]
//! #     Sold { guest: String },
//! # }
//! # impl Event for Sale {
//! #     const CATEGORY: Category = Category::new("theatre");
//! # }
//! # #[derive(Debug, thiserror::Error)]
//! # #[error("sold out")]
//! # struct SoldOut;
//! # impl Refusal for SoldOut {
//! #     fn code(&self) -> &'static str {
//! #         "sold_out"
//! #     }
//! # }
//! # #[derive(Clone, Default, serde::Serialize, serde::Deserialize, schemars::JsonSchema)]
//! # struct Show;
//! # impl Decider for Show {
//! #     const NAME: &'static str = "show";
//! #     type Command = String;
//! #     type Event = Sale;
//! #     type Refusal = SoldOut;
//! #     fn decide(&self, guest: &String) -> Result<Vec<Sale>, SoldOut> {
//! #         Ok(vec![Sale::Sold { guest: guest.clone() }])
//! #     }
//! #     fn evolve(self, _: &Sale) -> Self {
//! #         self
//! #     }
//! # }
//! use event_store::{Append, AppendError, Feed, Meta, Options, Store, Write};
//! use schemas::{Clock, CommandId, Ids, StreamId};
//! use tokio_util::sync::CancellationToken;
//!
//! # async fn evening(database_url: String) -> Result<(), Box<dyn std::error::Error>> {
//! // As the owner of the database, once per release.
//! Store::migrate(&database_url).await?;
//!
//! // The writer and the feed are tasks of the process. Run them where you run yours.
//! let options = Options { database_url, log: "theatre".to_owned(), connections_max: 4 };
//! let (store, writer) = Store::open(&options, None).await?;
//! let (feed, follow) = Feed::new(store.clone(), None);
//! let drain = CancellationToken::new();
//! let tasks = async { tokio::join!(writer.run(drain.clone()), feed.run(drain.clone())) };
//!
//! let work = async {
//!     // Load, decide, append; again where somebody else was faster. The same id is the same
//!     // command: whoever is not sure of an answer sends it again, and it is done once.
//!     let show = StreamId::new(Sale::CATEGORY, Ids::system().next());
//!     let command_id = CommandId::new(Ids::system().next());
//!     let meta = Meta::new(command_id, [0; 32], Clock::system().now(), "box-office");
//!     let done = store.execute::<Show>(&[show], &"Ada".to_owned(), &meta).await?;
//!     assert_eq!(done.version, 1);
//!     assert!(store.execute::<Show>(&[show], &"Ada".to_owned(), &meta).await?.replayed);
//!
//!     // Append what was decided elsewhere. A stream that has moved on since is a conflict,
//!     // which is told with the version it has, and writes nothing.
//!     let meta = Meta { command_id: CommandId::new(Ids::system().next()), ..meta };
//!     let events = vec![Sale::Sold { guest: "Grace".to_owned() }.encode()?];
//!     let write = Write { stream: show, expected: 0, events };
//!     let stale = Append { meta, writes: vec![write], answers: (show, 0), refused: None };
//!     match store.append(stale).await {
//!         Err(AppendError::Conflict { stream, current: 1 }) => assert_eq!(stream, show),
//!         other => panic!("{other:?}"),
//!     }
//!
//!     // Subscribe: every event after a position, in order, once, without a hole.
//!     let mut tail = follow.tail(0);
//!     for event in tail.next(100).await {
//!         if let Some(sale) = event.decode::<Sale>() {
//!             println!("{} {} {:?}", event.position, event.stream, sale?);
//!         }
//!     }
//!     drain.cancel();
//!     Ok(())
//! };
//! tokio::join!(work, tasks).0
//! # }
//! ```
//!
//! What is to survive a restart has a checkpoint: [`run_projector`] moves it in one transaction
//! with the rows that it writes, [`run_reactor`] after what it did. `examples/theatre.rs` is the
//! whole program.
#![deny(missing_docs)]

mod append;
mod backlog;
mod batch;
mod cache;
mod consumer;
mod error;
mod execute;
mod feed;
mod history;
mod json;
mod lane;
mod load;
pub mod log;
mod metrics;
mod pool;
mod relay;
mod request;
mod scan;
mod slice;
mod snapshot;
mod statement;
mod store;
mod ticket;
mod vault;
mod writer;

pub use append::{Append, Done, Meta, Refused, Write};
pub use consumer::{
    AtOnce, Batch, Fault, Health, Moved, Moves, Progress, Projector, Reactor, WORKERS_MAX, parked,
    positions, run_projector, run_reactor, scale,
};
pub use error::{AppendError, Error, ExecuteError};
pub use feed::wire::{HEADERS, Header, HeaderValue};
pub use feed::{Feed, FeedHandle, Tail};
pub use history::{At, History, Moment, Stored};
pub use load::Loaded;
pub use metrics::{describe as describe_metrics, observe_pool, observe_relay};
pub use pool::{begin, pool_options};
pub use relay::Relay;
pub use slice::{SLICES, Slices, slice};
pub use store::{Options, Store};
pub use vault::{
    Erasure, KEPT, MasterKey, MasterKeyError, MasterKeys, Rewrapped, SubjectKey, Subjects, Vault,
    VaultError,
};
pub use writer::Writer;
