use std::fs;
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpStream};
use std::process::{Child, Command, ExitCode, Stdio};
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread::sleep;
use std::time::Duration;

use pipe_conformance::{Cabled, Faults, Fixture, Setup};
use pipe_core::{Addr, Config, Result};
use pipewerks::nats::NatsTransport;
use pipewerks::webrtc::{self, WebRtcSettings, WebRtcTransport};
use tempfile::TempDir;

use crate::cable::lay_tcp;

/// A NATS server on loopback. A drop ends it.
pub(crate) struct Broker {
    pub(crate) at: SocketAddr,
    process: Child,
    _folder: TempDir,
}

impl Broker {
    /// Starts one. `None` where the program is missing and need not be there.
    pub(crate) fn start() -> Result<Option<Self>, ExitCode> {
        let folder = TempDir::new().expect("a folder");
        let started = Command::new("nats-server")
            .args(["--addr", "127.0.0.1", "--port", "-1", "--ports_file_dir"])
            .arg(folder.path())
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn();
        let mut process = match started {
            Ok(process) => process,
            Err(error) => {
                eprintln!(
                    "no peer nats-server: {error}; see ci/install-peers. There are no columns nats and webrtc-nats."
                );
                let is_required =
                    std::env::var("PIPE_REQUIRE_PEERS").is_ok_and(|value| value == "1");
                return if is_required {
                    Err(ExitCode::FAILURE)
                } else {
                    Ok(None)
                };
            }
        };
        let file = folder
            .path()
            .join(format!("nats-server_{}.ports", process.id()));
        let at = loop {
            if let Some(at) = fs::read_to_string(&file).ok().as_deref().and_then(port_in) {
                break SocketAddr::from((Ipv4Addr::LOCALHOST, at));
            }
            let ended = process.try_wait().expect("a process");
            assert!(ended.is_none(), "nats-server has ended: {ended:?}");
            sleep(Duration::from_millis(5));
        };
        while TcpStream::connect(at).is_err() {
            sleep(Duration::from_millis(5));
        }
        Ok(Some(Self {
            at,
            process,
            _folder: folder,
        }))
    }
}

impl Drop for Broker {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// Returns the port of clients in a file that a server has written.
fn port_in(text: &str) -> Option<u16> {
    let ports: serde_json::Value = serde_json::from_str(text).ok()?;
    let url: Addr = ports["nats"][0].as_str()?.parse().ok()?;
    url.port()
}

/// Returns a subject that no other case uses.
fn fresh_subject() -> String {
    static NEXT: AtomicU64 = AtomicU64::new(0);
    format!("conformance.{}", NEXT.fetch_add(1, Ordering::Relaxed))
}

/// Connections through a NATS server. A cable lies between the dialer and the server.
pub(crate) struct Nats(pub(crate) SocketAddr);

impl Fixture for Nats {
    type Transport = Cabled<NatsTransport>;

    fn name(&self) -> &str {
        "nats"
    }

    fn setup(&self, config: Config) -> Result<Setup<Self::Transport>> {
        Ok(Cabled::setup(NatsTransport::new().with_config(config)?))
    }

    fn setup_with_faults(&self, config: Config) -> Result<Setup<Self::Transport>> {
        let transport = NatsTransport::new().with_config(config)?;
        Ok(Cabled::setup_with_faults(transport, lay_tcp))
    }

    fn listen_addr(&self) -> Addr {
        let addr = format!("nats://{}/{}", self.0, fresh_subject());
        addr.parse().expect("an address")
    }

    fn vacant_addr(&self) -> Addr {
        self.listen_addr()
    }
}

/// WebRTC on loopback; the two sides find each other through a NATS server.
pub(crate) struct WebRtcNats(pub(crate) SocketAddr);

impl Fixture for WebRtcNats {
    type Transport = WebRtcTransport<NatsTransport>;

    fn name(&self) -> &str {
        "webrtc-nats"
    }

    fn setup(&self, config: Config) -> Result<Setup<Self::Transport>> {
        let faults = webrtc::Faults::new();
        let loopback = vec![IpAddr::V4(Ipv4Addr::LOCALHOST)];
        let transport = WebRtcTransport::new(NatsTransport::new())
            .with_settings(WebRtcSettings::default().with_bind_addrs(loopback))?
            .with_config(config)?
            .with_faults(faults.clone());
        Ok(Setup::new(transport).with_faults(PacketFaults(faults)))
    }

    fn listen_addr(&self) -> Addr {
        let addr = format!("webrtc+nats://{}/{}", self.0, fresh_subject());
        addr.parse().expect("an address")
    }

    fn vacant_addr(&self) -> Addr {
        self.listen_addr()
    }
}

/// Harms the packets of all connections of a setup.
struct PacketFaults(webrtc::Faults);

impl Faults for PacketFaults {
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
