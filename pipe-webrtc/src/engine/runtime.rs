use std::fmt;
use std::future::Future;
use std::io::{self, IoSliceMut};
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU64, AtomicUsize, Ordering};
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use futures::future::{AbortHandle, abortable};
use socket2::SockRef;
use tokio::sync::Notify;
use webrtc::runtime::{
    AsyncInterval, AsyncTcpListener, AsyncTcpStream, AsyncUdpSocket, JoinHandle, RecvMeta, Runtime,
    TokioRuntime, Transmit,
};

use super::Faults;
use super::refusals::{RefusalWatch, Refusals};
use super::task::{Parts, Task};

/// While a connection is made the engine's timers fire at least this often: it looks for work at its
/// timers only, which are 200 ms apart.
const EAGER_STEP: Duration = Duration::from_millis(1);
/// The same once that has gone on for [`EAGER_TIME`].
const PATIENT_STEP: Duration = Duration::from_millis(20);
/// For how long the eager steps go on, and for how long any.
const EAGER_TIME: Duration = Duration::from_millis(500);
const PATIENT_TIME: Duration = Duration::from_secs(10);

/// How many turns the engine needs more where packets go through a TURN server: in one it takes what came
/// out of the relay, in the next it gives the answer to the relay, and in the one after that the relay
/// sends it. By itself it would wait between them for the next packet or timer.
const RELAY_TURNS: u8 = 2;

/// What one connection's runtime has seen, and how it is to behave.
#[derive(Debug)]
pub(crate) struct Vitals {
    /// Datagrams and TCP reads that have arrived, ever.
    heard: AtomicU64,
    /// The same when a timer was last cut short because of them.
    answered: AtomicU64,
    /// How often the engine has sent what it was given, and went to wait for more.
    turns: AtomicU64,
    turned: Notify,
    connecting: AtomicBool,
    since: parking_lot::Mutex<Instant>,
    /// The description of the fatal DTLS alert that this side sent in the handshake; 0 is none, since
    /// it stands for a close, which is no failure.
    alert: AtomicU8,
    alerted: Notify,
    /// How many sockets were bound.
    sockets: AtomicUsize,
    /// Why STUN and TURN servers do not help.
    refusals: Refusals,
    /// What was sent last went through a TURN server.
    relayed: AtomicBool,
    /// How many turns the engine has without a wait between them.
    naps: AtomicU8,
}

impl Vitals {
    pub(crate) fn new() -> Arc<Self> {
        Arc::new(Self {
            heard: AtomicU64::new(0),
            answered: AtomicU64::new(0),
            turns: AtomicU64::new(0),
            turned: Notify::new(),
            connecting: AtomicBool::new(true),
            since: parking_lot::Mutex::new(Instant::now()),
            alert: AtomicU8::new(0),
            alerted: Notify::new(),
            sockets: AtomicUsize::new(0),
            refusals: Refusals::default(),
            relayed: AtomicBool::new(false),
            naps: AtomicU8::new(0),
        })
    }

    pub(crate) fn heard(&self) -> u64 {
        self.heard.load(Ordering::Relaxed)
    }

    pub(super) fn sockets(&self) -> usize {
        self.sockets.load(Ordering::SeqCst)
    }

    /// Why STUN and TURN servers do not help, as far as they said.
    pub(crate) fn refusals(&self) -> &Refusals {
        &self.refusals
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

    /// Whether a timer is to fire at once. What a datagram makes possible, such as the handshake after
    /// the path was found, the engine begins at its next timer only, and even a short one takes 2 ms.
    fn is_urgent(&self) -> bool {
        let heard = self.heard();
        self.connecting.load(Ordering::Relaxed)
            && self.answered.swap(heard, Ordering::Relaxed) != heard
            && self.since.lock().elapsed() < EAGER_TIME
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

    /// Notes whether an outgoing datagram goes through a TURN server. Others that carry something are of
    /// DTLS (RFC 7983, section 7).
    fn note_path(&self, datagram: &[u8]) {
        match datagram {
            // Data of a channel, or an indication to send (RFC 8656, sections 12.4 and 18).
            [64..=79, ..] | [0, 0x16, ..] => self.relayed.store(true, Ordering::Relaxed),
            [20..=63, ..] => self.relayed.store(false, Ordering::Relaxed),
            _ => {}
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

/// Tokio, with larger socket buffers, hurried timers, faults, and one task for the engine and those who
/// use it.
pub(super) struct PipeRuntime {
    pub(super) inner: TokioRuntime,
    /// The task that the engine becomes a part of, until it has.
    pub(super) task: parking_lot::Mutex<Option<(Arc<Parts>, Task)>>,
    pub(super) vitals: Arc<Vitals>,
    pub(super) faults: Option<Faults>,
    pub(super) socket_buffer: u32,
    /// How long to look for the address of a STUN or TURN server. The engine does nothing else
    /// meanwhile.
    pub(super) resolve_timeout: Duration,
}

impl fmt::Debug for PipeRuntime {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PipeRuntime").finish_non_exhaustive()
    }
}

impl Runtime for PipeRuntime {
    fn spawn(&self, future: Pin<Box<dyn Future<Output = ()> + Send>>) -> Box<dyn JoinHandle> {
        // The first that the engine spawns is its loop. Others stay what they are.
        let task = self.task.lock().take();
        let Some((parts, task)) = task else {
            return self.inner.spawn(future);
        };
        let (future, abort) = abortable(future);
        let over = Arc::new(AtomicBool::new(false));
        let ended = over.clone();
        parts.add(async move {
            // One that is aborted is over as well.
            let _ = future.await;
            ended.store(true, Ordering::SeqCst);
        });
        tokio::spawn(task);
        Box::new(EngineTask { abort, over })
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
        let inner = self.inner.wrap_udp_socket(socket)?;
        self.vitals.sockets.fetch_add(1, Ordering::SeqCst);
        Ok(Arc::new(Socket {
            inner,
            vitals: self.vitals.clone(),
            faults: self.faults.clone(),
            refusals: RefusalWatch::default(),
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
        Box::pin(async move {
            let limit = self.resolve_timeout;
            let found = match tokio::time::timeout(limit, self.inner.resolve_host(host)).await {
                Ok(found) => found,
                Err(_) => Err(io::Error::new(
                    io::ErrorKind::TimedOut,
                    format!("its address was not found within {limit:?}"),
                )),
            };
            if let Err(error) = &found {
                let refusals = self.vitals.refusals();
                refusals.note(format!("the server {host} is not found: {error}"));
            }
            found
        })
    }

    fn sleep(&self, duration: Duration) -> Pin<Box<dyn Future<Output = ()> + Send + 'static>> {
        // The engine's loop sleeps once each time that it has sent all it can.
        self.vitals.turns.fetch_add(1, Ordering::SeqCst);
        self.vitals.turned.notify_waiters();
        if self.vitals.is_urgent() {
            return self.inner.yield_now();
        }
        let sleep = self.inner.sleep(self.vitals.step(duration));
        if !self.vitals.relayed.load(Ordering::Relaxed) {
            return sleep;
        }
        let naps = self.vitals.naps.load(Ordering::Relaxed);
        self.vitals
            .naps
            .store(naps.saturating_sub(1), Ordering::Relaxed);
        Box::pin(Nap {
            sleep: (naps == 0).then_some(sleep),
            over: false,
            vitals: self.vitals.clone(),
        })
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

/// The engine's loop, a part of a task.
struct EngineTask {
    abort: AbortHandle,
    over: Arc<AtomicBool>,
}

impl JoinHandle for EngineTask {
    /// It is never held back.
    fn detach(&self) {}

    fn abort(&self) {
        self.abort.abort();
    }

    fn is_finished(&self) -> bool {
        self.over.load(Ordering::SeqCst)
    }
}

/// A wait of the engine where packets go through a TURN server: none at all in the turns after something
/// has happened.
struct Nap {
    sleep: Option<Pin<Box<dyn Future<Output = ()> + Send>>>,
    over: bool,
    vitals: Arc<Vitals>,
}

impl Future for Nap {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        if let Some(sleep) = &mut self.sleep {
            std::task::ready!(sleep.as_mut().poll(cx));
        }
        self.over = true;
        Poll::Ready(())
    }
}

impl Drop for Nap {
    fn drop(&mut self) {
        // Either a timer has fired, or something else came before the end of the wait.
        if self.sleep.is_some() || !self.over {
            self.vitals.naps.store(RELAY_TURNS, Ordering::Relaxed);
        }
    }
}

struct Socket {
    inner: Arc<dyn AsyncUdpSocket>,
    vitals: Arc<Vitals>,
    faults: Option<Faults>,
    refusals: RefusalWatch,
}

impl Socket {
    /// Looks for what TURN servers say to this side.
    fn inspect(&self, buf: &[u8], meta: &RecvMeta) {
        let length = meta.len.min(buf.len());
        let first = if meta.stride == 0 {
            length
        } else {
            meta.stride.min(length)
        };
        if let Some(why) = self.refusals.inspect(meta.addr, &buf[..first]) {
            self.vitals.refusals.note(why);
        }
    }
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
        self.vitals.note_path(transmit.contents);
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
            if let Ok(count) = received {
                self.vitals.heard.fetch_add(1, Ordering::Relaxed);
                if self.vitals.connecting.load(Ordering::Relaxed) {
                    for (buf, meta) in bufs.iter().zip(meta.iter()).take(count) {
                        self.inspect(buf, meta);
                    }
                }
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
    use futures::FutureExt;

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

    fn runtime() -> PipeRuntime {
        let vitals = Vitals::new();
        vitals.set_connecting(false);
        PipeRuntime {
            inner: TokioRuntime,
            task: parking_lot::Mutex::new(None),
            vitals,
            faults: None,
            socket_buffer: 4096,
            resolve_timeout: Duration::from_secs(1),
        }
    }

    #[tokio::test(start_paused = true)]
    async fn what_goes_through_a_relay_is_followed_by_turns_without_a_wait() {
        let runtime = runtime();
        let long = Duration::from_secs(60);
        let waits = || runtime.sleep(long).now_or_never().is_none();
        let direct = record(22, 1, &[1; 40]);
        runtime.vitals.note_path(&direct);
        assert!(waits() && waits());

        // Data of channel 0x4000.
        runtime.vitals.note_path(&[0x40, 0, 0, 4, 1, 2, 3, 4]);
        assert!(waits());
        // Something has come before that wait was over.
        assert!(!waits() && !waits() && waits());
        assert!(!waits());
        // So it has in a turn that did not wait.
        drop(runtime.sleep(long));
        assert!(!waits() && !waits());
        // A timer counts as well.
        runtime.sleep(long).await;
        assert!(!waits() && !waits() && waits());

        runtime.vitals.note_path(&direct);
        assert!(waits() && waits());
    }
}
