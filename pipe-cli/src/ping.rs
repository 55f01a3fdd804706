//! `pipe ping`: round trips, one by one.

use std::fmt;
use std::time::Duration;

use clap::Args;
use futures::StreamExt;
use futures::stream::FuturesUnordered;
use pipewerks::{BoxConn, CloseReason, Conn, ConnState, ErrorKind};
use serde::Serialize;
use serde_json::json;
use tokio::time::{Instant, MissedTickBehavior, interval, timeout};

use crate::context::Context;
use crate::duration::{self, millis};
use crate::exit::Exit;
use crate::failure::{Failure, explain};
use crate::net::{Net, NetArgs, farewell};

#[derive(Args, Clone, Debug)]
pub(crate) struct PingArgs {
    /// Address to connect to. On the other side, anything of pipewerks may listen: `pipe listen ADDR`
    /// will do
    addr: String,
    /// Stop after so many pings [default: when interrupted]
    #[arg(short, long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    count: Option<u32>,
    /// Time from one ping to the next
    #[arg(short, long, value_name = "TIME", default_value = "1", value_parser = duration::parse)]
    interval: Duration,
    /// After how long an answer counts as lost
    #[arg(short = 'W', long, value_name = "TIME", default_value = "10", value_parser = duration::parse)]
    timeout: Duration,
    #[command(flatten)]
    net: NetArgs,
}

/// Pings until the count is reached, the connection is over, or the program is stopped.
pub(crate) async fn ping(context: &Context, args: &PingArgs) -> Result<Exit, Failure> {
    let (net, addr) = (Net::new(&args.net)?, Net::addr(&args.addr)?);
    let began = Instant::now();
    let conn = tokio::select! {
        conn = net.dial(&addr) => conn?,
        () = context.stop.asked() => return Err(context.stopped()),
    };
    let took = began.elapsed();
    context.report.result(
        format_args!(
            "PING {addr} from {}: connected in {}",
            conn.local_addr(),
            millis(took)
        ),
        &json!({
            "event": "connected",
            "remote": addr.as_str(),
            "local": conn.local_addr().as_str(),
            "connect_ms": took.as_secs_f64() * 1e3,
        }),
    );
    let mut run = Run {
        context,
        args,
        conn: &conn,
        statistics: Statistics::default(),
    };
    let ended = run.until_the_end().await;
    let statistics = run.statistics;
    context.report.result(
        format_args!("--- {addr} ping statistics ---\n{statistics}"),
        &json!({"event": "statistics", "statistics": statistics.summary()}),
    );
    match ended {
        Some(CloseReason::Failed(error)) => Err(Failure::on_conn(addr.as_str(), &error)),
        Some(reason) => Err(Failure::new(
            Exit::Lost,
            format!("{addr}: connection {reason}"),
        )),
        None => {
            farewell(&conn).await;
            if statistics.answered == 0 {
                return Err(Failure::failed(format!("{addr}: no ping was answered")));
            }
            Ok(Exit::Done)
        }
    }
}

struct Run<'a> {
    context: &'a Context,
    args: &'a PingArgs,
    conn: &'a BoxConn,
    statistics: Statistics,
}

enum Outcome {
    Answered(Duration),
    NoAnswer,
    Failed(pipewerks::Error),
}

impl Run<'_> {
    /// Returns why the connection is over, if it is.
    async fn until_the_end(&mut self) -> Option<CloseReason> {
        let mut ticks = interval(self.args.interval);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Skip);
        let mut state = self.conn.state();
        state.mark_unchanged();
        let mut under_way = FuturesUnordered::new();
        let (conn, limit) = (self.conn, self.args.timeout);
        loop {
            let more = self
                .args
                .count
                .is_none_or(|count| self.statistics.sent < count);
            if !more && under_way.is_empty() {
                return None;
            }
            tokio::select! {
                _ = ticks.tick(), if more => {
                    self.statistics.sent += 1;
                    let seq = self.statistics.sent;
                    under_way.push(async move {
                        let outcome = match timeout(limit, conn.ping()).await {
                            Ok(Ok(time)) => Outcome::Answered(time),
                            Ok(Err(error)) => Outcome::Failed(error),
                            Err(_) => Outcome::NoAnswer,
                        };
                        (seq, outcome)
                    });
                }
                Some((seq, outcome)) = under_way.next() => {
                    if self.note(seq, outcome) {
                        self.show(*state.borrow_and_update());
                        return Some(conn.closed().await);
                    }
                }
                Ok(()) = state.changed() => {
                    let now = *state.borrow_and_update();
                    self.show(now);
                    if now.is_final() {
                        return Some(conn.closed().await);
                    }
                }
                () = self.context.stop.asked() => return None,
            }
        }
    }

    fn show(&self, state: ConnState) {
        let event = json!({"event": "state", "state": state.to_string()});
        let text = format_args!("the connection is {state}");
        self.context.report.result(text, &event);
    }

    /// Reports the outcome of a ping. Returns whether the connection has ended with it.
    fn note(&mut self, seq: u32, outcome: Outcome) -> bool {
        let report = &self.context.report;
        match outcome {
            Outcome::Answered(time) => {
                self.statistics.add(time);
                let ms = time.as_secs_f64() * 1e3;
                let event = json!({"event": "answer", "seq": seq, "time_ms": ms});
                report.result(format_args!("seq={seq} time={}", millis(time)), &event);
                false
            }
            Outcome::NoAnswer => {
                let limit = self.args.timeout;
                let event = json!({"event": "no_answer", "seq": seq});
                report.result(format_args!("seq={seq} no answer within {limit:?}"), &event);
                false
            }
            Outcome::Failed(error) => {
                let event = json!({"event": "failed", "seq": seq, "message": explain(&error)});
                report.result(format_args!("seq={seq} {}", explain(&error)), &event);
                matches!(error.kind(), ErrorKind::Closed | ErrorKind::Failed)
            }
        }
    }
}

/// The statistics that ping(8) shows at the end.
#[derive(Clone, Copy, Debug, Default)]
struct Statistics {
    sent: u32,
    answered: u32,
    min: f64,
    max: f64,
    sum: f64,
    sum_of_squares: f64,
}

#[derive(Serialize)]
struct Summary {
    sent: u32,
    answered: u32,
    lost_percent: f64,
    #[serde(skip_serializing_if = "Option::is_none")]
    round_trip_ms: Option<RoundTrip>,
}

#[derive(Serialize)]
struct RoundTrip {
    min: f64,
    avg: f64,
    max: f64,
    mdev: f64,
}

impl Statistics {
    fn add(&mut self, time: Duration) {
        let ms = time.as_secs_f64() * 1e3;
        self.min = if self.answered == 0 {
            ms
        } else {
            self.min.min(ms)
        };
        self.max = self.max.max(ms);
        self.sum += ms;
        self.sum_of_squares += ms * ms;
        self.answered += 1;
    }

    fn summary(&self) -> Summary {
        let lost = f64::from(self.sent - self.answered);
        let round_trip = (self.answered > 0).then(|| {
            let count = f64::from(self.answered);
            let avg = self.sum / count;
            RoundTrip {
                min: self.min,
                avg,
                max: self.max,
                mdev: (self.sum_of_squares / count - avg * avg).max(0.0).sqrt(),
            }
        });
        Summary {
            sent: self.sent,
            answered: self.answered,
            lost_percent: 100.0 * lost / f64::from(self.sent.max(1)),
            round_trip_ms: round_trip,
        }
    }
}

impl fmt::Display for Statistics {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let summary = self.summary();
        write!(
            f,
            "{} sent, {} answered, {:.0}% lost",
            summary.sent, summary.answered, summary.lost_percent
        )?;
        if let Some(RoundTrip {
            min,
            avg,
            max,
            mdev,
        }) = summary.round_trip_ms
        {
            write!(
                f,
                "\nrtt min/avg/max/mdev = {min:.3}/{avg:.3}/{max:.3}/{mdev:.3} ms"
            )?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_statistics_are_those_of_ping() {
        let mut statistics = Statistics {
            sent: 4,
            ..Statistics::default()
        };
        for ms in [1, 2, 3] {
            statistics.add(Duration::from_millis(ms));
        }
        assert_eq!(
            statistics.to_string(),
            "4 sent, 3 answered, 25% lost\nrtt min/avg/max/mdev = 1.000/2.000/3.000/0.816 ms"
        );
        assert_eq!(
            Statistics::default().to_string(),
            "0 sent, 0 answered, 0% lost"
        );
    }
}
