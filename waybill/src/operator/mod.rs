//! What people do by hand.

pub(crate) mod health;
pub(crate) mod log;
pub(crate) mod migrate;
pub(crate) mod orders;
pub(crate) mod parked;
pub(crate) mod projections;
pub(crate) mod sagas;
pub(crate) mod schemas;
pub(crate) mod standing;
pub(crate) mod streams;
pub(crate) mod subjects;
pub(crate) mod tokens;
