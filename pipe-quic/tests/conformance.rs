//! The conformance suite over QUIC on loopback.

#[path = "it/proxy.rs"]
mod proxy;

use std::future::ready;
use std::io;
use std::net::{SocketAddr, UdpSocket};
use std::sync::{Arc, LazyLock};

use futures::future::BoxFuture;
use pipe_conformance::{Fixture, Setup, Stalled, conformance};
use pipe_core::{Addr, Config, Result};
use pipe_quic::{QuicTransport, TlsOptions, quinn};
use quinn::crypto::rustls::QuicClientConfig;

use proxy::{Cable, Proxied};

/// QUIC on loopback.
struct Quic;

impl Fixture for Quic {
    type Transport = Proxied;

    fn name(&self) -> &str {
        "quic"
    }

    fn setup(&self, config: Config) -> Result<Setup<Proxied>> {
        Ok(Setup::new(Proxied {
            transport: QuicTransport::new().with_config(config)?,
            cable: None,
        }))
    }

    fn setup_with_faults(&self, config: Config) -> Result<Setup<Proxied>> {
        let cable = Arc::new(Cable::default());
        let mut setup = Setup::new(Proxied {
            transport: QuicTransport::new().with_config(config)?,
            cable: Some(cable.clone()),
        });
        setup.faults = Some(cable);
        Ok(setup)
    }

    fn listen_addr(&self) -> Addr {
        "quic://127.0.0.1:0".parse().expect("an address")
    }

    fn vacant_addr(&self) -> Addr {
        // Bound, so that nobody else gets the port, and connected, so that it takes no datagrams of
        // others.
        static VACANT: LazyLock<(UdpSocket, SocketAddr)> = LazyLock::new(|| {
            let socket = UdpSocket::bind("127.0.0.1:0").expect("a free port");
            let addr = socket.local_addr().expect("its address");
            socket.connect(addr).expect("a socket of one peer");
            (socket, addr)
        });
        format!("quic://{}", VACANT.1).parse().expect("an address")
    }

    fn stall(&self, addr: &Addr) -> Option<BoxFuture<'static, io::Result<Stalled>>> {
        Some(Box::pin(stall(addr.clone())))
    }
}

/// Connects with plain quinn, and does not say hello.
async fn stall(addr: Addr) -> io::Result<Stalled> {
    let pin = addr.param("cert-sha256").unwrap_or_default();
    let pin = pin.parse().map_err(io::Error::other)?;
    let tls = TlsOptions::new().client_config(Some(pin), &[b"pipe/1"])?;
    let tls = QuicClientConfig::try_from(tls).map_err(io::Error::other)?;
    let endpoint = quinn::Endpoint::client(([127, 0, 0, 1], 0).into())?;
    let to = SocketAddr::from(([127, 0, 0, 1], addr.port().unwrap_or_default()));
    let config = quinn::ClientConfig::new(Arc::new(tls));
    let connecting = endpoint.connect_with(config, to, "localhost");
    let conn = connecting.map_err(io::Error::other)?.await?;
    let ended = async move {
        conn.closed().await;
        drop(endpoint);
    };
    Ok(Stalled::new(ready(()), ended))
}

conformance!(Quic);
