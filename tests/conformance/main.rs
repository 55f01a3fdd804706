//! The conformance suite, on every transport of the default features.

mod inproc;
mod proxied;
mod tcp;
mod tls;
#[cfg(unix)]
mod unix;

use inproc::{Inproc, SlowInproc};
use pipe_conformance::Suite;
use tcp::Tcp;
use tls::Tls;

fn main() -> std::process::ExitCode {
    let suite = Suite::new()
        .with(Inproc)
        .with(SlowInproc)
        .with(Tcp)
        .with(Tls::new());
    #[cfg(unix)]
    let suite = suite.with(unix::Unix::new());
    suite.main()
}
