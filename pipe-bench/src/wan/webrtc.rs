use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::{Arc, OnceLock};

use pipe_core::Result;
use pipe_inproc::InprocTransport;
use pipe_webrtc::signaling::{Signal, Signaling};
use pipe_webrtc::{MemorySignaling, WebRtcConn, WebRtcSettings, WebRtcTransport};

use super::contenders::{Connected, Contender};
use super::datagrams::Datagrams;
use super::path::Path;
use crate::ConnStreams;

/// WebRTC, signalled in memory.
pub(super) struct WebRtc;

impl Contender for WebRtc {
    type Opener = ConnStreams<WebRtcConn>;
    type Acceptor = ConnStreams<WebRtcConn>;

    async fn connect(path: Path) -> io::Result<Connected<Self::Opener, Self::Acceptor>> {
        let between = Datagrams::spawn(&path)?;
        let settings = WebRtcSettings::default()
            .with_bind_addrs(vec![IpAddr::V4(Ipv4Addr::LOCALHOST)])
            .with_loopback(true);
        let transport = WebRtcTransport::new(InprocTransport::new()).with_settings(settings)?;
        let (near, far) = MemorySignaling::pair();
        let [near_end, far_end] = between.ends.clone();
        // Each end learns the other's address as the one that leads there over the path.
        let near = Through {
            inner: near,
            end: far_end,
            addr: between.addrs[0],
        };
        let far = Through {
            inner: far,
            end: near_end,
            addr: between.addrs[1],
        };
        let (near, far) = tokio::try_join!(transport.offer_over(near), transport.answer_over(far))?;
        Ok(Connected {
            opener: ConnStreams(near),
            acceptor: ConnStreams(far),
            emulator: between.emulator,
        })
    }
}

/// Signalling that names an address on the way instead of the peer's.
struct Through {
    inner: MemorySignaling,
    /// The peer's address, as soon as it is known.
    end: Arc<OnceLock<SocketAddr>>,
    addr: SocketAddr,
}

impl Signaling for Through {
    fn send(&mut self, signal: Signal) -> impl Future<Output = Result<()>> + Send {
        self.inner.send(signal)
    }

    async fn receive(&mut self) -> Result<Option<Signal>> {
        loop {
            match self.inner.receive().await? {
                Some(Signal::Candidate(mut candidate)) => {
                    // Others lead past the path.
                    let Some((own, text)) = replace(&candidate.candidate, self.addr) else {
                        continue;
                    };
                    if *self.end.get_or_init(|| own) != own {
                        continue;
                    }
                    candidate.candidate = text;
                    return Ok(Some(Signal::Candidate(candidate)));
                }
                other => return Ok(other),
            }
        }
    }
}

/// The address of a candidate over UDP, and the candidate with another one (RFC 8839, section 5.1).
fn replace(candidate: &str, by: SocketAddr) -> Option<(SocketAddr, String)> {
    let mut words: Vec<_> = candidate.split(' ').map(String::from).collect();
    let [_, _, protocol, _, ip, port, ..] = &mut words[..] else {
        return None;
    };
    if !protocol.eq_ignore_ascii_case("udp") {
        return None;
    }
    let own = SocketAddr::new(ip.parse().ok()?, port.parse().ok()?);
    (*ip, *port) = (by.ip().to_string(), by.port().to_string());
    Some((own, words.join(" ")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_candidate_gets_another_address() {
        let by = SocketAddr::from(([127, 0, 0, 1], 7));
        let candidate = "candidate:1 1 udp 2130706431 127.0.0.2 5000 typ host";
        let (own, text) = replace(candidate, by).unwrap();
        assert_eq!(own, SocketAddr::from(([127, 0, 0, 2], 5000)));
        assert_eq!(text, "candidate:1 1 udp 2130706431 127.0.0.1 7 typ host");
        assert_eq!(
            replace("candidate:1 1 tcp 1 127.0.0.2 9 typ host", by),
            None
        );
        assert_eq!(
            replace("candidate:1 1 udp 1 name.local 9 typ host", by),
            None
        );
        assert_eq!(replace("", by), None);
    }
}
