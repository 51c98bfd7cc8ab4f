//! What the tests share with the programs that they start.

pub mod chaos;
