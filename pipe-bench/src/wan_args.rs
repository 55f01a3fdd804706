//! The options of `pipe-bench wan`.

use std::time::Duration;

use clap::Args;
use pipe_bench::wan::Plan;

/// The whole set of paths.
const DELAYS: [u64; 4] = [5, 25, 50, 100];
const RATES: [u64; 3] = [10, 100, 1000];
const LOSSES: [f64; 3] = [0.0, 0.1, 1.0];

/// The path of which what is not given is taken.
const DELAY: u64 = 25;
const RATE: u64 = 100;
const LOSS: f64 = 0.0;

/// Without a delay, a rate, a loss and `--full`, a few paths are measured that tell the most.
#[derive(Args)]
pub(crate) struct WanArgs {
    /// How long a packet is on its way in one direction; several with commas
    #[arg(long, value_name = "MS", value_delimiter = ',', value_parser = clap::value_parser!(u64).range(1..=10_000))]
    delay: Vec<u64>,
    /// How much a direction carries; several with commas
    #[arg(long, value_name = "MBIT/S", value_delimiter = ',', value_parser = clap::value_parser!(u64).range(1..=10_000))]
    rate: Vec<u64>,
    /// How many of a hundred packets are lost in each direction; several with commas. TCP has none
    #[arg(long, value_name = "PERCENT", value_delimiter = ',', value_parser = percent)]
    loss: Vec<f64>,
    /// How much waits at most before a direction, as a share of what the path holds in a round trip
    #[arg(long, value_name = "SHARE", default_value_t = 1.0, value_parser = share)]
    queue: f64,
    /// How long each run lasts after ten round trips; messages beside bulk twice as long
    #[arg(long, value_name = "SECONDS", default_value_t = 2.0, value_parser = seconds)]
    time: f64,
    /// Measure all paths of 5, 25, 50 and 100 ms, 10, 100 and 1000 Mbit/s, and 0, 0.1 and 1 % of losses, as far as
    /// the other options leave them: hours
    #[arg(long)]
    full: bool,
}

impl WanArgs {
    pub(crate) fn plan(&self) -> Plan {
        let time = Duration::from_secs_f64(self.time);
        if !self.full && self.delay.is_empty() && self.rate.is_empty() && self.loss.is_empty() {
            return Plan::short(self.queue, time);
        }
        Plan::of(
            &self.choose(&self.delay, &DELAYS, DELAY),
            &self.choose(&self.rate, &RATES, RATE),
            &self.choose(&self.loss, &LOSSES, LOSS),
            self.queue,
            time,
        )
    }

    /// What is given, or all, or one.
    fn choose<T: Copy>(&self, given: &[T], all: &[T], one: T) -> Vec<T> {
        match given {
            [] if self.full => all.to_vec(),
            [] => vec![one],
            given => given.to_vec(),
        }
    }
}

fn percent(text: &str) -> Result<f64, String> {
    within(text, 0.0, 100.0)
}

fn share(text: &str) -> Result<f64, String> {
    within(text, 0.0, 100.0)
}

fn seconds(text: &str) -> Result<f64, String> {
    // A run of a minute is taken for one that hangs.
    within(text, 0.1, 15.0)
}

fn within(text: &str, least: f64, most: f64) -> Result<f64, String> {
    let number: f64 = text.parse().map_err(|_| "not a number".to_owned())?;
    if (least..=most).contains(&number) {
        Ok(number)
    } else {
        Err(format!("not from {least} to {most}"))
    }
}
