//! The `zmux` crate, with its defaults: its windows grow by themselves, as ours do.

use std::io;
use std::sync::{Arc, LazyLock};

use tokio::io::{Join, join};
use tokio::net::TcpStream;
use zmux::{Config, EarlyData, PipeIo, RecvStream, SendStream, Session};

use super::rival::Rival;
use crate::{Acceptor, Opener};

/// One for all sessions, as the crate advises. The peer is known to be of the same crate, so that the first request
/// may leave together with the parameters.
static CONFIG: LazyLock<Arc<Config>> = LazyLock::new(|| {
    let mut config = Config::default();
    config.early_data = EarlyData::for_zmux_peer();
    Arc::new(config)
});

pub(super) struct Zmux;

#[derive(Clone)]
pub(crate) struct ZmuxEnd(Session);

impl Rival for Zmux {
    type Opener = ZmuxEnd;
    type Acceptor = ZmuxEnd;

    async fn over(near: TcpStream, far: TcpStream) -> io::Result<(ZmuxEnd, ZmuxEnd)> {
        let near = Session::connect(PipeIo::tcp(near), CONFIG.clone());
        let far = Session::accept(PipeIo::tcp(far), CONFIG.clone());
        let (near, far) = tokio::try_join!(near, far).map_err(io::Error::other)?;
        Ok((ZmuxEnd(near), ZmuxEnd(far)))
    }
}

impl Opener for ZmuxEnd {
    type Stream = Join<RecvStream, SendStream>;

    async fn open(&self) -> io::Result<Self::Stream> {
        let (send, recv) = self.0.open_bi().await.map_err(io::Error::other)?;
        Ok(join(recv, send))
    }
}

impl Acceptor for ZmuxEnd {
    type Stream = Join<RecvStream, SendStream>;

    async fn accept(&mut self) -> Option<Self::Stream> {
        let (send, recv) = self.0.accept_bi().await.ok()?;
        Some(join(recv, send))
    }
}
