use std::collections::VecDeque;
use std::fmt;
use std::future::Future;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use parking_lot::Mutex;
use pipe_core::backend::Progress;
use pipe_core::{Addr, Config, Error, ErrorKind, Result, Wire};
use pipe_tls::CertSha256;
use quinn::{Endpoint, Incoming, ServerConfig};
use tokio::time::Instant;

use crate::addr::QuicAddr;
use crate::conn::QuicConn;
use crate::control_stream::Greeting;
use crate::error::handshake_error;
use crate::handshake::Handshake;

/// Makes connections from the packets at a listener's socket.
pub(crate) struct Desk {
    config: Config,
    on: QuicAddr,
    pin: CertSha256,
    server: Arc<ServerConfig>,
    /// Whether clients have to show certificates.
    asks_clients: bool,
    /// Number of handshakes in progress.
    under_way: AtomicUsize,
    /// Times of recent failed handshakes.
    failures: Mutex<VecDeque<Instant>>,
}

impl Desk {
    pub(crate) fn new(
        config: &Config,
        on: QuicAddr,
        pin: CertSha256,
        server: ServerConfig,
        asks_clients: bool,
    ) -> Arc<Self> {
        Arc::new(Self {
            asks_clients,
            on,
            pin,
            server: Arc::new(server),
            under_way: AtomicUsize::new(0),
            failures: Mutex::new(VecDeque::new()),
            config: config.clone(),
        })
    }

    pub(crate) fn server_config(&self) -> ServerConfig {
        (*self.server).clone()
    }

    /// Returns the address of a listener at this socket.
    pub(crate) fn local_addr(&self, socket: SocketAddr) -> Addr {
        self.on.form().end(socket, Some(self.pin))
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

    fn note_failure(&self) {
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
        let mut under_way = UnderWay::new(self.clone());
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
        let connecting = incoming.accept_with(self.server.clone());
        async move {
            let lost = |error| handshake_error(&context, &error);
            let mut connecting = connecting.map_err(lost)?;
            // The client's part may come in several datagrams.
            connecting.handshake_data().await.map_err(lost)?;
            progress.heard();
            // Where clients need no certificate, this side sends its hello together with its part
            // of the handshake, which saves the dialer a round trip (RFC 9001, section 4.1.1: the
            // client's own hello comes after the handshake in any case). It completes the dial.
            let plain = self.asks_clients || self.on.params.wire == Wire::Raw;
            let (conn, under_way) = if plain || !progress.promise() {
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
                    params: self.on.params.clone(),
                },
                config: self.config.clone(),
                wire: self.on.params.wire,
                form: self.on.form(),
                pin: Some(self.pin),
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
    failed: bool,
}

impl UnderWay {
    fn new(desk: Arc<Desk>) -> Self {
        desk.under_way.fetch_add(1, Ordering::Relaxed);
        Self { desk, failed: true }
    }
}

impl Drop for UnderWay {
    fn drop(&mut self) {
        self.desk.under_way.fetch_sub(1, Ordering::Relaxed);
        if self.failed {
            self.desk.note_failure();
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
