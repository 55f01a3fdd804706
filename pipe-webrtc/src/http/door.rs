use std::convert::Infallible;
use std::future::poll_fn;
use std::net::SocketAddr;
use std::sync::Arc;
use std::task::{Poll, Waker};
use std::time::Duration;

use http::Request;
use hyper::body::Incoming as IncomingBody;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use parking_lot::Mutex;
use pipe_core::backend::{Accept, HandshakeQueue, Progress};
use pipe_core::{Addr, Config, Error, ErrorKind, Incoming, Result};
use pipe_net::{Reception, SharedSocket, SocketOptions, farewell, first_byte, tls};
use pipe_tls::peer_identity;
use pipe_tls::rustls::ServerConfig;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::AbortHandle;

use super::refusal::Refusal;
use super::service::{Peer, WhipService};
use super::wire::{MAX_HEAD, MAX_HEADERS};

/// The HTTP server of a listener, on a socket of its own.
///
/// Its connections are bounded as handshakes are ([`HandshakeQueue`]): by their number, by the time until their first
/// byte, and by [`Config::handshake_timeout`] for all of it. One carries one request, so none is ever idle.
pub(crate) struct Door {
    queue: Arc<HandshakeQueue<()>>,
    /// The task that takes what is over.
    drain: AbortHandle,
}

/// What a door does with its sockets.
pub(crate) struct Serving {
    pub(crate) options: SocketOptions,
    pub(crate) reception: Reception,
    pub(crate) tls: Option<Arc<ServerConfig>>,
    pub(crate) service: WhipService,
    pub(crate) limit: Duration,
}

impl Door {
    /// Serves the connections to a socket.
    pub(crate) fn open(socket: TcpListener, serving: Serving, addr: Addr, config: &Config) -> Self {
        let admission = serving.reception.at_accept();
        let state = SocketState {
            listener: Some(socket),
            waker: None,
        };
        let source = Sockets {
            state: Mutex::new(state),
            serving,
        };
        let queue = HandshakeQueue::spawn(Arc::new(source), addr, config, admission);
        let queue = Arc::new(queue);
        let over = queue.clone();
        let drain = tokio::spawn(async move { while over.accept().await.is_ok() {} });
        Self {
            queue,
            drain: drain.abort_handle(),
        }
    }

    /// Frees the address, and ends the requests that are under way.
    pub(crate) fn close(&self) {
        self.queue.close();
    }
}

impl Drop for Door {
    fn drop(&mut self) {
        self.queue.close();
        self.drain.abort();
    }
}

/// The socket, which closing takes away from the task that accepts.
struct Sockets {
    state: Mutex<SocketState>,
    serving: Serving,
}

struct SocketState {
    listener: Option<TcpListener>,
    waker: Option<Waker>,
}

impl Accept for Sockets {
    type Raw = (TcpStream, SocketAddr);
    type Conn = ();

    async fn accept(&self) -> Result<Self::Raw> {
        poll_fn(|cx| {
            let mut state = self.state.lock();
            let Some(listener) = &state.listener else {
                let why = "the listener is closed";
                return Poll::Ready(Err(Error::new(ErrorKind::Closed, why)));
            };
            let raw = listener.poll_accept(cx);
            if raw.is_pending() {
                state.waker = Some(cx.waker().clone());
            }
            raw.map_err(Error::from)
        })
        .await
    }

    fn incoming(&self, (_, peer): &Self::Raw) -> Incoming {
        Incoming::from_socket(*peer)
    }

    async fn handshake(
        self: Arc<Self>,
        (mut socket, peer): Self::Raw,
        progress: Progress,
    ) -> Result<()> {
        let serving = &self.serving;
        let remote = serving.reception.peer(&mut socket, peer, &progress).await?;
        progress.first_byte(first_byte(&socket)).await?;
        serving.options.apply(&socket)?;
        let io = SharedSocket::new(Arc::new(socket));
        let mut peer = Peer {
            remote: Some(remote),
            identity: None,
        };
        let context = format!("refused {remote}");
        let Some(config) = &serving.tls else {
            return serving.serve(io, peer, &progress, &context).await;
        };
        let tls = tls::accept(&context, config.clone(), io).await?;
        progress.heard();
        peer.identity = peer_identity(tls.get_ref().1.peer_certificates());
        serving.serve(tls, peer, &progress, &context).await
    }

    fn close(&self) {
        let mut state = self.state.lock();
        let listener = state.listener.take();
        let waker = state.waker.take();
        drop(state);
        drop(listener);
        if let Some(waker) = waker {
            waker.wake();
        }
    }
}

impl Serving {
    /// Answers the request of a connection.
    async fn serve<T>(&self, io: T, peer: Peer, progress: &Progress, context: &str) -> Result<()>
    where
        T: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        let respond = |request: Request<IncomingBody>| {
            // Its head is here.
            progress.heard();
            let peer = peer.clone();
            async move {
                let response = if self.service.serves(request.uri().path()) {
                    self.service.respond(request, peer).await
                } else {
                    Refusal::new(404, "there is no listener at this path").into_response()
                };
                progress.heard();
                Ok::<_, Infallible>(response)
            }
        };
        let connection = http1::Builder::new()
            .timer(TokioTimer::new())
            .header_read_timeout(self.limit)
            .keep_alive(false)
            .max_buf_size(MAX_HEAD)
            .max_headers(MAX_HEADERS)
            .serve_connection(TokioIo::new(io), service_fn(respond));
        let parts = connection.without_shutdown().await.map_err(|error| {
            let why = format!("{context}: {error}");
            Error::with_source(ErrorKind::Handshake, why, error)
        })?;
        farewell(parts.io.into_inner()).await;
        Ok(())
    }
}
