//! Keeping the log for decades: seals, partitions, the ledger's window, and who may do what.
//!
//! * [`Keeper`] runs beside whoever writes: it seals what is full, drops what is old in the
//!   ledger, and says when partitions run short.
//! * [`leaves`] shows the partitions; [`maintain`] freezes those that are full, as their owner.
//! * [`powers`] says what a login could do to history; whoever serves should have none.

mod canon;
mod keeper;
mod leaves;
mod powers;
mod seal;

pub use keeper::{Keeper, LEDGER_DAYS_DEFAULT, LEDGER_DAYS_MIN};
pub use leaves::{Ahead, Leaf, Part, ahead, leaves, maintain};
pub use powers::powers;
pub use seal::{SEGMENT_POSITIONS, Seal, Sealing, seal_next, seals};
