use std::fmt;
use std::future::Future;
use std::io::{self, IoSliceMut};
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU64, Ordering};
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use socket2::SockRef;
use tokio::sync::Notify;
use webrtc::runtime::{
    AsyncInterval, AsyncTcpListener, AsyncTcpStream, AsyncUdpSocket, JoinHandle, RecvMeta, Runtime,
    TokioRuntime, Transmit,
};

use super::Faults;

/// While a connection is made the engine's timers fire at least this often: it looks for work at its
/// timers only, which are 200 ms apart.
const EAGER_STEP: Duration = Duration::from_millis(1);
/// The same once that has gone on for [`EAGER_TIME`].
const PATIENT_STEP: Duration = Duration::from_millis(20);
/// For how long the eager steps go on, and for how long any.
const EAGER_TIME: Duration = Duration::from_millis(500);
const PATIENT_TIME: Duration = Duration::from_secs(10);

/// What one connection's runtime has seen, and how it is to behave.
#[derive(Debug)]
pub(crate) struct Vitals {
    /// Datagrams and TCP reads that have arrived, ever.
    heard: AtomicU64,
    /// How often the engine has sent what it was given, and went to wait for more.
    turns: AtomicU64,
    turned: Notify,
    connecting: AtomicBool,
    since: parking_lot::Mutex<Instant>,
    /// The description of the fatal DTLS alert that this side sent in the handshake; 0 is none, since
    /// it stands for a close, which is no failure.
    alert: AtomicU8,
    alerted: Notify,
}

impl Vitals {
    pub(crate) fn new() -> Arc<Self> {
        Arc::new(Self {
            heard: AtomicU64::new(0),
            turns: AtomicU64::new(0),
            turned: Notify::new(),
            connecting: AtomicBool::new(true),
            since: parking_lot::Mutex::new(Instant::now()),
            alert: AtomicU8::new(0),
            alerted: Notify::new(),
        })
    }

    pub(crate) fn heard(&self) -> u64 {
        self.heard.load(Ordering::Relaxed)
    }

    pub(crate) fn turns(&self) -> u64 {
        self.turns.load(Ordering::SeqCst)
    }

    /// Waits until the engine has had another turn than this one.
    pub(crate) async fn turn_after(&self, turn: u64) {
        loop {
            let turned = self.turned.notified();
            if self.turns() != turn {
                return;
            }
            turned.await;
        }
    }

    /// The engine is to hurry, or no longer.
    pub(crate) fn set_connecting(&self, connecting: bool) {
        *self.since.lock() = Instant::now();
        self.connecting.store(connecting, Ordering::Relaxed);
    }

    fn step(&self, asked: Duration) -> Duration {
        if !self.connecting.load(Ordering::Relaxed) {
            return asked;
        }
        match self.since.lock().elapsed() {
            time if time < EAGER_TIME => asked.min(EAGER_STEP),
            time if time < PATIENT_TIME => asked.min(PATIENT_STEP),
            _ => asked,
        }
    }

    /// Waits until this side has refused the peer in the handshake of DTLS, and gives the alert's
    /// description (RFC 5246, section 7.2).
    pub(crate) async fn refused(&self) -> u8 {
        loop {
            let alerted = self.alerted.notified();
            match self.alert.load(Ordering::SeqCst) {
                0 => alerted.await,
                alert => return alert,
            }
        }
    }

    /// Looks for a fatal alert in the clear among the DTLS records of an outgoing datagram. The engine
    /// refuses a certificate with one, and tells nobody else.
    fn inspect(&self, mut datagram: &[u8]) {
        // A record (RFC 6347, section 4.1): type 1, version 2, epoch 2, sequence 6, length 2.
        while let [kind, 254, _, e0, e1, _, _, _, _, _, _, l0, l1, body @ ..] = datagram {
            if let (21, 0, 0, [2, description, ..]) = (*kind, *e0, *e1, body)
                && *description != 0
            {
                self.alert.store(*description, Ordering::SeqCst);
                self.alerted.notify_waiters();
            }
            let length = usize::from(u16::from_be_bytes([*l0, *l1]));
            let Some(rest) = body.get(length..) else {
                return;
            };
            datagram = rest;
        }
    }
}

/// Tokio, with larger socket buffers, hurried timers, and faults.
pub(super) struct PipeRuntime {
    pub(super) inner: TokioRuntime,
    pub(super) vitals: Arc<Vitals>,
    pub(super) faults: Option<Faults>,
    pub(super) socket_buffer: u32,
}

impl fmt::Debug for PipeRuntime {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PipeRuntime").finish_non_exhaustive()
    }
}

impl Runtime for PipeRuntime {
    fn spawn(&self, future: Pin<Box<dyn Future<Output = ()> + Send>>) -> Box<dyn JoinHandle> {
        self.inner.spawn(future)
    }

    fn wrap_udp_socket(&self, socket: std::net::UdpSocket) -> io::Result<Arc<dyn AsyncUdpSocket>> {
        let options = SockRef::from(&socket);
        // The system grants less where its limits are lower, and says nothing of it.
        let size = self.socket_buffer as usize;
        if let Err(error) = options
            .set_recv_buffer_size(size)
            .and_then(|()| options.set_send_buffer_size(size))
        {
            tracing::debug!(%error, size, "socket buffers keep the system's size");
        }
        Ok(Arc::new(Socket {
            inner: self.inner.wrap_udp_socket(socket)?,
            vitals: self.vitals.clone(),
            faults: self.faults.clone(),
        }))
    }

    fn wrap_tcp_listener(
        &self,
        listener: std::net::TcpListener,
    ) -> io::Result<Arc<dyn AsyncTcpListener>> {
        self.inner.wrap_tcp_listener(listener)
    }

    fn connect_tcp<'a>(
        &'a self,
        remote_addr: SocketAddr,
    ) -> Pin<Box<dyn Future<Output = io::Result<Arc<dyn AsyncTcpStream>>> + Send + 'a>> {
        self.inner.connect_tcp(remote_addr)
    }

    fn resolve_host<'a>(
        &'a self,
        host: &'a str,
    ) -> Pin<Box<dyn Future<Output = io::Result<Vec<SocketAddr>>> + Send + 'a>> {
        self.inner.resolve_host(host)
    }

    fn sleep(&self, duration: Duration) -> Pin<Box<dyn Future<Output = ()> + Send + 'static>> {
        // The engine's loop sleeps once each time that it has sent all it can.
        self.vitals.turns.fetch_add(1, Ordering::SeqCst);
        self.vitals.turned.notify_waiters();
        self.inner.sleep(self.vitals.step(duration))
    }

    fn interval(&self, period: Duration) -> Box<dyn AsyncInterval> {
        self.inner.interval(period)
    }

    fn block_on(&self, future: Pin<Box<dyn Future<Output = ()> + '_>>) {
        self.inner.block_on(future);
    }

    fn yield_now(&self) -> Pin<Box<dyn Future<Output = ()> + Send + 'static>> {
        self.inner.yield_now()
    }

    fn name(&self) -> &'static str {
        "pipewerks"
    }
}

struct Socket {
    inner: Arc<dyn AsyncUdpSocket>,
    vitals: Arc<Vitals>,
    faults: Option<Faults>,
}

impl fmt::Debug for Socket {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Socket").field(&self.inner).finish()
    }
}

impl AsyncUdpSocket for Socket {
    fn local_addr(&self) -> io::Result<SocketAddr> {
        self.inner.local_addr()
    }

    fn poll_send(&self, cx: &mut Context<'_>, transmit: &Transmit<'_>) -> Poll<io::Result<usize>> {
        if self.vitals.connecting.load(Ordering::Relaxed) {
            self.vitals.inspect(transmit.contents);
        }
        if self.faults.as_ref().is_some_and(Faults::loses_one) {
            return Poll::Ready(Ok(transmit.contents.len()));
        }
        self.inner.poll_send(cx, transmit)
    }

    fn poll_recv(
        &self,
        cx: &mut Context<'_>,
        bufs: &mut [IoSliceMut<'_>],
        meta: &mut [RecvMeta],
    ) -> Poll<io::Result<usize>> {
        loop {
            let received = std::task::ready!(self.inner.poll_recv(cx, bufs, meta));
            // What was sent before the cut, or by a peer without these faults, is lost too.
            if received.is_ok() && self.faults.as_ref().is_some_and(Faults::is_cut) {
                continue;
            }
            if received.is_ok() {
                self.vitals.heard.fetch_add(1, Ordering::Relaxed);
            }
            return Poll::Ready(received);
        }
    }

    fn max_gso_segments(&self) -> usize {
        // With losses, datagrams go one by one: the loss of a batch would be out of proportion.
        if self.faults.as_ref().is_some_and(Faults::is_lossy) {
            1
        } else {
            self.inner.max_gso_segments()
        }
    }

    fn max_gro_segments(&self) -> usize {
        self.inner.max_gro_segments()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record(kind: u8, epoch: u8, body: &[u8]) -> Vec<u8> {
        let mut record = vec![kind, 254, 253, 0, epoch, 0, 0, 0, 0, 0, 7];
        record.extend((body.len() as u16).to_be_bytes());
        record.extend(body);
        record
    }

    #[test]
    fn a_fatal_alert_in_the_clear_is_found_behind_other_records() {
        let vitals = Vitals::new();
        let mut datagram = record(22, 0, &[1; 40]);
        vitals.inspect(&datagram);
        vitals.inspect(&record(21, 1, &[2, 42]));
        vitals.inspect(&record(21, 0, &[1, 0]));
        vitals.inspect(&[21, 254]);
        assert_eq!(vitals.alert.load(Ordering::SeqCst), 0);
        datagram.extend(record(21, 0, &[2, 42]));
        vitals.inspect(&datagram);
        assert_eq!(vitals.alert.load(Ordering::SeqCst), 42);
    }
}
