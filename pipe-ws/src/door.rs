use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::task::{Context, Poll};

use pipe_core::backend::Progress;
use pipe_core::{Addr, Config, Incoming, PeerIdentity, Result, Wire};
use pipe_mux::{Acceptor, Mux, MuxBuilder, MuxConn};
use pipe_net::{Reception, SharedSocket, SocketOptions, first_byte, tls};
use pipe_tls::peer_identity;
use pipe_tls::rustls::ServerConfig;
use tokio::io::{AsyncRead, AsyncWrite, split};
use tokio::net::{TcpListener, TcpStream};

use crate::addr::WsAddr;
use crate::carrier::WsCarrier;
use crate::frame::Role;
use crate::gate::Gate;
use crate::halves::halves;
use crate::serving::{Served, serve};

/// A TCP socket that listens.
pub(crate) struct Door(pub(crate) TcpListener);

/// Makes connections of sockets.
pub(crate) struct Upgrade {
    pub(crate) config: Config,
    pub(crate) options: SocketOptions,
    pub(crate) reception: Reception,
    pub(crate) gate: Gate,
    pub(crate) tls: Option<Arc<ServerConfig>>,
    pub(crate) on: WsAddr,
    pub(crate) local: Addr,
}

impl Acceptor for Door {
    type Raw = (TcpStream, SocketAddr);
    type Upgrade = Upgrade;

    fn poll_accept(&self, cx: &mut Context<'_>) -> Poll<io::Result<Self::Raw>> {
        self.0.poll_accept(cx)
    }

    fn incoming((_, peer): &Self::Raw) -> Incoming {
        Incoming::from_socket(*peer)
    }

    async fn upgrade(
        upgrade: &Upgrade,
        (mut socket, peer): Self::Raw,
        progress: &Progress,
    ) -> Result<MuxConn> {
        let peer = upgrade.reception.peer(&mut socket, peer, progress).await?;
        // A request comes first on both wires.
        progress.first_byte(first_byte(&socket)).await?;
        upgrade.options.apply(&socket)?;
        let socket = Arc::new(socket);
        let io = SharedSocket::new(socket.clone());
        let Some(config) = &upgrade.tls else {
            let served = serve(io, &upgrade.on, &upgrade.gate, peer).await?;
            progress.heard();
            let (io, mux) = upgrade.mux(served, socket, peer, None)?;
            let (reader, writer) = io.0.into_split();
            let (reader, writer) = halves(reader, writer, Role::Server, io.1);
            return mux.server_split(reader, writer).await;
        };
        let context = format!("refused {peer}");
        let tls = tls::accept(&context, config.clone(), io).await?;
        progress.heard();
        let identity = peer_identity(tls.get_ref().1.peer_certificates());
        let served = serve(tls, &upgrade.on, &upgrade.gate, peer).await?;
        progress.heard();
        let (io, mux) = upgrade.mux(served, socket, peer, identity)?;
        let (reader, writer) = split(io.0);
        let (reader, writer) = halves(reader, writer, Role::Server, io.1);
        mux.server_split(reader, writer).await
    }
}

impl Upgrade {
    /// Returns the byte stream with what came early, and the connection to make over it.
    fn mux<T: AsyncRead + AsyncWrite>(
        &self,
        served: Served<T>,
        socket: Arc<TcpStream>,
        peer: SocketAddr,
        identity: Option<PeerIdentity>,
    ) -> Result<((T, bytes::Bytes), MuxBuilder)> {
        let carrier = WsCarrier {
            socket: Some(socket),
            request: Some(served.request),
        };
        let mux = builder(&self.config, self.on.params.wire, carrier)
            .addrs(self.local.clone(), self.on.dialer(peer)?)
            .identity(identity);
        Ok(((served.io, served.early), mux))
    }
}

/// Returns a connection in the making.
pub(crate) fn builder(config: &Config, wire: Wire, carrier: WsCarrier) -> MuxBuilder {
    Mux::builder()
        .config(config.clone())
        .wire(wire)
        .inner(Arc::new(carrier))
}
