//! Real deaths of the peer: its process is killed or stopped, or the network between is cut. And, for
//! transports over datagrams, networks that lose and reorder them, and clients that move.
//!
//! The peers are processes of this program, which runs again in another role. The network is made of
//! namespaces, which takes root; where they cannot be had, the tests about it are skipped, unless `CI`
//! or `PIPE_REQUIRE_PEERS` is set: then they fail. What becomes of single datagrams is decided by a relay
//! on the loopback device, which takes no rights, no module of the kernel, and does the same each time.

#[cfg(target_os = "linux")]
mod child;
#[cfg(target_os = "linux")]
mod cut;
#[cfg(target_os = "linux")]
mod datagrams;
#[cfg(target_os = "linux")]
mod killed;
#[cfg(target_os = "linux")]
#[path = "../support/namespace.rs"]
mod namespace;
#[cfg(target_os = "linux")]
mod network;
#[cfg(target_os = "linux")]
mod peer;
#[cfg(target_os = "linux")]
mod relay;
#[cfg(target_os = "linux")]
mod webrtc;

use std::process::ExitCode;

use libtest_mimic::Arguments;

fn main() -> ExitCode {
    #[cfg(target_os = "linux")]
    if let Some(task) = peer::Task::of_this_process() {
        return child::run(&task);
    }
    let args = Arguments::from_args();
    let mut trials = Vec::new();
    #[cfg(target_os = "linux")]
    for more in [
        killed::trials(),
        cut::trials(),
        datagrams::trials(),
        webrtc::trials(),
    ] {
        trials.extend(more);
    }
    trials.sort_by(|a, b| a.name().cmp(b.name()));
    libtest_mimic::run(&args, trials).exit_code()
}
