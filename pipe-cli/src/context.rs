use pipewerks::{Addr, BoxListener, Listener};
use serde::Serialize;

use crate::failure::Failure;
use crate::net::{Net, NetArgs};
use crate::report::Report;
use crate::stop::Stop;

/// What every command works with.
#[derive(Clone, Debug)]
pub(crate) struct Context {
    pub(crate) report: Report,
    pub(crate) stop: Stop,
}

#[derive(Serialize)]
#[serde(tag = "event", rename = "listening")]
struct Listening<'a> {
    addr: &'a str,
}

impl Context {
    /// Listens, and tells the address that dials it.
    pub(crate) async fn listen(&self, net: &NetArgs, addr: &str) -> Result<BoxListener, Failure> {
        let addr = Net::addr(addr)?;
        let listener = Net::new(net)?.listen(&addr).await?;
        self.listening(&listener.local_addr());
        Ok(listener)
    }

    pub(crate) fn listening(&self, local: &Addr) {
        let addr = local.as_str();
        self.report
            .note(format_args!("listening on {addr}"), &Listening { addr });
    }

    /// What a command returns that was stopped before its end.
    pub(crate) fn stopped(&self) -> Failure {
        Failure::new(self.stop.exit(), "stopped before everything was done")
    }
}
