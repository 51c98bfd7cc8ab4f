//! `waybill`, built for the tests that start it, stop it and kill it.

use std::process::ExitCode;

fn main() -> ExitCode {
    waybill::main()
}
