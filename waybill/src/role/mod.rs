//! The roles, one file each: its options, and what it runs.

pub(crate) mod adapters;
pub(crate) mod command_api;
pub(crate) mod projections;
pub(crate) mod query_api;
pub(crate) mod relay;
pub(crate) mod sagas;
pub(crate) mod sandbox;
pub(crate) mod up;
