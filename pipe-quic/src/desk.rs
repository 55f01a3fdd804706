use std::collections::VecDeque;
use std::fmt;
use std::future::Future;
use std::net::SocketAddr;
use std::sync::Arc;

use parking_lot::Mutex;
use pipe_core::{Addr, Backlog, Config, Error, ErrorKind, Result};
use pipe_tls::CertSha256;
use quinn::{Endpoint, Incoming, ServerConfig};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, watch};
use tokio::task::JoinSet;
use tokio::time::{Instant, timeout};

use crate::addr::{QuicAddr, Wire};
use crate::conn::QuicConn;
use crate::error::handshake_error;
use crate::handshake::{Greeting, Handshake};

/// Receives the new connections of a listener, with their handshakes side by side.
pub(crate) struct Desk {
    config: Config,
    on: QuicAddr,
    pin: CertSha256,
    server: Arc<ServerConfig>,
    /// Whether clients have to show certificates.
    asks_clients: bool,
    pub(crate) waiting: Backlog<Waiting>,
    places: Arc<Semaphore>,
    handshakes: Arc<Semaphore>,
    /// When handshakes have failed, of late.
    failures: Mutex<VecDeque<Instant>>,
    closed: watch::Sender<bool>,
}

/// A connection that waits to be accepted.
pub(crate) struct Waiting {
    pub(crate) conn: QuicConn,
    /// Held until the connection is accepted.
    _place: OwnedSemaphorePermit,
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
            waiting: Backlog::new(),
            places: Arc::new(Semaphore::new(config.accept_backlog as usize)),
            handshakes: Arc::new(Semaphore::new(config.max_handshakes as usize)),
            failures: Mutex::new(VecDeque::new()),
            closed: watch::Sender::new(false),
            config: config.clone(),
        })
    }

    pub(crate) fn server_config(&self) -> ServerConfig {
        (*self.server).clone()
    }

    /// The address of a listener at this socket.
    pub(crate) fn local_addr(&self, socket: SocketAddr) -> Addr {
        self.on.form().end(socket, Some(self.pin))
    }

    /// Ends the reception. Connections that wait to be accepted are closed.
    pub(crate) fn close(&self) {
        self.closed.send_replace(true);
        drop(self.waiting.close());
    }

    /// Takes in connections until it is closed. Returns whether the endpoint lives.
    pub(crate) async fn serve(self: &Arc<Self>, endpoint: &Endpoint) -> bool {
        let mut closed = self.closed.subscribe();
        let mut running = JoinSet::new();
        let alive = loop {
            while running.try_join_next().is_some() {}
            let next = async {
                let place = self.places.clone().acquire_owned().await;
                let turn = self.handshakes.clone().acquire_owned().await;
                (place, turn, endpoint.accept().await)
            };
            let (place, turn, incoming) = tokio::select! {
                biased;
                _ = closed.wait_for(|closed| *closed) => break true,
                next = next => next,
            };
            let Some(incoming) = incoming else {
                break false;
            };
            let (Ok(place), Ok(turn)) = (place, turn) else {
                break true;
            };
            if self.is_busy() && incoming.may_retry() && !incoming.remote_address_validated() {
                // The client has to show that it is where it says; nothing is kept of it meanwhile.
                // An error means that it has shown that.
                let _ = incoming.retry();
                continue;
            }
            running.spawn(
                self.clone()
                    .receive(incoming, endpoint.clone(), place, turn),
            );
        };
        // Handshakes that are under way end with the listener.
        running.shutdown().await;
        alive
    }

    /// Whether so many handshakes are under way, or have failed of late, that the next client has to
    /// prove its address (RFC 9000, section 8.1.2). The caller holds a turn.
    fn is_busy(&self) -> bool {
        let most = self.config.max_handshakes as usize;
        let under_way = most - self.handshakes.available_permits();
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

    async fn receive(
        self: Arc<Self>,
        incoming: Incoming,
        endpoint: Endpoint,
        place: OwnedSemaphorePermit,
        turn: OwnedSemaphorePermit,
    ) {
        let peer = incoming.remote_address();
        let limit = self.config.handshake_timeout;
        let made = timeout(limit, self.connect(incoming, endpoint)).await;
        drop(turn);
        match made {
            // A queue that is closed drops the connection, which closes it.
            Ok(Ok(conn)) => drop(self.waiting.push(Waiting {
                conn,
                _place: place,
            })),
            Ok(Err(error)) => {
                self.note_failure();
                tracing::debug!(%peer, %error, "a handshake failed");
            }
            Err(_) => {
                self.note_failure();
                tracing::debug!(%peer, ?limit, "a handshake was not over in time");
            }
        }
    }

    fn connect(
        &self,
        incoming: Incoming,
        endpoint: Endpoint,
    ) -> impl Future<Output = Result<QuicConn>> + Send {
        let context = format!("refused {}", incoming.remote_address());
        let connecting = incoming.accept_with(self.server.clone());
        async move {
            let lost = |error| handshake_error(&context, &error);
            let mut connecting = connecting.map_err(lost)?;
            // Where nothing is asked of a client, this side says hello together with its part of the
            // handshake, which saves the dialer a round trip (RFC 9001, section 4.1.1: the client's own
            // hello comes after the handshake in any case).
            let (conn, under_way) = if self.asks_clients || self.on.wire == Wire::Raw {
                (connecting.await.map_err(lost)?, None)
            } else {
                // The client's part may come in several datagrams.
                connecting.handshake_data().await.map_err(lost)?;
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
                    alpn: self.on.alpn.clone(),
                },
                config: self.config.clone(),
                wire: self.on.wire,
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

impl fmt::Debug for Desk {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Desk")
            .field("on", &self.on)
            .finish_non_exhaustive()
    }
}
