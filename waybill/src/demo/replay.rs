//! A real shop's purchase log, played through the APIs and balanced to the cent.

use std::path::Path;
use super::check::Checks;
use super::stage::Stage;
use crate::output::Output;

/// How to play.
#[derive(Debug, Clone, Copy)]
pub(super) struct Play {
    pub(super) seed: u64,
    pub(super) in_flight: usize,
}

pub(super) async fn play(_: Output, _: &mut Stage, _: &mut Checks, _: &Path, _: Play) -> anyhow::Result<()> {
    anyhow::bail!("not yet")
}
