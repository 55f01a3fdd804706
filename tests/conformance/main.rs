//! The conformance suite, on every transport of the default features.

mod cable;
mod inproc;
#[cfg(unix)]
mod list;
mod tcp;
mod tls;
#[cfg(unix)]
mod unix;
mod ws;

use inproc::{Inproc, SlowInproc};
use pipe_conformance::Suite;
use tcp::Tcp;
use tls::Tls;
use ws::{Ws, Wss};

fn main() -> std::process::ExitCode {
    let suite = Suite::new()
        .with(Inproc)
        .with(SlowInproc)
        .with(Tcp)
        .with(Tls::new())
        .with(Ws)
        .with(Wss::new());
    #[cfg(unix)]
    let suite = suite.with(unix::Unix::new()).with(list::List::new());
    suite.main()
}
