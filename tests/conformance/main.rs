//! The conformance suite, on every transport of the default features.

mod cable;
mod inproc;
#[cfg(unix)]
mod list;
mod nats;
mod tcp;
mod tls;
#[cfg(unix)]
mod unix;
mod ws;

use inproc::{Inproc, SlowInproc};
use nats::{Broker, Nats, WebRtcNats};
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
    // It ends with the last case.
    let broker = match Broker::start() {
        Ok(broker) => broker,
        Err(code) => return code,
    };
    let suite = match &broker {
        Some(broker) => suite.with(Nats(broker.at)).with(WebRtcNats(broker.at)),
        None => suite,
    };
    suite.main()
}
