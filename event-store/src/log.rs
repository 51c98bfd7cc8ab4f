//! Keeping the log for decades: seals, partitions, the ledger's window, and who may do what.
//!
//! * [`Keeper`] runs beside whoever writes: it seals what is full, drops what is old in the
//!   ledger, and says when partitions run short.
//! * [`leaves()`] shows the partitions; [`maintain`] freezes those that are full, as their owner.
//! * [`verify()`] walks the log and reports what does not hold; [`Audit`] does the same for rows
//!   that come from elsewhere.
//! * [`Export`] hands out everything that a log is, row by row; [`Intake`] checks such rows, and
//!   [`Import`] makes a log of them.
//! * [`powers()`] says what a login could do to history; whoever serves should have none.

mod audit;
mod canon;
mod chain;
mod export;
mod import;
mod keeper;
mod leaves;
mod powers;
mod report;
mod row;
mod seal;
mod streams;
mod verify;

pub use audit::{Audit, Scope};
pub(crate) use canon::copy_events;
pub use export::{Counts, Export, Header, Record};
pub use import::{Batch, Import, Intake, Taken};
pub use keeper::{Keeper, LEDGER_DAYS_DEFAULT, LEDGER_DAYS_MIN};
pub use leaves::{Ahead, Leaf, Part, ahead, leaves, maintain};
pub use powers::powers;
pub use report::{Kind, Report, VIOLATIONS_MAX, Violation, Violations};
pub(crate) use row::Rows;
pub use row::{AnswerRow, EventRow, Malformed, from_micros, to_micros};
pub use seal::{SEGMENT_POSITIONS, Seal, Sealing, seal_next, seals};
pub use verify::{Walked, Wanted, verify};
