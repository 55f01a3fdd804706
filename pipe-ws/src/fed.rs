use std::io;
use std::task::{Context, Poll};

use bytes::Bytes;
use parking_lot::Mutex;
use pipe_core::backend::Progress;
use pipe_core::{Addr, Config, Error, ErrorKind, Incoming, Result};
use pipe_mux::{Acceptor, MuxConn};
use pipe_net::HttpRequest;
use tokio::io::{AsyncRead, AsyncWrite, split};
use tokio::sync::mpsc;

use crate::addr::WsAddr;
use crate::carrier::WsCarrier;
use crate::door::builder;
use crate::frame::Role;
use crate::halves::halves;

/// A byte stream that another server has upgraded.
pub(crate) trait Io: AsyncRead + AsyncWrite + Unpin + Send {}

impl<T: AsyncRead + AsyncWrite + Unpin + Send> Io for T {}

/// A connection that another server has accepted.
pub(crate) struct Fed {
    pub(crate) io: Box<dyn Io>,
    pub(crate) request: HttpRequest,
}

/// Accepts what another server hands over.
pub(crate) struct FedDoor(pub(crate) Mutex<mpsc::Receiver<Fed>>);

/// Makes connections of what was handed over.
pub(crate) struct FedUpgrade {
    pub(crate) config: Config,
    pub(crate) on: WsAddr,
    pub(crate) local: Addr,
}

impl Acceptor for FedDoor {
    type Raw = Fed;
    type Upgrade = FedUpgrade;

    fn poll_accept(&self, cx: &mut Context<'_>) -> Poll<io::Result<Fed>> {
        self.0.lock().poll_recv(cx).map(|fed| {
            fed.ok_or_else(|| {
                let why = "the server has dropped the service that hands connections over";
                Error::new(ErrorKind::Failed, why).into()
            })
        })
    }

    fn incoming(raw: &Fed) -> Incoming {
        let remote = raw.request.remote();
        remote.map_or_else(Incoming::unknown, Incoming::from_socket)
    }

    async fn upgrade(upgrade: &FedUpgrade, raw: Fed, progress: &Progress) -> Result<MuxConn> {
        // The request was the first message of the peer.
        progress.begin().await;
        let FedUpgrade { config, on, local } = upgrade;
        let remote = match raw.request.remote() {
            Some(remote) => on.dialer(remote)?,
            None => Addr::opaque(local.scheme())?,
        };
        let carrier = WsCarrier {
            socket: None,
            request: Some(raw.request),
        };
        let (reader, writer) = split(raw.io);
        let (reader, writer) = halves(reader, writer, Role::Server, Bytes::new());
        builder(config, on.params.wire, carrier)
            .addrs(local.clone(), remote)
            .server_split(reader, writer)
            .await
    }
}
