use std::future::pending;
use std::io;
use std::net::Ipv4Addr;
use std::sync::Arc;

use futures::future::BoxFuture;
use pipe_conformance::{Cabled, Fixture, Setup, Stalled};
use pipe_core::{Addr, Config, Result};
use pipewerks::tls::{Identity, Roots, TlsOptions, TlsTransport};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::sync::oneshot;
use tokio_rustls::rustls::{self, ClientConfig, ClientConnection, RootCertStore};

use crate::cable::lay_tcp;
use crate::tcp::vacant_socket;

/// TLS over TCP on loopback, with certificates on both sides.
pub(crate) struct Tls {
    options: TlsOptions,
}

impl Tls {
    pub(crate) fn new() -> Self {
        let identity = Identity::self_signed(["localhost"]).expect("a certificate");
        let roots = Roots::of(&identity).expect("a root");
        let options = TlsOptions::new()
            .with_identity(identity)
            .with_roots(roots.clone())
            .with_client_roots(roots);
        Self { options }
    }

    fn transport(&self, config: Config) -> Result<TlsTransport> {
        let transport = TlsTransport::new().with_tls(self.options.clone());
        transport.with_config(config)
    }
}

impl Fixture for Tls {
    type Transport = Cabled<TlsTransport>;

    fn name(&self) -> &str {
        "tls"
    }

    fn setup(&self, config: Config) -> Result<Setup<Self::Transport>> {
        Ok(Cabled::setup(self.transport(config)?))
    }

    fn setup_with_faults(&self, config: Config) -> Result<Setup<Self::Transport>> {
        Ok(Cabled::setup_with_faults(self.transport(config)?, lay_tcp))
    }

    fn listen_addr(&self) -> Addr {
        "tls://127.0.0.1:0".parse().expect("an address")
    }

    fn vacant_addr(&self) -> Addr {
        let addr = format!("tls://{}", vacant_socket());
        addr.parse().expect("an address")
    }

    fn stall(&self, addr: &Addr) -> Option<BoxFuture<'static, io::Result<Stalled>>> {
        let port = addr.port().unwrap_or_default();
        Some(Box::pin(stall(port)))
    }
}

/// Sends the first flight of a client, and nothing after the listener's.
pub(crate) async fn stall(port: u16) -> io::Result<Stalled> {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(io::Error::other)?
        .with_root_certificates(RootCertStore::empty())
        .with_no_client_auth();
    let name = "localhost".try_into().map_err(io::Error::other)?;
    let mut client = ClientConnection::new(Arc::new(config), name).map_err(io::Error::other)?;
    let mut hello = Vec::new();
    client.write_tls(&mut hello)?;
    let mut socket = TcpStream::connect((Ipv4Addr::LOCALHOST, port)).await?;
    socket.write_all(&hello).await?;
    Ok(stalled(socket))
}

/// Reads what the listener answers, and says nothing more.
pub(crate) fn stalled(mut socket: TcpStream) -> Stalled {
    let (answered, answer) = oneshot::channel();
    let ended = async move {
        let mut buf = [0; 4096];
        let mut answered = Some(answered);
        while socket.read(&mut buf).await.is_ok_and(|n| n > 0) {
            if let Some(answered) = answered.take() {
                let _ = answered.send(());
            }
        }
    };
    let answered = async move {
        if answer.await.is_err() {
            // It has ended without one.
            pending::<()>().await;
        }
    };
    Stalled::new(answered, ended)
}
