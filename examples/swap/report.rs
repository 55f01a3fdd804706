//! [`Report`]: what came of all routes, as a table and as JSON.

use std::fmt::Write as _;
use std::time::Duration;

use comfy_table::{CellAlignment, ColumnConstraint, ContentArrangement, Table, Width, presets};

use crate::exchange::Outcome;

/// How many failures of a route are shown. The others are counted.
const MAX_SHOWN: usize = 10;

const MIB: f64 = 1024.0 * 1024.0;

/// The outcomes of the routes, in the order in which they were run.
#[derive(Debug, Default)]
pub(crate) struct Report {
    outcomes: Vec<Outcome>,
}

impl Report {
    /// Adds an outcome, and shows what went wrong with it.
    pub(crate) fn add(&mut self, outcome: Outcome) {
        for failure in outcome.failures.iter().take(MAX_SHOWN) {
            eprintln!("{}: {failure}", outcome.route);
        }
        if let Some(more @ 1..) = outcome.failures.len().checked_sub(MAX_SHOWN) {
            eprintln!("{}: and {more} more", outcome.route);
        }
        self.outcomes.push(outcome);
    }

    /// Whether every file of every route came back as it was.
    pub(crate) fn verified(&self) -> bool {
        self.outcomes.iter().all(Outcome::verified)
    }

    /// The report as a table.
    pub(crate) fn table(&self) -> Table {
        let mut table = Table::new();
        table
            .load_preset(presets::UTF8_BORDERS_ONLY)
            .set_content_arrangement(ContentArrangement::Dynamic)
            .set_header([
                "transport",
                "address",
                "connect",
                "round\ntrip",
                "files",
                "bytes",
                "send\nMiB/s",
                "receive\nMiB/s",
                "verified",
            ]);
        for outcome in &self.outcomes {
            table.add_row([
                outcome.transport.clone(),
                outcome.address.clone(),
                or_dash(outcome.connect, duration),
                or_dash(outcome.round_trip, duration),
                outcome.files.to_string(),
                outcome.bytes.to_string(),
                or_dash(outcome.send_rate, mib),
                or_dash(outcome.receive_rate, mib),
                if outcome.verified() { "yes" } else { "no" }.to_owned(),
            ]);
        }
        for (index, column) in table.column_iter_mut().enumerate() {
            // In a narrow terminal the addresses are wrapped, down to the width of their halves.
            column.set_constraint(if index == 1 {
                ColumnConstraint::LowerBoundary(Width::Fixed(17))
            } else {
                ColumnConstraint::ContentWidth
            });
            if (2..8).contains(&index) {
                column.set_cell_alignment(CellAlignment::Right);
            }
        }
        table
    }

    /// The report as a JSON array with one object for each route.
    pub(crate) fn json(&self) -> String {
        let rows: Vec<String> = self.outcomes.iter().map(json_row).collect();
        format!("[\n{}\n]\n", rows.join(",\n"))
    }
}

fn json_row(outcome: &Outcome) -> String {
    let failures = outcome
        .failures
        .iter()
        .map(|failure| json_text(&failure.to_string()));
    let fields = [
        ("route", json_text(outcome.route)),
        ("transport", json_text(&outcome.transport)),
        ("address", json_text(&outcome.address)),
        (
            "connect_seconds",
            json_number(outcome.connect.map(|time| time.as_secs_f64())),
        ),
        (
            "round_trip_seconds",
            json_number(outcome.round_trip.map(|time| time.as_secs_f64())),
        ),
        ("files", outcome.files.to_string()),
        ("bytes", outcome.bytes.to_string()),
        ("send_bytes_per_second", json_number(outcome.send_rate)),
        (
            "receive_bytes_per_second",
            json_number(outcome.receive_rate),
        ),
        ("verified", outcome.verified().to_string()),
        (
            "failures",
            format!("[{}]", failures.collect::<Vec<_>>().join(", ")),
        ),
    ];
    let fields = fields.map(|(name, value)| format!("    \"{name}\": {value}"));
    format!("  {{\n{}\n  }}", fields.join(",\n"))
}

/// A text in JSON (RFC 8259, section 7).
fn json_text(text: &str) -> String {
    let mut json = String::from('"');
    for c in text.chars() {
        match c {
            '"' | '\\' => json.extend(['\\', c]),
            '\0'..='\x1f' => write!(json, "\\u{:04x}", u32::from(c)).expect("a String takes all"),
            _ => json.push(c),
        }
    }
    json.push('"');
    json
}

/// A number in JSON, which knows no infinity.
fn json_number(number: Option<f64>) -> String {
    match number {
        Some(number) if number.is_finite() => number.to_string(),
        _ => "null".to_owned(),
    }
}

fn or_dash<T>(value: Option<T>, show: impl Fn(T) -> String) -> String {
    value.map_or_else(|| "-".to_owned(), show)
}

fn duration(time: Duration) -> String {
    if time < Duration::from_micros(1) {
        return format!("{time:.0?}");
    }
    format!("{time:.1?}")
}

fn mib(rate: f64) -> String {
    let mib = rate / MIB;
    let decimals = match mib {
        10.0.. => 1,
        1.0.. => 2,
        _ => 3,
    };
    format!("{mib:.decimals$}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn small_figures_are_told_apart() {
        assert_eq!(duration(Duration::from_nanos(199)), "199ns");
        assert_eq!(duration(Duration::from_micros(29)), "29.0µs");
        assert_eq!(mib(26.0 * 1024.0), "0.025");
        assert_eq!(mib(1.5 * MIB), "1.50");
        assert_eq!(mib(150.0 * MIB), "150.0");
    }

    #[test]
    fn text_is_escaped() {
        assert_eq!(
            json_text("a\"b\\c\nd\x1fä"),
            "\"a\\\"b\\\\c\\u000ad\\u001fä\""
        );
    }
}
