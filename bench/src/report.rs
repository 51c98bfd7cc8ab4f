//! The table that people read, and the JSON that programs read.

use std::fmt::Write as _;
use std::path::Path;

use anyhow::{Context as _, Result};
use serde::Serialize;

/// One measurement, beside what it is measured against in the same run.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct Row {
    /// As `append_64`.
    pub(crate) name: &'static str,
    /// Of `value` and `reference`.
    pub(crate) unit: &'static str,
    /// What we reached.
    pub(crate) value: f64,
    /// What the reference is.
    pub(crate) against: String,
    /// What the reference reached.
    pub(crate) reference: f64,
    /// `value` divided by `reference`.
    pub(crate) ratio: f64,
}

impl Row {
    pub(crate) fn new(
        name: &'static str,
        unit: &'static str,
        value: f64,
        against: impl Into<String>,
        reference: f64,
    ) -> Self {
        let ratio = value / reference;
        Self { name, unit, value, against: against.into(), reference, ratio }
    }
}

/// What was measured, and what it is measured against, in turn: what a machine does besides then falls
/// on both alike.
#[derive(Debug, Default)]
pub(crate) struct Turns {
    count: u32,
    value: f64,
    reference: f64,
}

impl Turns {
    pub(crate) fn add(&mut self, value: f64, reference: f64) {
        self.count += 1;
        self.value += value;
        self.reference += reference;
    }

    /// The means.
    pub(crate) fn row(&self, name: &'static str, unit: &'static str, against: &str) -> Row {
        let count = f64::from(self.count);
        Row::new(name, unit, self.value / count, against, self.reference / count)
    }
}

/// The measurements as text.
pub(crate) fn table(rows: &[Row]) -> String {
    let mut text = format!(
        "{:<22} {:>12} {:<9} {:>12} {:>7}  {}\n",
        "row", "value", "unit", "reference", "ratio", "against"
    );
    for row in rows {
        let _ = writeln!(
            text,
            "{:<22} {:>12.1} {:<9} {:>12.1} {:>6.2}x  {}",
            row.name, row.value, row.unit, row.reference, row.ratio, row.against
        );
    }
    text
}

/// Writes `{"rows": […]}`.
///
/// # Errors
/// Where the file cannot be written.
pub(crate) fn write(rows: &[Row], file: &Path) -> Result<()> {
    if let Some(folder) = file.parent() {
        std::fs::create_dir_all(folder)?;
    }
    let json = serde_json::to_string_pretty(&serde_json::json!({ "rows": rows }))?;
    std::fs::write(file, json).with_context(|| format!("cannot write {}", file.display()))
}
