use std::collections::VecDeque;
use std::fmt;
use std::future::Future;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use parking_lot::Mutex;
use pipe_core::backend::Progress;
use pipe_core::{Addr, Config, Error, ErrorKind, Result, Wire};
use pipe_tls::Identity;
use quinn::{Endpoint, Incoming, ServerConfig};
use tokio::time::Instant;

use crate::addr::QuicAddr;
use crate::conn::QuicConn;
use crate::control_stream::Greeting;
use crate::error::handshake_error;
use crate::handshake::{Handshake, WebSide};
use crate::lingering::Lingering;
use crate::web::Gate;

/// Makes connections from the packets at a listener's socket.
pub(crate) struct Desk {
    config: Config,
    on: Arc<QuicAddr>,
    gate: Gate,
    identity: Identity,
    server: Arc<ServerConfig>,
    /// That for clients at loopback addresses.
    near: Arc<ServerConfig>,
    /// Whether clients have to show certificates.
    asks_clients: bool,
    /// Number of handshakes in progress.
    under_way: AtomicUsize,
    /// Times of recent failed handshakes.
    failures: Mutex<VecDeque<Instant>>,
    /// What quinn keeps of them.
    lingering: Mutex<Lingering>,
}

impl Desk {
    pub(crate) fn new(
        config: &Config,
        on: QuicAddr,
        gate: Gate,
        identity: Identity,
        [server, near]: [ServerConfig; 2],
        asks_clients: bool,
    ) -> Arc<Self> {
        Arc::new(Self {
            asks_clients,
            on: Arc::new(on),
            gate,
            identity,
            server: Arc::new(server),
            near: Arc::new(near),
            under_way: AtomicUsize::new(0),
            failures: Mutex::new(VecDeque::new()),
            lingering: Mutex::default(),
            config: config.clone(),
        })
    }

    pub(crate) fn server_config(&self) -> ServerConfig {
        (*self.server).clone()
    }

    /// Returns the address of a listener at this socket.
    pub(crate) fn local_addr(&self, socket: SocketAddr) -> Addr {
        self.on.form().end(socket, self.identity.pins())
    }

    /// Returns whether so many handshakes are in progress, or have failed recently, that the next
    /// client has to prove its address (RFC 9000, section 8.1.2).
    pub(crate) fn is_busy(&self) -> bool {
        let most = self.config.max_handshakes as usize;
        let under_way = self.under_way.load(Ordering::Relaxed) + 1;
        let mut failures = self.failures.lock();
        while failures
            .front()
            .is_some_and(|failed| failed.elapsed() > self.config.handshake_timeout)
        {
            failures.pop_front();
        }
        2 * under_way > most || failures.len() >= most
    }

    /// Returns whether quinn keeps so much of failed handshakes that this client has to come again later.
    pub(crate) fn is_full_for(&self, client: SocketAddr) -> bool {
        let mut lingering = self.lingering.lock();
        lingering.are_too_many(client.ip(), Instant::now())
    }

    fn note_failure(&self, client: IpAddr) {
        self.lingering.lock().add(client, Instant::now());
        let mut failures = self.failures.lock();
        if failures.len() >= self.config.max_handshakes as usize {
            failures.pop_front();
        }
        failures.push_back(Instant::now());
    }

    /// Accepts a connection at the desk's socket, and counts it meanwhile.
    pub(crate) async fn receive(
        self: &Arc<Self>,
        incoming: Incoming,
        endpoint: Endpoint,
        progress: &Progress,
    ) -> Result<QuicConn> {
        let mut under_way = UnderWay::new(self.clone(), incoming.remote_address().ip());
        let made = self.connect(incoming, endpoint, progress).await;
        under_way.failed = made.is_err();
        made
    }

    fn connect(
        &self,
        incoming: Incoming,
        endpoint: Endpoint,
        progress: &Progress,
    ) -> impl Future<Output = Result<QuicConn>> + Send {
        let remote = incoming.remote_address();
        let context = format!("refused {remote}");
        let is_near = remote.ip().to_canonical().is_loopback();
        let server = if is_near { &self.near } else { &self.server };
        let connecting = incoming.accept_with(server.clone());
        async move {
            let lost = |error| handshake_error(&context, &error);
            let mut connecting = connecting.map_err(lost)?;
            // The client's part may come in several datagrams.
            connecting.handshake_data().await.map_err(lost)?;
            progress.heard();
            // Where clients need no certificate, this side sends its hello together with its part
            // of the handshake, which saves the dialer a round trip (RFC 9001, section 4.1.1: the
            // client's own hello comes after the handshake in any case). It completes the dial.
            //
            // Of WebTransport, it is the settings of HTTP/3, which the dialer waits for. They promise nothing.
            let is_web = self.on.web.is_some();
            let is_plain = self.on.params.wire == Wire::Raw && !is_web;
            let waits = self.asks_clients || is_plain || (!is_web && !progress.promise());
            let (conn, under_way) = if waits {
                let conn = connecting.await.map_err(lost)?;
                progress.heard();
                (conn, None)
            } else {
                match connecting.into_0rtt() {
                    Ok((conn, under_way)) => (conn, Some(under_way)),
                    Err(connecting) => (connecting.await.map_err(lost)?, None),
                }
            };
            let local = endpoint.local_addr().map_err(|error| {
                Error::with_source(ErrorKind::Io, "the socket has no address", error)
            })?;
            let handshake = Handshake {
                greeting: Greeting {
                    context: context.clone(),
                    at: self.on.clone(),
                },
                config: self.config.clone(),
                web: self
                    .on
                    .web
                    .as_ref()
                    .map(|_| WebSide::Listens(self.gate.clone())),
                pins: self.identity.pins(),
                listens: true,
                local,
                endpoint,
                socket: None,
            };
            handshake.run(conn, under_way, None).await
        }
    }
}

/// Counts a handshake until it is over, as failed if it is given up.
struct UnderWay {
    desk: Arc<Desk>,
    client: IpAddr,
    failed: bool,
}

impl UnderWay {
    fn new(desk: Arc<Desk>, client: IpAddr) -> Self {
        desk.under_way.fetch_add(1, Ordering::Relaxed);
        Self {
            desk,
            client,
            failed: true,
        }
    }
}

impl Drop for UnderWay {
    fn drop(&mut self) {
        self.desk.under_way.fetch_sub(1, Ordering::Relaxed);
        if self.failed {
            self.desk.note_failure(self.client);
        }
    }
}

impl fmt::Debug for Desk {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Desk")
            .field("on", &self.on)
            .finish_non_exhaustive()
    }
}
