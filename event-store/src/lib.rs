//! Everything between "decided" and "delivered": append, load, execute, relay, feed, consumers.
//!
//! The crate names no context. It writes what deciders decide, and hands what was written to
//! whoever follows the log.
//!
//! * [`Store`] appends, loads and executes; its [`Writer`] is the one task of a process that
//!   writes, a batch at a time.
//! * [`History`] looks into the log, and into how things stood, and can change nothing.
//! * [`Relay`] publishes the log to JetStream; one process at a time leads.
//! * [`Feed`] follows the log through JetStream and fills every hole from Postgres.
//! * [`log`] keeps it for decades: seals, partitions, verification.
//! * [`Vault`] seals personal data under a key per person, which can be destroyed.
//! * [`run_projector`] and [`run_reactor`] drive consumers with a fenced checkpoint.
#![deny(missing_docs)]

mod append;
mod batch;
mod cache;
mod consumer;
mod error;
mod execute;
mod feed;
mod history;
mod json;
mod load;
pub mod log;
mod metrics;
mod relay;
mod request;
mod slice;
mod snapshot;
mod statement;
mod store;
mod ticket;
mod vault;
mod writer;

pub use append::{Append, Done, Meta, Refused, Write};
pub use consumer::{
    Fault, Progress, Projector, Reactor, parked, positions, run_projector, run_reactor,
};
pub use error::{AppendError, Error, ExecuteError};
pub use feed::{Feed, FeedHandle, Tail};
pub use history::{At, History, Moment, Stored};
pub use load::Loaded;
pub use metrics::{describe as describe_metrics, observe_pool, observe_relay};
pub use relay::Relay;
pub use slice::{SLICES, slice};
pub use store::{Options, Store};
pub use vault::{
    Erasure, KEPT, MasterKey, MasterKeyError, MasterKeys, Rewrapped, SubjectKey, Subjects, Vault,
    VaultError,
};
pub use writer::Writer;
