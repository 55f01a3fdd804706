use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use pipe_core::{
    Addr, Backlog, BoxConn, BoxListener, Conn, Error, ErrorKind, Listener, Result, Transport,
};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::task::{JoinHandle, JoinSet};
use tokio::time::{sleep, timeout};

use crate::conn::WebRtcConn;
use crate::signaling::StreamSignaling;
use crate::transport::{Target, WebRtcTransport, is_local, outer};

/// How long to wait after the signalling could not accept.
const PAUSE: Duration = Duration::from_millis(50);

/// Accepts connections over WebRTC, with their negotiations side by side.
///
/// At most [`Config::max_handshakes`](pipe_core::Config::max_handshakes) of them run at once, each
/// within [`Config::handshake_timeout`](pipe_core::Config::handshake_timeout), and one that fails is
/// logged and forgotten. Up to [`Config::accept_backlog`](pipe_core::Config::accept_backlog)
/// connections wait to be accepted; beyond that, peers wait in their dial.
pub struct WebRtcListener {
    addr: Addr,
    signaling: Arc<BoxListener>,
    waiting: Arc<Backlog<Waiting>>,
    task: JoinHandle<()>,
}

struct Waiting {
    conn: WebRtcConn,
    /// Held until the connection is accepted.
    _place: OwnedSemaphorePermit,
}

impl WebRtcListener {
    pub(crate) fn new<T: Transport>(
        transport: WebRtcTransport<T>,
        signaling: T::Listener,
        addr: Addr,
        target: Target,
    ) -> Self {
        let signaling = Arc::new(BoxListener::new(signaling));
        let waiting = Arc::new(Backlog::new());
        let config = transport.config();
        let work = Work {
            places: Arc::new(Semaphore::new(config.accept_backlog as usize)),
            handshakes: Arc::new(Semaphore::new(config.max_handshakes as usize)),
            limit: config.handshake_timeout,
            transport,
            signaling: signaling.clone(),
            waiting: waiting.clone(),
            addr: addr.clone(),
            target,
        };
        Self {
            addr,
            signaling,
            waiting,
            task: tokio::spawn(work.run()),
        }
    }
}

/// The task that accepts.
struct Work<T> {
    transport: WebRtcTransport<T>,
    signaling: Arc<BoxListener>,
    waiting: Arc<Backlog<Waiting>>,
    places: Arc<Semaphore>,
    handshakes: Arc<Semaphore>,
    limit: Duration,
    addr: Addr,
    target: Target,
}

impl<T: Transport> Work<T> {
    async fn run(self) {
        // Handshakes that are under way end with the listener.
        let mut running = JoinSet::new();
        loop {
            while running.try_join_next().is_some() {}
            let Ok(place) = self.places.clone().acquire_owned().await else {
                return;
            };
            let Ok(turn) = self.handshakes.clone().acquire_owned().await else {
                return;
            };
            match self.signaling.accept().await {
                Ok(conn) => {
                    running.spawn(self.handshake(conn, place, turn));
                }
                Err(error) if error.kind() == ErrorKind::Closed => return,
                Err(error) => {
                    tracing::warn!(addr = %self.addr, %error, "could not accept");
                    sleep(PAUSE).await;
                }
            }
        }
    }

    fn handshake(
        &self,
        signaling: BoxConn,
        place: OwnedSemaphorePermit,
        turn: OwnedSemaphorePermit,
    ) -> impl Future<Output = ()> + Send + use<T> {
        let (transport, waiting) = (self.transport.clone(), self.waiting.clone());
        let (addr, target, limit) = (self.addr.clone(), self.target.clone(), self.limit);
        async move {
            let made = timeout(limit, negotiate(&transport, signaling, target))
                .await
                .unwrap_or_else(|_| {
                    let why = format!("the handshake was not over within {limit:?}");
                    Err(Error::new(ErrorKind::TimedOut, why))
                });
            drop(turn);
            match made {
                // A queue that is closed drops the connection, which closes it.
                Ok(conn) => drop(waiting.push(Waiting {
                    conn,
                    _place: place,
                })),
                Err(error) => tracing::debug!(%addr, %error, "a negotiation failed"),
            }
        }
    }
}

async fn negotiate<T: Transport>(
    transport: &WebRtcTransport<T>,
    signaling: BoxConn,
    mut target: Target,
) -> Result<WebRtcConn> {
    let stream = signaling.accept_stream().await?;
    let (local, remote) = (signaling.local_addr(), signaling.remote_addr());
    target.local = is_local(&remote);
    let addrs = (outer(&local, &target)?, outer(&remote, &target.unnamed())?);
    let mut plan = transport.plan(false, target, addrs)?;
    plan.identity = signaling.peer_identity();
    plan.establish(StreamSignaling::new(stream)).await
}

impl Listener for WebRtcListener {
    type Conn = WebRtcConn;

    async fn accept(&self) -> Result<WebRtcConn> {
        match self.waiting.pop().await {
            Some(Waiting { conn, .. }) => Ok(conn),
            None => {
                let why = format!("the listener on {} is closed", self.addr);
                Err(Error::new(ErrorKind::Closed, why))
            }
        }
    }

    fn local_addr(&self) -> Addr {
        self.addr.clone()
    }

    fn close(&self) {
        self.signaling.close();
        self.task.abort();
        drop(self.waiting.close());
    }
}

impl Drop for WebRtcListener {
    fn drop(&mut self) {
        self.close();
    }
}

impl fmt::Debug for WebRtcListener {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("WebRtcListener")
            .field("addr", &self.addr)
            .finish_non_exhaustive()
    }
}
