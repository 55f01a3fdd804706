use std::fmt;
use std::io::{self, IoSliceMut};
use std::net::{SocketAddr, UdpSocket};
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll, ready};

use parking_lot::{Mutex, RwLock};
use quinn::udp::{RecvMeta, Transmit};
use quinn::{AsyncUdpSocket, Endpoint, Runtime, ServerConfig, TokioRuntime, UdpPoller};
use socket2::{Domain, Protocol, SockRef, Type};

use crate::joined::Joined;
use crate::profile::Profile;

/// Size of the kernel's buffers of a socket, in bytes. The system may allow less.
const BUFFER: usize = 4 * 1024 * 1024;

/// A UDP socket that can be closed under its endpoint.
///
/// quinn holds the socket as long as a handle of one of its connections or streams exists, even if
/// they are over. This one is closed once no connection needs it, which frees its port.
pub(crate) struct Socket {
    inner: RwLock<Option<Arc<dyn AsyncUdpSocket>>>,
    addr: SocketAddr,
    profile: Profile,
    transmit_segments: usize,
    receive_segments: usize,
    may_fragment: bool,
    has_sent: AtomicBool,
    /// Used by the one task that receives.
    joined: Mutex<Joined>,
}

impl Socket {
    /// Binds a socket to this address.
    pub(crate) fn bind(addr: SocketAddr, profile: Profile) -> io::Result<Arc<Self>> {
        let socket =
            socket2::Socket::new(Domain::for_address(addr), Type::DGRAM, Some(Protocol::UDP))?;
        socket.bind(&addr.into())?;
        Self::over(socket.into(), profile)
    }

    /// Takes over a socket that is bound already.
    pub(crate) fn over(socket: UdpSocket, profile: Profile) -> io::Result<Arc<Self>> {
        let options = SockRef::from(&socket);
        for set in [
            options.set_recv_buffer_size(BUFFER),
            options.set_send_buffer_size(BUFFER),
        ] {
            if let Err(error) = set {
                tracing::debug!(%error, "the buffers of a UDP socket stay as they are");
            }
        }
        let inner = TokioRuntime.wrap_udp_socket(socket)?;
        Ok(Arc::new(Self {
            addr: inner.local_addr()?,
            profile,
            transmit_segments: inner.max_transmit_segments(),
            receive_segments: profile.receive_segments(inner.max_receive_segments()),
            may_fragment: inner.may_fragment(),
            inner: RwLock::new(Some(inner)),
            has_sent: AtomicBool::new(false),
            joined: Mutex::default(),
        }))
    }

    /// Makes an endpoint of this socket.
    pub(crate) fn endpoint(self: Arc<Self>, server: Option<ServerConfig>) -> io::Result<Endpoint> {
        let config = self.profile.endpoint();
        Endpoint::new_with_abstract_socket(config, server, self, Arc::new(TokioRuntime))
    }

    /// Returns the address that it was bound to.
    pub(crate) fn addr(&self) -> SocketAddr {
        self.addr
    }

    /// Returns whether anything was sent.
    pub(crate) fn has_sent(&self) -> bool {
        self.has_sent.load(Ordering::Relaxed)
    }

    /// Closes the socket. Datagrams sent from now on are lost, and none are received.
    pub(crate) fn close(&self) {
        let inner = self.inner.write().take();
        drop(inner);
    }
}

impl AsyncUdpSocket for Socket {
    fn create_io_poller(self: Arc<Self>) -> Pin<Box<dyn UdpPoller>> {
        Box::pin(Poller {
            socket: self,
            waiting: None,
        })
    }

    fn try_send(&self, transmit: &Transmit<'_>) -> io::Result<()> {
        if !self.has_sent() {
            self.has_sent.store(true, Ordering::Relaxed);
        }
        match &*self.inner.read() {
            Some(inner) => inner.try_send(transmit),
            None => Ok(()),
        }
    }

    fn poll_recv(
        &self,
        cx: &mut Context<'_>,
        bufs: &mut [IoSliceMut<'_>],
        meta: &mut [RecvMeta],
    ) -> Poll<io::Result<usize>> {
        let inner = self.inner.read();
        let Some(inner) = &*inner else {
            return Poll::Pending;
        };
        let mut joined = self.joined.lock();
        let waited = joined.take(bufs, meta);
        if waited > 0 {
            return Poll::Ready(Ok(waited));
        }
        let count = ready!(inner.poll_recv(cx, bufs, meta))?;
        Poll::Ready(Ok(joined.part(bufs, meta, count)))
    }

    fn local_addr(&self) -> io::Result<SocketAddr> {
        Ok(self.addr)
    }

    fn max_transmit_segments(&self) -> usize {
        self.transmit_segments
    }

    fn max_receive_segments(&self) -> usize {
        self.receive_segments
    }

    fn may_fragment(&self) -> bool {
        self.may_fragment
    }
}

impl fmt::Debug for Socket {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Socket")
            .field("addr", &self.addr)
            .finish_non_exhaustive()
    }
}

/// Waits until the socket takes datagrams again, and holds it only meanwhile.
#[derive(Debug)]
struct Poller {
    socket: Arc<Socket>,
    waiting: Option<Pin<Box<dyn UdpPoller>>>,
}

impl UdpPoller for Poller {
    fn poll_writable(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let mut waiting = match self.waiting.take() {
            Some(waiting) => waiting,
            None => match &*self.socket.inner.read() {
                Some(inner) => inner.clone().create_io_poller(),
                None => return Poll::Ready(Ok(())),
            },
        };
        let writable = waiting.as_mut().poll_writable(cx);
        if writable.is_pending() {
            self.waiting = Some(waiting);
        }
        writable
    }
}
