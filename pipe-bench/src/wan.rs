//! Every transport, and what a user would pick instead, over a long path that is emulated in this process.
//!
//! The emulator is the same for all: a thread between two sockets of loopback, with a rate, a delay and a queue for each
//! direction. Datagrams that find the queue full are lost, and a share of them at random, if a path has losses.
//!
//! A byte stream cannot lose a packet, so `tcp://`, `tls://` and their alternatives run without losses only, and a full queue
//! makes their senders wait. To them the emulator is a path that TCP fills from its first moment on: it shows
//! what is added to TCP, not how TCP itself gets up to speed.

mod byte_streams;
mod contenders;
mod datagrams;
mod emulator;
mod link;
mod load;
mod path;
mod webrtc;

use std::future::ready;
use std::io;
use std::time::Duration;

use crate::interleave::ratio;
use crate::quic::alone;
use crate::{Comparison, Figure, Flavor, Goal, Row, Scenario};
use contenders::{Plain, Quic, QuinnDefaults, QuinnMatched, Tcp, Tls, Yamux, Yamux013};
use load::{Beside, Bulk, Measure};
pub use path::Path;
use webrtc::WebRtc;

const TCP: &str = "pipewerks tcp";
const TLS: &str = "pipewerks tls";
const QUIC: &str = "pipewerks quic";
const WEBRTC: &str = "pipewerks webrtc";
const PLAIN: &str = "plain TCP";
const YAMUX: &str = "yamux crate";
const YAMUX_0_13: &str = "yamux crate 0.13";
const MATCHED: &str = "quinn, matched windows";
const DEFAULTS: &str = "quinn, its defaults";

/// Ours, each with its alternatives, the first of which is what its goals refer to.
const GROUPS: [(&str, &[&str]); 4] = [
    (TCP, &[PLAIN, YAMUX, YAMUX_0_13]),
    (TLS, &[PLAIN]),
    (QUIC, &[MATCHED, DEFAULTS]),
    (WEBRTC, &[MATCHED]),
];

/// Why transports over byte streams have no figures on a path with losses.
const NO_LOSSES: &str = "a byte stream that is emulated loses nothing";

/// The name of the figure that tells how well the emulator did.
const LATE: &str = "packets that the emulator delivered over 5 ms late";

/// How many of a hundred packets may be late before it is told.
const MUCH: f64 = 1.0;

/// The paths to measure on, and for how long.
#[derive(Clone, Debug, PartialEq)]
pub struct Plan {
    /// Those on which one stream carries as much as it can.
    pub bulk: Vec<Path>,
    /// Those on which messages go to and fro beside such a stream.
    pub beside: Vec<Path>,
    /// How long each of them is measured, after ten round trips to get up to speed.
    pub time: Duration,
}

impl Plan {
    /// A few paths that tell the most.
    pub fn short(queue: f64, time: Duration) -> Self {
        Self {
            bulk: paths(&[25, 100], &[100, 1000], &[0.0], queue),
            beside: paths(&[25, 100], &[10], &[0.0], queue),
            time,
        }
    }

    /// All paths with these delays in milliseconds, rates in megabits a second, and percentages of losses. On those of up to
    /// 10 Mbit/s, messages beside bulk are measured too.
    pub fn of(delays: &[u64], rates: &[u64], losses: &[f64], queue: f64, time: Duration) -> Self {
        let slow: Vec<_> = rates.iter().copied().filter(|rate| *rate <= 10).collect();
        Self {
            bulk: paths(delays, rates, losses, queue),
            beside: paths(delays, &slow, losses, queue),
            time,
        }
    }

    /// What is to be measured, on one flavor of runtime. The contenders of a path take turns.
    pub fn scenarios(&self, flavor: Flavor) -> Vec<Scenario> {
        let bulk = self.bulk.iter().map(|path| {
            let figures = vec![
                Figure::higher("rate after 10 round trips", "MB/s").goal(Goal::RatioAtLeast(0.9)),
                Figure::higher("rate of the first 10", "MB/s"),
                Figure::lower(LATE, "%"),
            ];
            let scenario = Scenario::new(format!("bulk, {path}"), flavor, figures);
            contenders(scenario, Bulk { time: self.time }, *path)
        });
        let beside = self.beside.iter().map(|path| {
            // What a queue that is full takes, is the path's.
            let limit = path.round_trip().mul_f64(1.5) + path.queue_time() + path.packet_time();
            let limit = (limit.as_secs_f64() * 1e3).round();
            let figures = vec![
                Figure::lower("round trip, median", "ms").goal(Goal::AtMost(limit)),
                Figure::lower("round trip, 99th percentile", "ms"),
                Figure::higher("rate of the bulk", "MB/s"),
                Figure::lower(LATE, "%"),
            ];
            let name = format!("64 B messages beside bulk, {path}");
            let scenario = Scenario::new(name, flavor, figures);
            let time = 2 * self.time;
            contenders(scenario, Beside { time }, *path)
        });
        bulk.chain(beside).collect()
    }
}

fn paths(delays: &[u64], rates: &[u64], losses: &[f64], queue: f64) -> Vec<Path> {
    let mut paths = Vec::new();
    for &loss in losses {
        for &delay in delays {
            for &rate in rates {
                paths.push(Path {
                    delay,
                    rate,
                    loss,
                    queue,
                });
            }
        }
    }
    paths
}

/// Adds the contenders that a path can carry. The first is an alternative: if it does not work, nothing does.
fn contenders(scenario: Scenario, measure: impl Measure, path: Path) -> Scenario {
    let flavor = scenario.flavor();
    macro_rules! with {
        ($scenario:expr, $($name:expr => $contender:ty),* $(,)?) => {
            $scenario$(.contender($name, move || {
                alone(flavor, move || measure.run::<$contender>(path))
            }))*
        };
    }
    if path.loss > 0.0 {
        let mut scenario = with!(scenario,
            MATCHED => QuinnMatched,
            QUIC => Quic,
            DEFAULTS => QuinnDefaults,
            WEBRTC => WebRtc,
        );
        for name in [TCP, TLS] {
            scenario = scenario.contender(name, || ready(Err(io::Error::other(NO_LOSSES))));
        }
        return scenario;
    }
    with!(scenario,
        PLAIN => Plain,
        TCP => Tcp,
        YAMUX => Yamux,
        YAMUX_0_13 => Yamux013,
        TLS => Tls,
        MATCHED => QuinnMatched,
        QUIC => Quic,
        DEFAULTS => QuinnDefaults,
        WEBRTC => WebRtc,
    )
}

/// Splits a comparison of all contenders into one for each of ours with its alternatives. Where none of ours took
/// part, it stays as it is. Of how late the emulator was, only what matters stays.
pub fn by_transport(comparison: Comparison) -> Vec<Comparison> {
    let row = |name: &str| comparison.rows.iter().find(|row| row.contender == name);
    if comparison.figure.name == LATE {
        return late(comparison);
    }
    if !GROUPS.iter().any(|(ours, _)| row(ours).is_some()) {
        return vec![Comparison {
            rows: comparison.rows.iter().map(without_ratio).collect(),
            ..comparison
        }];
    }
    let groups = GROUPS.iter().filter_map(|(ours, alternatives)| {
        let first = row(ours)?;
        let alternatives = alternatives.iter().filter_map(|name| row(name));
        let rows = std::iter::once(first).chain(alternatives).map(|row| Row {
            ours: match (&first.outcome, &row.outcome) {
                (Ok(ours), Ok(values)) => ratio(&ours.values, &values.values),
                _ => None,
            },
            ..row.clone()
        });
        let mut figure = comparison.figure.clone();
        if first.outcome.as_ref().is_err_and(|why| why == NO_LOSSES) {
            figure.goals.clear();
        }
        Some(Comparison {
            figure,
            rows: rows.collect(),
            ..comparison.clone()
        })
    });
    groups.collect()
}

/// The contenders for whom the emulator was late more often than does not matter.
fn late(comparison: Comparison) -> Vec<Comparison> {
    let matters = |row: &&Row| row.outcome.as_ref().is_ok_and(|late| late.median > MUCH);
    let rows: Vec<_> = comparison.rows.iter().filter(matters).collect();
    let rows: Vec<_> = rows.into_iter().map(without_ratio).collect();
    if rows.is_empty() {
        return Vec::new();
    }
    vec![Comparison { rows, ..comparison }]
}

fn without_ratio(row: &Row) -> Row {
    Row {
        ours: None,
        ..row.clone()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::summary::Summary;

    fn row(contender: &str, values: &[f64]) -> Row {
        Row {
            contender: contender.to_owned(),
            outcome: Ok(Summary::of(values.to_vec())),
            ours: Some(1.0),
        }
    }

    fn comparison(figure: Figure, rows: Vec<Row>) -> Comparison {
        Comparison {
            scenario: "bulk".to_owned(),
            runtime: Flavor::Multi,
            figure,
            rows,
        }
    }

    fn rate() -> Figure {
        Figure::higher("rate", "MB/s").goal(Goal::RatioAtLeast(0.9))
    }

    #[test]
    fn each_of_ours_is_compared_to_its_own_alternatives() {
        let rows = vec![
            row(PLAIN, &[10.0, 20.0]),
            row(QUIC, &[3.0, 3.0]),
            row(MATCHED, &[6.0, 3.0]),
            row(TCP, &[5.0, 20.0]),
        ];
        let split = by_transport(comparison(rate(), rows));
        let names = |comparison: &Comparison| {
            let names = comparison.rows.iter().map(|row| row.contender.clone());
            names.collect::<Vec<_>>()
        };
        assert_eq!(split.len(), 2);
        assert_eq!(names(&split[0]), [TCP, PLAIN]);
        assert_eq!(names(&split[1]), [QUIC, MATCHED]);
        assert_eq!(split[0].rows[1].ours, Some(0.75));
        assert_eq!(split[1].rows[1].ours, Some(0.75));
        assert!(split[1].goals().all(|(_, is_met)| !is_met));
    }

    #[test]
    fn what_a_path_with_losses_cannot_carry_misses_no_goal() {
        let mut none = row(TCP, &[0.0]);
        none.outcome = Err(NO_LOSSES.to_owned());
        let split = by_transport(comparison(rate(), vec![none, row(MATCHED, &[1.0])]));
        assert_eq!(split.len(), 1);
        assert_eq!(split[0].goals().count(), 0);
    }

    #[test]
    fn alternatives_by_themselves_and_the_emulator_stay_together() {
        let rows = vec![row(PLAIN, &[1.0]), row(YAMUX, &[1.0])];
        let whole = by_transport(comparison(rate(), rows.clone()));
        assert_eq!((whole.len(), whole[0].rows.len()), (1, 2));
        let late = |value| {
            let rows = vec![row(PLAIN, &[0.0]), row(TCP, &[value])];
            by_transport(comparison(Figure::lower(LATE, "%"), rows))
        };
        assert_eq!(late(0.5), []);
        assert_eq!(late(2.0)[0].rows.len(), 1);
    }

    #[test]
    fn a_plan_has_a_scenario_for_each_path_and_messages_where_it_is_slow() {
        let plan = Plan::of(
            &[5, 25],
            &[10, 100],
            &[0.0, 1.0],
            1.0,
            Duration::from_secs(1),
        );
        let names = |flavor| {
            let scenarios = plan.scenarios(flavor);
            let names = scenarios.iter().map(|scenario| scenario.name().to_owned());
            names.collect::<Vec<_>>()
        };
        let names = names(Flavor::Multi);
        assert_eq!(names.len(), 8 + 4);
        assert_eq!(names[0], "bulk, 5 ms each way, 10 Mbit/s");
        assert_eq!(
            names[11],
            "64 B messages beside bulk, 25 ms each way, 10 Mbit/s, 1 % lost"
        );
    }

    /// Whether all contenders of a path do the work, those with no figures aside.
    fn works(loss: f64) {
        let path = Path {
            delay: 5,
            rate: 10,
            loss,
            queue: 1.0,
        };
        let plan = Plan {
            bulk: vec![path],
            beside: vec![path],
            time: Duration::from_millis(200),
        };
        for scenario in plan.scenarios(Flavor::Multi) {
            for comparison in crate::interleave(&scenario, 1, |_| {}).unwrap() {
                for row in comparison.rows {
                    match row.outcome {
                        Ok(values) => assert!(values.median >= 0.0),
                        Err(why) => assert_eq!(why, NO_LOSSES, "{}", row.contender),
                    }
                }
            }
        }
    }

    #[test]
    fn every_contender_does_the_work() {
        works(0.0);
    }

    #[test]
    fn datagrams_get_through_where_some_are_lost() {
        works(1.0);
    }
}
