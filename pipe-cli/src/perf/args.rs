use std::time::Duration;

use clap::Args;

use crate::duration;
use crate::net::NetArgs;

#[derive(Args, Clone, Debug)]
pub(crate) struct PerfArgs {
    /// Address where `pipe perf --serve` listens; with --serve, where to listen
    pub(super) addr: String,
    /// Listen, and be measured until interrupted
    #[arg(long, conflicts_with_all = ["time", "streams"])]
    pub(super) serve: bool,
    /// How long to measure each direction, up to 10 minutes
    #[arg(short, long, value_name = "TIME", default_value = "3", value_parser = duration::parse)]
    pub(super) time: Duration,
    /// How many streams to use at once
    #[arg(long = "stream", value_name = "N", default_value_t = 4, value_parser = clap::value_parser!(u16).range(1..=128))]
    pub(super) streams: u16,
    #[command(flatten)]
    pub(super) net: NetArgs,
}
