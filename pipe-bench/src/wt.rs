//! `wt://` against `web-transport-quinn` by hand, with the same settings of quinn, and against `quic://`.

use std::io;

use pipe_core::{Addr, Listener, Transport};
use pipe_quic::{QuicConn, WtTransport};
use tokio::io::{Join, join};
use web_transport_quinn::{RecvStream, Request, SendStream, Session};

use crate::cells::{Contenders, cells};
use crate::measure::{Measure, Pair};
use crate::quic::{AMOUNTS, Ends, Ours as Quic, Quinn, same};
use crate::{Acceptor, ConnStreams, Flavor, Opener, Scenario};

/// The name of ours.
const OURS: &str = "pipewerks wt";
const BY_HAND: &str = "web-transport-quinn, same settings";
const QUIC: &str = "pipewerks quic";

/// How fast it is, on one flavor of runtime.
pub fn speed(flavor: Flavor) -> Vec<Scenario> {
    cells::<Against>(flavor, &AMOUNTS)
}

struct Against;

impl Contenders for Against {
    fn enter(scenario: Scenario, measure: impl Measure) -> Scenario {
        scenario
            .contender(OURS, move || measure.run::<Ours>())
            .contender(BY_HAND, move || measure.run::<ByHand>())
            .contender(QUIC, move || measure.run::<Quic>())
    }
}

/// Ours.
struct Ours;

impl Pair for Ours {
    type Opener = ConnStreams<QuicConn>;
    type Acceptor = ConnStreams<QuicConn>;

    async fn connect() -> io::Result<(Self::Opener, Self::Acceptor)> {
        let transport = WtTransport::new();
        let any = Addr::parse("wt://127.0.0.1:0/bench")?;
        let listener = transport.listen(&any).await?;
        let addr = listener.local_addr();
        let (near, far) = tokio::try_join!(transport.dial(&addr), listener.accept())?;
        Ok((ConnStreams(near), ConnStreams(far)))
    }
}

/// The other crate, over connections of quinn with our settings.
struct ByHand;

impl Pair for ByHand {
    type Opener = WebSession;
    type Acceptor = WebSession;

    async fn connect() -> io::Result<(WebSession, WebSession)> {
        let ends = Ends::with_protocol(b"h3", same()?, Some(4 * 1024 * 1024))?;
        let (near, far) = ends.connect().await?;
        let url = "https://127.0.0.1/bench".parse::<url::Url>();
        let url = url.map_err(io::Error::other)?;
        let ask = async {
            let asked = Session::connect(near.conn.clone(), url).await;
            asked.map_err(io::Error::other)
        };
        let grant = async {
            let asked = Request::accept(far.conn.clone()).await;
            let granted = asked.map_err(io::Error::other)?.ok().await;
            granted.map_err(io::Error::other)
        };
        let (asked, granted) = tokio::try_join!(ask, grant)?;
        let near = WebSession {
            session: asked,
            _quinn: near,
        };
        let far = WebSession {
            session: granted,
            _quinn: far,
        };
        Ok((near, far))
    }
}

/// One side of a session, with the connection that carries it.
#[derive(Clone)]
struct WebSession {
    session: Session,
    _quinn: Quinn,
}

impl Opener for WebSession {
    type Stream = Join<RecvStream, SendStream>;

    async fn open(&self) -> io::Result<Self::Stream> {
        let opened = self.session.open_bi().await;
        let (send, recv) = opened.map_err(io::Error::other)?;
        Ok(join(recv, send))
    }
}

impl Acceptor for WebSession {
    type Stream = Join<RecvStream, SendStream>;

    async fn accept(&mut self) -> Option<Self::Stream> {
        let (send, recv) = self.session.accept_bi().await.ok()?;
        Some(join(recv, send))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::measure::works;

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn every_contender_does_the_work() {
        works::<Ours>().await;
        works::<ByHand>().await;
    }
}
