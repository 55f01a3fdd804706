//! The transports that are attacked, on loopback and with the addresses that their listeners tell.

use std::net::{IpAddr, Ipv4Addr};

use pipe_conformance::{Fixture, Setup};
use pipewerks::inproc::{InprocTransport, Namespace};
use pipewerks::quic::{QuicTransport, WtTransport};
use pipewerks::tcp::TcpTransport;
use pipewerks::tls::TlsTransport;
use pipewerks::webrtc::{WebRtcSettings, WebRtcTransport};
use pipewerks::ws::WsTransport;
use pipewerks::{Addr, Config, Result};

fn addr(text: &str) -> Addr {
    text.parse().expect("an address")
}

/// A target on loopback whose listener takes any port.
macro_rules! target {
    ($(#[$doc:meta])* $target:ident, $name:literal, $addr:literal, $transport:ty, $make:expr) => {
        $(#[$doc])*
        pub(crate) struct $target;

        impl Fixture for $target {
            type Transport = $transport;

            fn name(&self) -> &str {
                $name
            }

            fn setup(&self, config: Config) -> Result<Setup<Self::Transport>> {
                Ok(Setup::new($make.with_config(config)?))
            }

            fn listen_addr(&self) -> Addr {
                addr($addr)
            }

            fn vacant_addr(&self) -> Addr {
                addr($addr)
            }
        }
    };
}

target!(
    /// TLS, with a certificate that the listener makes.
    Tls, "tls", "tls://127.0.0.1:0", TlsTransport, TlsTransport::new()
);

target!(
    /// WebSocket in the clear.
    Ws, "ws", "ws://127.0.0.1:0", WsTransport, WsTransport::new()
);

target!(
    /// WebSocket over TLS, with a certificate that the listener makes.
    Wss, "wss", "wss://127.0.0.1:0", WsTransport, WsTransport::new()
);

target!(
    /// QUIC, with a certificate that the listener makes.
    Quic, "quic", "quic://127.0.0.1:0", QuicTransport, QuicTransport::new()
);

target!(
    /// WebTransport, with a certificate that the listener makes.
    Wt, "wt", "wt://127.0.0.1:0", WtTransport, WtTransport::new()
);

/// TCP, with `pipe/1` or plain yamux.
pub(crate) struct Tcp {
    pub(crate) raw: bool,
}

impl Fixture for Tcp {
    type Transport = TcpTransport;

    fn name(&self) -> &str {
        if self.raw { "tcp-raw" } else { "tcp" }
    }

    fn setup(&self, config: Config) -> Result<Setup<TcpTransport>> {
        Ok(Setup::new(TcpTransport::new().with_config(config)?))
    }

    fn listen_addr(&self) -> Addr {
        addr(if self.raw {
            "tcp://127.0.0.1:0?wire=raw"
        } else {
            "tcp://127.0.0.1:0"
        })
    }

    fn vacant_addr(&self) -> Addr {
        self.listen_addr()
    }
}

/// Unix sockets, by files.
#[cfg(unix)]
pub(crate) struct Unix;

#[cfg(unix)]
impl Fixture for Unix {
    type Transport = pipewerks::unix::UnixTransport;

    fn name(&self) -> &str {
        "unix"
    }

    fn setup(&self, config: Config) -> Result<Setup<Self::Transport>> {
        let transport = pipewerks::unix::UnixTransport::new().with_config(config)?;
        Ok(Setup::new(transport))
    }

    fn listen_addr(&self) -> Addr {
        let folder = std::env::temp_dir();
        let name = format!("pipe-attacks-{}-{}", std::process::id(), fastrand::u64(..));
        addr(&format!("unix://{}", folder.join(name).display()))
    }

    fn vacant_addr(&self) -> Addr {
        self.listen_addr()
    }
}

/// WebRTC, signalled over TCP, with `pipe/1` or plain channels.
pub(crate) struct WebRtc {
    pub(crate) raw: bool,
}

impl Fixture for WebRtc {
    type Transport = WebRtcTransport<TcpTransport>;

    fn name(&self) -> &str {
        if self.raw { "webrtc-raw" } else { "webrtc" }
    }

    fn setup(&self, config: Config) -> Result<Setup<Self::Transport>> {
        let loopback = vec![IpAddr::V4(Ipv4Addr::LOCALHOST)];
        let transport = WebRtcTransport::new(TcpTransport::new())
            .with_settings(WebRtcSettings::default().with_bind_addrs(loopback))?
            .with_config(config)?;
        Ok(Setup::new(transport))
    }

    fn listen_addr(&self) -> Addr {
        addr(if self.raw {
            "webrtc+tcp://127.0.0.1:0?wire=raw"
        } else {
            "webrtc+tcp://127.0.0.1:0"
        })
    }

    fn vacant_addr(&self) -> Addr {
        self.listen_addr()
    }
}

/// Connections in this process.
pub(crate) struct Inproc;

impl Fixture for Inproc {
    type Transport = InprocTransport;

    fn name(&self) -> &str {
        "inproc"
    }

    fn setup(&self, config: Config) -> Result<Setup<InprocTransport>> {
        // All sides are in this process, and each has a transport of its own.
        let transport = InprocTransport::new().with_namespace(Namespace::of_process());
        Ok(Setup::new(transport.with_config(config)?))
    }

    fn listen_addr(&self) -> Addr {
        addr(&format!("inproc://attacked-{}", fastrand::u64(..)))
    }

    fn vacant_addr(&self) -> Addr {
        self.listen_addr()
    }
}
