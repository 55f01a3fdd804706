use std::net::IpAddr;

use pipewerks::{Addr, Listener};
use serde::Serialize;

use crate::door::{Door, GuardArgs};
use crate::failure::Failure;
use crate::net::{Net, NetArgs};
use crate::report::Report;
use crate::stop::Stop;
use crate::token::{PARAM, Token};

/// The context of every command.
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
    /// Listens, and reports the address to dial, or the list of them. With `secret`, that has a token; a token that the
    /// address has already counts in any case.
    pub(crate) async fn listen(
        &self,
        net: &NetArgs,
        addr: &str,
        guard: &GuardArgs,
        secret: bool,
    ) -> Result<Door, Failure> {
        let addr = Net::addr(addr)?;
        let token = match addr.token()? {
            Some(_) if guard.no_token => {
                let why = format!("{addr}: it has a token, which --no-token leaves out");
                return Err(Failure::usage(why));
            }
            Some(token) => Some(token.clone()),
            None if secret && !guard.no_token => Some(Token::random()?),
            None => None,
        };
        let listener = Net::new(net)?.listen(&addr).await?;
        let local = listener.local_addr();
        let bound = addr.alternatives().iter().zip(local.alternatives());
        for (asked, local) in bound {
            if let Some(why) = exposed(asked, local) {
                self.report.warn(format_args!("{local}: {why}"));
            }
        }
        let shown = match &token {
            Some(token) => local.with_param(PARAM, token.as_str()),
            None => local,
        };
        let shown = shown.as_str();
        self.report.note(
            format_args!("listening on {shown}"),
            &Listening { addr: shown },
        );
        Ok(Door::new(listener, token, guard.max_conns))
    }

    /// Returns the failure of a command that was stopped before its end.
    pub(crate) fn stopped(&self) -> Failure {
        Failure::new(self.stop.exit(), "stopped before everything was done")
    }
}

/// Returns the warning for an address that other machines may reach.
fn exposed(asked: &Addr, local: &Addr) -> Option<&'static str> {
    let why = match asked.scheme() {
        "tcp" => {
            "tcp:// is neither encrypted nor authenticated, and others than this machine can reach it: who is \
             on the way can read and change everything, the token too; tls:// and quic:// prevent that"
        }
        "ws" => {
            "ws:// is neither encrypted nor authenticated, and others than this machine can reach it: who is on \
             the way can read and change everything, the token too; wss:// prevents that"
        }
        "nats" => {
            "nats:// is not authenticated from end to end: the broker, and who may subscribe to what it carries, \
             can read and change everything, the token too; webrtc+nats:// keeps the streams from them"
        }
        "webrtc+ws" => {
            "the signalling over ws:// is not authenticated, and others than this machine can reach it: who \
             is on the way can take the place of either side; webrtc+wss:// prevents that"
        }
        "webrtc+http" => {
            "the signalling over http:// is not authenticated, and others than this machine can reach it: who \
             is on the way can take the place of either side; webrtc+https:// prevents that"
        }
        "webrtc+tcp" => {
            "the signalling over tcp:// is not authenticated, and others than this machine can reach it: who \
             is on the way can take the place of either side; webrtc+tls:// prevents that"
        }
        _ => return None,
    };
    // A name stands for the listener's resolved address.
    let inside = loopback(asked).or_else(|| loopback(local));
    (inside != Some(true)).then_some(why)
}

/// Returns whether an address is one of this machine only, if it is an IP address.
fn loopback(addr: &Addr) -> Option<bool> {
    let host = addr.host()?.trim_matches(['[', ']']);
    let ip: IpAddr = host.parse().ok()?;
    Some(ip.to_canonical().is_loopback())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_others_can_reach_unprotected_is_told() {
        let addr = |text: &str| Addr::parse(text).unwrap();
        for (asked, local, told) in [
            ("tcp://127.0.0.1:0", "tcp://127.0.0.1:1", false),
            ("tcp://[::1]:0", "tcp://[::1]:1", false),
            ("tcp://localhost:0", "tcp://127.0.0.1:1", false),
            ("tcp://0.0.0.0:0", "tcp://127.0.0.1:1", true),
            ("tcp://[::]:0", "tcp://[::1]:1", true),
            ("tcp://192.0.2.1:0", "tcp://192.0.2.1:1", true),
            ("tcp://host:0", "tcp://192.0.2.1:1", true),
            ("webrtc+tcp://0.0.0.0:0", "webrtc+tcp://0.0.0.0:1", true),
            ("ws://0.0.0.0:0", "ws://127.0.0.1:1", true),
            ("ws://[::1]:0/a", "ws://[::1]:1/a", false),
            ("webrtc+ws://0.0.0.0:0", "webrtc+ws://0.0.0.0:1", true),
            ("webrtc+http://0.0.0.0:0", "webrtc+http://0.0.0.0:1", true),
            (
                "webrtc+http://127.0.0.1:0/a",
                "webrtc+http://127.0.0.1:1/a",
                false,
            ),
            (
                "webrtc+https://0.0.0.0:0",
                "webrtc+https://0.0.0.0:1",
                false,
            ),
            ("nats://192.0.2.1/a", "nats://192.0.2.1/a", true),
            ("nats://127.0.0.1/a", "nats://127.0.0.1/a", false),
            ("wss://0.0.0.0:0", "wss://0.0.0.0:1", false),
            ("tls://0.0.0.0:0", "tls://0.0.0.0:1", false),
            ("quic://0.0.0.0:0", "quic://0.0.0.0:1", false),
            ("unix:///x", "unix:///x", false),
        ] {
            assert_eq!(
                exposed(&addr(asked), &addr(local)).is_some(),
                told,
                "{asked}"
            );
        }
    }
}
