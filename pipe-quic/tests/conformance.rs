//! The conformance suite over QUIC on loopback.

#[path = "it/proxy.rs"]
mod proxy;

use std::future::ready;
use std::io;
use std::net::{SocketAddr, UdpSocket};
use std::sync::{Arc, LazyLock};

use futures::future::BoxFuture;
use pipe_conformance::{Fixture, Setup, Stalled, conformance};
use pipe_core::{Addr, Config, Result, Transport};
use pipe_quic::{CertPins, QuicConn, QuicListener, QuicTransport, TlsOptions, WtTransport, quinn};
use quinn::crypto::rustls::QuicClientConfig;

use proxy::{Cable, Proxied};

/// QUIC on loopback, by itself or below WebTransport.
struct Quic<T> {
    name: &'static str,
    listen_addr: &'static str,
    /// The protocol of TLS.
    alpn: &'static [u8],
    transport: fn(Config) -> Result<T>,
}

fn quic() -> Quic<QuicTransport> {
    Quic {
        name: "quic",
        listen_addr: "quic://127.0.0.1:0",
        alpn: b"pipe/1",
        transport: |config| QuicTransport::new().with_config(config),
    }
}

fn web_transport() -> Quic<WtTransport> {
    Quic {
        name: "wt",
        listen_addr: "wt://127.0.0.1:0/a/path",
        alpn: b"h3",
        transport: |config| WtTransport::new().with_config(config),
    }
}

impl<T: Transport<Conn = QuicConn, Listener = QuicListener>> Fixture for Quic<T> {
    type Transport = Proxied<T>;

    fn name(&self) -> &str {
        self.name
    }

    fn setup(&self, config: Config) -> Result<Setup<Proxied<T>>> {
        Ok(Setup::new(Proxied {
            transport: (self.transport)(config)?,
            cable: None,
        }))
    }

    fn setup_with_faults(&self, config: Config) -> Result<Setup<Proxied<T>>> {
        let cable = Arc::new(Cable::default());
        let mut setup = Setup::new(Proxied {
            transport: (self.transport)(config)?,
            cable: Some(cable.clone()),
        });
        setup.faults = Some(cable);
        Ok(setup)
    }

    fn listen_addr(&self) -> Addr {
        self.listen_addr.parse().expect("an address")
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
        let addr = format!("{}://{}", self.name, VACANT.1);
        addr.parse().expect("an address")
    }

    fn stall(&self, addr: &Addr) -> Option<BoxFuture<'static, io::Result<Stalled>>> {
        Some(Box::pin(stall(addr.clone(), self.alpn)))
    }
}

/// Connects with plain quinn, and does not say hello.
async fn stall(addr: Addr, alpn: &'static [u8]) -> io::Result<Stalled> {
    let pins = addr.param("cert-sha256").unwrap_or_default();
    let pins = pins.parse::<CertPins>().map_err(io::Error::other)?;
    let tls = TlsOptions::new().client_config(pins, &[alpn])?;
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

conformance!(quic(), web_transport());
