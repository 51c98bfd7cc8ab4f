//! The whole system on real Postgres and JetStream, driven over HTTP.
//!
//! Each test has a database and a log of its own on servers that the process shares, and runs
//! the program itself as another process. A test ends with `World::end`, which fails unless
//! everything written was delivered and nothing is parked.

#![expect(
    clippy::unwrap_used,
    reason = "what does not hold here should fail the test, where it stands"
)]

mod architecture;
mod authorisation;
mod bad_input;
mod chaos;
mod delivery;
mod dispute;
mod event_store;
mod event_streams;
mod freshness;
mod metrics;
mod money_reversed;
mod overload;
mod parcel_trouble;
mod parked;
mod payment_action;
mod personal_data;
mod projections_drift;
mod projections_rebuild;
mod proxy;
mod read_models;
mod sagas;
mod services;
mod storm;
mod story;
mod strangers;
mod streams;
mod tokens;
mod traces;
mod trouble;
mod world;
