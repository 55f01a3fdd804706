//! The conformance suite over WebRTC, with the signalling in process, over TCP, over WebSocket and over HTTP.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::LazyLock;
use std::sync::atomic::{AtomicU64, Ordering};

use pipe_conformance::{Fixture, Setup, conformance};
use pipe_core::{Addr, Config, Result, Transport};
use pipe_inproc::{InprocTransport, Namespace};
use pipe_tcp::TcpTransport;
use pipe_webrtc::{Engine, Faults, WebRtcSettings, WebRtcTransport, WhipTransport};
use pipe_ws::WsTransport;
use socket2::{Domain, Socket, Type};

/// WebRTC on loopback; the two sides find each other in process.
struct OverInproc;

/// The same on the crate `webrtc`.
struct OnCrate;

/// The same over WebSocket, with one UDP port for all connections that a listener accepts.
struct OnOnePort;

/// WebRTC on loopback; the two sides find each other over TCP.
struct OverTcp;

/// WebRTC on loopback; the two sides find each other by requests over HTTP.
struct OverHttp;

impl Fixture for OverInproc {
    type Transport = WebRtcTransport<InprocTransport>;

    fn name(&self) -> &str {
        "webrtc-inproc"
    }

    fn setup(&self, config: Config) -> Result<Setup<Self::Transport>> {
        let signaling = InprocTransport::new().with_namespace(Namespace::new());
        webrtc(signaling, config, loopback())
    }

    fn listen_addr(&self) -> Addr {
        static COUNT: AtomicU64 = AtomicU64::new(0);
        let number = COUNT.fetch_add(1, Ordering::Relaxed);
        addr(&format!("webrtc+inproc://conformance-{number}"))
    }

    fn open_addr(&self) -> Addr {
        addr("webrtc+inproc://")
    }

    fn vacant_addr(&self) -> Addr {
        self.listen_addr()
    }
}

impl Fixture for OnCrate {
    type Transport = WebRtcTransport<InprocTransport>;

    fn name(&self) -> &str {
        "webrtc-crate-inproc"
    }

    fn setup(&self, config: Config) -> Result<Setup<Self::Transport>> {
        let signaling = InprocTransport::new().with_namespace(Namespace::new());
        webrtc(
            signaling,
            config,
            loopback().with_engine(Engine::WebRtcCrate),
        )
    }

    fn listen_addr(&self) -> Addr {
        OverInproc.listen_addr()
    }

    fn open_addr(&self) -> Addr {
        OverInproc.open_addr()
    }

    fn vacant_addr(&self) -> Addr {
        OverInproc.vacant_addr()
    }
}

impl Fixture for OnOnePort {
    type Transport = WebRtcTransport<WsTransport>;

    fn name(&self) -> &str {
        "webrtc-port-ws"
    }

    fn setup(&self, config: Config) -> Result<Setup<Self::Transport>> {
        webrtc(WsTransport::new(), config, loopback().with_udp_port(0))
    }

    fn listen_addr(&self) -> Addr {
        addr("webrtc+ws://127.0.0.1:0")
    }

    fn vacant_addr(&self) -> Addr {
        addr(&format!("webrtc+ws://{}", *VACANT))
    }
}

impl Fixture for OverTcp {
    type Transport = WebRtcTransport<TcpTransport>;

    fn name(&self) -> &str {
        "webrtc-tcp"
    }

    fn setup(&self, config: Config) -> Result<Setup<Self::Transport>> {
        webrtc(TcpTransport::new(), config, loopback())
    }

    fn listen_addr(&self) -> Addr {
        addr("webrtc+tcp://127.0.0.1:0")
    }

    fn vacant_addr(&self) -> Addr {
        addr(&format!("webrtc+tcp://{}", *VACANT))
    }
}

impl Fixture for OverHttp {
    type Transport = WhipTransport;

    fn name(&self) -> &str {
        "webrtc-http"
    }

    fn setup(&self, config: Config) -> Result<Setup<Self::Transport>> {
        let faults = Faults::new();
        let transport = WhipTransport::new()
            .with_settings(loopback())?
            .with_config(config)?
            .with_faults(faults.clone());
        Ok(Setup::new(transport).with_faults(PacketFaults(faults)))
    }

    fn listen_addr(&self) -> Addr {
        addr("webrtc+http://127.0.0.1:0/pipe")
    }

    fn vacant_addr(&self) -> Addr {
        addr(&format!("webrtc+http://{}/pipe", *VACANT))
    }
}

/// The address of a socket that is bound, so that nobody else gets the port, and does not listen.
static VACANT: LazyLock<SocketAddr> = LazyLock::new(|| {
    let socket = Socket::new(Domain::IPV4, Type::STREAM, None).expect("a socket");
    let any = SocketAddr::from(([127, 0, 0, 1], 0));
    socket.bind(&any.into()).expect("a free port");
    let addr = socket.local_addr().expect("its address");
    std::mem::forget(socket);
    addr.as_socket().expect("an address of IP")
});

fn loopback() -> WebRtcSettings {
    WebRtcSettings::default().with_bind_addrs(vec![IpAddr::V4(Ipv4Addr::LOCALHOST)])
}

fn webrtc<T: Transport>(
    signaling: T,
    config: Config,
    settings: WebRtcSettings,
) -> Result<Setup<WebRtcTransport<T>>> {
    let faults = Faults::new();
    let transport = WebRtcTransport::new(signaling)
        .with_settings(settings)?
        .with_config(config)?
        .with_faults(faults.clone());
    Ok(Setup::new(transport).with_faults(PacketFaults(faults)))
}

fn addr(text: &str) -> Addr {
    text.parse().expect("a well-formed address")
}

/// Harms the packets of all connections of a setup.
struct PacketFaults(Faults);

impl pipe_conformance::Faults for PacketFaults {
    fn cut(&self) {
        self.0.cut();
    }

    fn heal(&self) {
        self.0.heal();
    }

    fn kill_listening_side(&self) {
        self.cut();
    }
}

conformance!(OverInproc, OnOnePort, OverTcp, OverHttp, OnCrate);
