//! The sockets that the command was started with, by socket activation.

#[cfg(unix)]
use std::sync::{Mutex, PoisonError};

use pipewerks::quic::{QuicTransport, WtTransport};
use pipewerks::tcp::TcpTransport;
#[cfg(unix)]
use pipewerks::tcp::{GivenKind, GivenSocket};
use pipewerks::tls::TlsTransport;
#[cfg(unix)]
use pipewerks::unix::UnixTransport;
use pipewerks::webrtc::WhipTransport;
use pipewerks::ws::WsTransport;
use pipewerks::{Addr, BoxListener};

use crate::failure::Failure;
#[cfg(unix)]
use crate::failure::explain;

/// The transports that listen on given sockets.
#[derive(Clone, Debug)]
#[cfg_attr(
    not(unix),
    expect(dead_code, reason = "no sockets are given elsewhere")
)]
pub(crate) struct Takers {
    pub(crate) tcp: TcpTransport,
    pub(crate) tls: TlsTransport,
    pub(crate) ws: WsTransport,
    pub(crate) whip: WhipTransport,
    pub(crate) quic: QuicTransport,
    pub(crate) wt: WtTransport,
    #[cfg(unix)]
    pub(crate) unix: UnixTransport,
}

#[cfg(unix)]
static GIVEN: Mutex<Vec<GivenSocket>> = Mutex::new(Vec::new());

/// Takes the sockets out of the environment. Before there are other threads.
#[cfg(unix)]
pub(crate) fn take() -> Result<(), Failure> {
    let given = pipewerks::tcp::listen_fds().map_err(|error| Failure::usage(explain(&error)))?;
    GIVEN
        .lock()
        .unwrap_or_else(PoisonError::into_inner)
        .extend(given);
    Ok(())
}

#[cfg(not(unix))]
pub(crate) fn take() -> Result<(), Failure> {
    Ok(())
}

impl Takers {
    /// Listens on the first given socket that is of the kind of the address, and has this name if it is not empty.
    #[cfg(unix)]
    pub(crate) fn listen(&self, name: &str, addr: &Addr) -> Result<BoxListener, Failure> {
        let fits = |given: &GivenSocket| {
            let kind = match addr.scheme() {
                "tcp" | "tls" | "ws" | "wss" | "webrtc+http" | "webrtc+https" => {
                    matches!(given.kind, GivenKind::Tcp(_))
                }
                "quic" | "wt" => matches!(given.kind, GivenKind::Udp(_)),
                "unix" => matches!(given.kind, GivenKind::Unix(_)),
                _ => false,
            };
            kind && (name.is_empty() || given.name.as_deref() == Some(name))
        };
        let mut given = GIVEN.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(at) = given.iter().position(fits) else {
            let named = if name.is_empty() {
                String::new()
            } else {
                format!(" with the name {name:?}")
            };
            let why = format!(
                "{addr}: no socket{named} that fits was given (LISTEN_FDS, of {} in all)",
                given.len()
            );
            return Err(Failure::usage(why));
        };
        let listened = match given.remove(at).kind {
            GivenKind::Tcp(socket) => match addr.scheme() {
                "tcp" => self.tcp.listen_on(socket, addr).map(BoxListener::new),
                "tls" => self.tls.listen_on(socket, addr).map(BoxListener::new),
                "ws" | "wss" => self.ws.listen_on(socket, addr).map(BoxListener::new),
                _ => self.whip.listen_on(socket, addr).map(BoxListener::new),
            },
            GivenKind::Udp(socket) => match addr.scheme() {
                "wt" => self.wt.listen_on(socket, addr).map(BoxListener::new),
                _ => self.quic.listen_on(socket, addr).map(BoxListener::new),
            },
            GivenKind::Unix(socket) => self.unix.listen_on(socket, addr).map(BoxListener::new),
            _ => {
                return Err(Failure::usage(format!(
                    "{addr}: no socket that fits was given"
                )));
            }
        };
        listened.map_err(|error| Failure::unreached(addr.as_str(), &error))
    }

    #[cfg(not(unix))]
    pub(crate) fn listen(&self, _: &str, addr: &Addr) -> Result<BoxListener, Failure> {
        let why = format!("{addr}: sockets are given on Unix only");
        Err(Failure::usage(why))
    }
}
