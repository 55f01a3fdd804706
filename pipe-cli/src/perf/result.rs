use std::time::Duration;

use comfy_table::{CellAlignment, Table, presets};
use indicatif::DecimalBytes;
use serde::Serialize;

/// The results of a measurement.
#[derive(Debug, Serialize)]
pub(super) struct PerfResult {
    event: &'static str,
    addr: String,
    streams: u16,
    connect_ms: f64,
    idle: Summary,
    up: Transfer,
    down: Transfer,
    streams_per_second: f64,
}

/// The results of one direction.
#[derive(Debug, Serialize)]
pub(super) struct Transfer {
    bytes: u64,
    seconds: f64,
    bytes_per_second: f64,
    /// Round trips of the pings beside it.
    round_trip: Summary,
}

/// Round trips, one by one.
#[derive(Debug, Default)]
pub(super) struct RoundTrips(Vec<Duration>);

/// Round trips in milliseconds.
#[derive(Debug, Default, Serialize)]
struct Summary {
    count: usize,
    min_ms: f64,
    median_ms: f64,
    p95_ms: f64,
    max_ms: f64,
}

impl PerfResult {
    pub(super) fn new(
        idle: &RoundTrips,
        up: Transfer,
        down: Transfer,
        streams_per_second: f64,
    ) -> Self {
        Self {
            event: "perf",
            addr: String::new(),
            streams: 0,
            connect_ms: 0.0,
            idle: idle.summary(),
            up,
            down,
            streams_per_second,
        }
    }

    pub(super) fn set_connect(&mut self, addr: &str, took: Duration, streams: u16) {
        addr.clone_into(&mut self.addr);
        self.connect_ms = took.as_secs_f64() * 1e3;
        self.streams = streams;
    }

    pub(super) fn table(&self) -> Table {
        let mut table = Table::new();
        table.load_preset(presets::UTF8_FULL_CONDENSED).set_header([
            "",
            "rate",
            "ping median",
            "ping p95",
            "ping max",
        ]);
        let pings = |summary: &Summary| {
            [summary.median_ms, summary.p95_ms, summary.max_ms].map(|ms| format!("{ms:.3} ms"))
        };
        let mut row = |name: String, rate: String, cells: [String; 3]| {
            table.add_row([name, rate].into_iter().chain(cells));
        };
        let connect = format!("connected in {:.1} ms, idle", self.connect_ms);
        row(connect, String::new(), pings(&self.idle));
        for (name, transfer) in [("up", &self.up), ("down", &self.down)] {
            let rate = DecimalBytes(transfer.bytes_per_second as u64);
            let name = format!("{name}, {} streams", self.streams);
            row(name, format!("{rate}/s"), pings(&transfer.round_trip));
        }
        let rate = format!("{:.0}/s", self.streams_per_second);
        row(
            "streams, opened and answered".to_owned(),
            rate,
            Default::default(),
        );
        for column in table.column_iter_mut().skip(1) {
            column.set_cell_alignment(CellAlignment::Right);
        }
        table
    }
}

impl Transfer {
    pub(super) fn new(bytes: u64, took: Duration, round_trips: &RoundTrips) -> Self {
        let seconds = took.as_secs_f64();
        Self {
            bytes,
            seconds,
            bytes_per_second: bytes as f64 / seconds,
            round_trip: round_trips.summary(),
        }
    }
}

impl RoundTrips {
    pub(super) fn add(&mut self, time: Duration) {
        self.0.push(time);
    }

    fn summary(&self) -> Summary {
        let mut sorted = self.0.clone();
        sorted.sort_unstable();
        let Some(last) = sorted.len().checked_sub(1) else {
            return Summary::default();
        };
        let at = |part: f64| sorted[(last as f64 * part).round() as usize].as_secs_f64() * 1e3;
        Summary {
            count: sorted.len(),
            min_ms: at(0.0),
            median_ms: at(0.5),
            p95_ms: at(0.95),
            max_ms: at(1.0),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn round_trips_are_summed_up() {
        let mut round_trips = RoundTrips::default();
        assert_eq!(round_trips.summary().count, 0);
        for ms in (1..=21).rev() {
            round_trips.add(Duration::from_millis(ms));
        }
        let Summary {
            count,
            min_ms,
            median_ms,
            p95_ms,
            max_ms,
        } = round_trips.summary();
        assert_eq!(
            (count, min_ms, median_ms, p95_ms, max_ms),
            (21, 1.0, 11.0, 20.0, 21.0)
        );
    }
}
