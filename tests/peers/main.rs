//! Peers that are processes of their own: programs of other makes (`interop`), and our own that die, stop and
//! lose the network (`faults`).

#[cfg(target_os = "linux")]
mod faults;
mod interop;
#[cfg(target_os = "linux")]
mod namespace;

use std::process::ExitCode;

use libtest_mimic::Arguments;

fn main() -> ExitCode {
    #[cfg(target_os = "linux")]
    if let Some(code) = faults::run_as_peer() {
        return code;
    }
    let args = Arguments::from_args();
    let trials = interop::trials();
    #[cfg(target_os = "linux")]
    let trials = trials.into_iter().chain(faults::trials()).collect();
    libtest_mimic::run(&args, trials).exit_code()
}
