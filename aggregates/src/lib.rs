//! The rules: for every context its state, its refusals, `decide` and `evolve`.
//!
//! **Architecture invariant.** Everything in here is pure: no `async`, no clock, no chance, no
//! I/O. Time and ids arrive as fields of the command. `evolve` never fails and never judges: it
//! takes whatever the log says. `decide` never refuses what somebody outside has already done;
//! money that was taken and goods that have left are recorded, and put right if need be.
//!
//! To add one more context: 1. its `Command` and `Event` in `schemas`; 2. a module here with the
//! state, a `Refusal`, and the `Decider`; 3. its cases and laws in `<context>/tests.rs`, beside
//! the generator of its commands.

pub mod inventory;
pub mod order;
pub mod payment;
pub mod shipping;

#[cfg(test)]
mod given;
#[cfg(test)]
mod sample;
