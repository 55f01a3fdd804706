//! Real deaths of the peer: its process is killed or stopped, or the network between is cut. And, for
//! transports over datagrams, networks that lose and reorder them, and clients that move.
//!
//! The peers are processes of this program, which runs again in another role. The network is made of
//! namespaces, which takes root; where they cannot be had, the tests about it are skipped, unless `CI`
//! or `PIPE_REQUIRE_PEERS` is set: then they fail. What becomes of single datagrams is decided by a relay
//! on the loopback device, which takes no rights, no module of the kernel, and does the same each time.

mod back;
mod child;
mod cut;
mod datagrams;
mod killed;
mod lists;
mod network;
mod peer;
mod relay;
mod webrtc;

use std::process::ExitCode;

use libtest_mimic::Trial;

/// Does the task that this process was started for, if it is a peer.
pub(crate) fn run_as_peer() -> Option<ExitCode> {
    let task = peer::Task::of_this_process()?;
    Some(child::run(&task))
}

/// Returns the tests on every transport.
pub(crate) fn trials() -> Vec<Trial> {
    let mut trials = Vec::new();
    for more in [
        killed::trials(),
        cut::trials(),
        datagrams::trials(),
        webrtc::trials(),
        back::trials(),
        lists::trials(),
    ] {
        trials.extend(more);
    }
    trials.sort_by(|a, b| a.name().cmp(b.name()));
    trials
}
