use std::fmt;
use std::io::{self, IoSliceMut};
use std::net::{SocketAddr, UdpSocket};
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll};

use parking_lot::RwLock;
use quinn::udp::{RecvMeta, Transmit};
use quinn::{AsyncUdpSocket, Runtime, TokioRuntime, UdpPoller};
use socket2::{Domain, Protocol, SockRef, Type};

/// Size of the kernel's buffers of a socket, in bytes. The system may allow less.
const BUFFER: usize = 4 * 1024 * 1024;

/// A UDP socket that can be closed under its endpoint.
///
/// quinn holds the socket as long as a handle of one of its connections or streams exists, even if
/// they are over. This one is closed once no connection needs it, which frees its port.
pub(crate) struct Socket {
    inner: RwLock<Option<Arc<dyn AsyncUdpSocket>>>,
    addr: SocketAddr,
    transmit_segments: usize,
    receive_segments: usize,
    may_fragment: bool,
    has_sent: AtomicBool,
}

impl Socket {
    /// Binds a socket to this address.
    pub(crate) fn bind(addr: SocketAddr) -> io::Result<Arc<Self>> {
        let socket =
            socket2::Socket::new(Domain::for_address(addr), Type::DGRAM, Some(Protocol::UDP))?;
        socket.bind(&addr.into())?;
        let socket = UdpSocket::from(socket);
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
            transmit_segments: inner.max_transmit_segments(),
            receive_segments: inner.max_receive_segments(),
            may_fragment: inner.may_fragment(),
            inner: RwLock::new(Some(inner)),
            has_sent: AtomicBool::new(false),
        }))
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
        match &*self.inner.read() {
            Some(inner) => inner.poll_recv(cx, bufs, meta),
            None => Poll::Pending,
        }
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
