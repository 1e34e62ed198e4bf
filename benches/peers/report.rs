//! What was measured: one table with the marks, and the same as JSON.

use std::fmt::Write as _;
use std::io::{self, Write, stdout};

use serde_json::{Value, json};

/// The rows, in the order in which they were measured.
#[derive(Default)]
pub(crate) struct Report {
    rows: Vec<Row>,
}

struct Row {
    part: &'static str,
    what: String,
    value: f64,
    unit: &'static str,
    mark: Option<Mark>,
}

/// What is to be reached.
#[derive(Clone, Copy)]
pub(crate) enum Mark {
    AtMost(f64),
    AtLeast(f64),
}

impl Mark {
    fn is_reached(self, value: f64) -> bool {
        match self {
            Mark::AtMost(most) => value <= most,
            Mark::AtLeast(least) => value >= least,
        }
    }
}

impl Report {
    /// Adds a figure, and shows it at once.
    pub(crate) fn add(&mut self, part: &'static str, what: impl Into<String>, value: f64, unit: &'static str) {
        self.push(Row { part, what: what.into(), value, unit, mark: None });
    }

    /// Adds a figure that has a mark.
    pub(crate) fn marked(
        &mut self,
        part: &'static str,
        what: impl Into<String>,
        (value, unit): (f64, &'static str),
        mark: Mark,
    ) {
        self.push(Row { part, what: what.into(), value, unit, mark: Some(mark) });
    }

    fn push(&mut self, row: Row) {
        // Where nobody reads there is nobody to tell.
        let _ = writeln!(stdout(), "{}", row.line());
        self.rows.push(row);
    }

    /// The marks alone, once more.
    pub(crate) fn print_marks(&self) -> io::Result<()> {
        writeln!(stdout(), "\nthe marks")?;
        self.rows.iter().filter(|row| row.mark.is_some()).try_for_each(|row| writeln!(stdout(), "{}", row.line()))
    }

    pub(crate) fn json(&self) -> String {
        let row = |row: &Row| {
            let mut fields = json!({"part": row.part, "what": row.what, "value": row.value, "unit": row.unit});
            if let Some(mark) = row.mark {
                let (name, value) = match mark {
                    Mark::AtMost(most) => ("at_most", most),
                    Mark::AtLeast(least) => ("at_least", least),
                };
                fields[name] = json!(value);
                fields["reached"] = json!(mark.is_reached(row.value));
            }
            fields
        };
        format!("{:#}\n", Value::Array(self.rows.iter().map(row).collect()))
    }
}

impl Row {
    fn line(&self) -> String {
        let mut line = format!("{:<10} {:<58} {:>12} {:<8}", self.part, self.what, shown(self.value), self.unit);
        if let Some(mark) = self.mark {
            let (bound, value) = match mark {
                Mark::AtMost(most) => ("at most", most),
                Mark::AtLeast(least) => ("at least", least),
            };
            let said = if mark.is_reached(self.value) { "reached" } else { "MISSED" };
            // Writing to a text cannot fail.
            let _ = write!(line, " {said}: {bound} {value}");
        }
        line.trim_end().to_owned()
    }
}

/// Three digits or so.
fn shown(value: f64) -> String {
    let digits = if value >= 100.0 {
        0
    } else if value >= 10.0 {
        1
    } else {
        2
    };
    format!("{value:.digits$}")
}

/// The middle one of some measurements.
pub(crate) fn median(values: &[f64]) -> f64 {
    quantile(values, 0.5)
}

/// The one that this part of them does not exceed.
#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    clippy::cast_precision_loss,
    reason = "small numbers"
)]
pub(crate) fn quantile(values: &[f64], part: f64) -> f64 {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    sorted[((sorted.len() - 1) as f64 * part).round() as usize]
}

/// The median of the ratios of what was measured side by side.
pub(crate) fn ratio(values: &[f64], others: &[f64]) -> f64 {
    median(&values.iter().zip(others).map(|(value, other)| value / other).collect::<Vec<_>>())
}
