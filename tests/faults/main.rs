//! Real deaths of the peer: its process is killed or stopped, or the network between is cut.
//!
//! The peers are processes of this program, which runs again in another role. The network is made of
//! namespaces, which takes root; where they cannot be had, the tests about it are skipped, unless `CI`
//! or `PIPE_REQUIRE_PEERS` is set: then they fail.

#[cfg(target_os = "linux")]
mod child;
#[cfg(target_os = "linux")]
mod cut;
#[cfg(target_os = "linux")]
mod killed;
#[cfg(target_os = "linux")]
mod network;
#[cfg(target_os = "linux")]
mod peer;

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
    trials.extend(killed::trials().into_iter().chain(cut::trials()));
    trials.sort_by(|a, b| a.name().cmp(b.name()));
    libtest_mimic::run(&args, trials).exit_code()
}
