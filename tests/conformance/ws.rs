use std::io;
use std::net::Ipv4Addr;

use futures::future::BoxFuture;
use pipe_conformance::{Cabled, Fixture, Setup, Stalled};
use pipe_core::{Addr, Config, Result};
use pipewerks::ws::{Identity, Roots, TlsOptions, WsTransport};
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;

use crate::cable::lay_tcp;
use crate::tcp::vacant_socket;
use crate::tls;

/// WebSocket over TCP on loopback.
pub(crate) struct Ws;

impl Fixture for Ws {
    type Transport = Cabled<WsTransport>;

    fn name(&self) -> &str {
        "ws"
    }

    fn setup(&self, config: Config) -> Result<Setup<Self::Transport>> {
        Ok(Cabled::setup(WsTransport::new().with_config(config)?))
    }

    fn setup_with_faults(&self, config: Config) -> Result<Setup<Self::Transport>> {
        let transport = WsTransport::new().with_config(config)?;
        Ok(Cabled::setup_with_faults(transport, lay_tcp))
    }

    fn listen_addr(&self) -> Addr {
        "ws://127.0.0.1:0/pipe".parse().expect("an address")
    }

    fn vacant_addr(&self) -> Addr {
        let addr = format!("ws://{}/pipe", vacant_socket());
        addr.parse().expect("an address")
    }

    fn stall(&self, addr: &Addr) -> Option<BoxFuture<'static, io::Result<Stalled>>> {
        let port = addr.port().unwrap_or_default();
        Some(Box::pin(stall(port)))
    }
}

/// WebSocket over TLS on loopback, with certificates on both sides.
pub(crate) struct Wss {
    options: TlsOptions,
}

impl Wss {
    pub(crate) fn new() -> Self {
        let identity = Identity::self_signed(["localhost"]).expect("a certificate");
        let roots = Roots::of(&identity).expect("a root");
        let options = TlsOptions::new()
            .with_identity(identity)
            .with_roots(roots.clone())
            .with_client_roots(roots);
        Self { options }
    }

    fn transport(&self, config: Config) -> Result<WsTransport> {
        let transport = WsTransport::new().with_tls(self.options.clone());
        transport.with_config(config)
    }
}

impl Fixture for Wss {
    type Transport = Cabled<WsTransport>;

    fn name(&self) -> &str {
        "wss"
    }

    fn setup(&self, config: Config) -> Result<Setup<Self::Transport>> {
        Ok(Cabled::setup(self.transport(config)?))
    }

    fn setup_with_faults(&self, config: Config) -> Result<Setup<Self::Transport>> {
        Ok(Cabled::setup_with_faults(self.transport(config)?, lay_tcp))
    }

    fn listen_addr(&self) -> Addr {
        "wss://127.0.0.1:0/pipe".parse().expect("an address")
    }

    fn vacant_addr(&self) -> Addr {
        let addr = format!("wss://{}/pipe", vacant_socket());
        addr.parse().expect("an address")
    }

    fn stall(&self, addr: &Addr) -> Option<BoxFuture<'static, io::Result<Stalled>>> {
        let port = addr.port().unwrap_or_default();
        Some(Box::pin(tls::stall(port)))
    }
}

/// Opens a WebSocket by hand, and sends nothing in it.
async fn stall(port: u16) -> io::Result<Stalled> {
    let request = "GET /pipe HTTP/1.1\r\nHost: localhost\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
                   Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\
                   Sec-WebSocket-Protocol: pipe.1\r\n\r\n";
    let mut socket = TcpStream::connect((Ipv4Addr::LOCALHOST, port)).await?;
    socket.write_all(request.as_bytes()).await?;
    Ok(tls::stalled(socket))
}
