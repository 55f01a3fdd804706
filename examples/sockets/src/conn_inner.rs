use std::io;
use std::net::SocketAddr;
use std::sync::{Arc, OnceLock};
use std::task::Waker;
use std::time::Duration;

use bytes::BytesMut;
use parking_lot::{Mutex, MutexGuard};
use pipe_core::backend::proto::codec::binary;
use pipe_core::backend::proto::{
    Carrier, DrainMode, Event, Frame, Session, Stream, StreamFrame, StreamHandle,
};
use pipe_core::backend::{
    Backlog, ConnStatus, PeerWindows, PingWaiter, Pings, StreamSlots, lost, open_error, protocol,
    random_ping,
};
use pipe_core::{Addr, CloseReason, Config, Error, ErrorKind, Result};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::runtime::Handle;
use tokio::sync::{Notify, Semaphore};
use tokio::time::{Instant, timeout};

use crate::stream_ref::StreamRef;
use crate::transport::addr_of;

/// How often the dialer tries to connect the socket of a stream.
const ATTEMPTS: usize = 8;

/// Frames are taken from the session while less than this is to be sent; those that stay there are merged.
const MAX_OUTPUT: usize = 4 * 1024;

// ANCHOR: conn
/// A connection: the state that its handles, its streams and its driver share. The lock of the session comes before
/// those of streams, and no task is woken while it is held.
pub(crate) struct ConnInner {
    pub(crate) config: Config,
    pub(crate) addrs: [Addr; 2],
    pub(crate) status: ConnStatus,
    pub(crate) backlog: Backlog<StreamRef>,
    slots: StreamSlots,
    windows: OnceLock<PeerWindows>,
    pings: Pings,
    /// Notified of every step of a drain.
    pub(crate) idle: Notify,
    /// Wakes the driver to send frames.
    pub(crate) work: Notify,
    /// Notified of each stream that the peer opens.
    opened: Notify,
    /// Closed once the driver has ended.
    pub(crate) left: Semaphore,
    port: StreamPort,
    is_dialer: bool,
    runtime: Handle,
    state: Mutex<State>,
}

pub(crate) struct State {
    pub(crate) session: Session<StreamRef, PingWaiter>,
    next_id: u64,
    /// The newest stream of the peer.
    newest: u64,
}

/// Where the sockets of streams connect to, and what they prove with whose they are.
pub(crate) struct StreamPort {
    pub(crate) at: SocketAddr,
    pub(crate) token: [u8; 16],
}
// ANCHOR_END: conn

impl ConnInner {
    // ANCHOR: new
    pub(crate) fn new(
        config: &Config,
        [local, remote]: [SocketAddr; 2],
        port: StreamPort,
        is_dialer: bool,
    ) -> Result<Arc<Self>> {
        let carrier = Carrier {
            local_bit: u64::from(is_dialer),
            opens_by_frame: true,
            has_orphans: false,
            ends_natively: false,
            drain: DrainMode::AtOnce,
            is_plain: false,
        };
        Ok(Arc::new(Self {
            config: config.clone(),
            addrs: [addr_of(local)?, addr_of(remote)?],
            status: ConnStatus::new(),
            backlog: Backlog::new(),
            slots: StreamSlots::new(config.max_streams),
            windows: OnceLock::new(),
            pings: Pings::new(),
            idle: Notify::new(),
            work: Notify::new(),
            opened: Notify::new(),
            left: Semaphore::new(0),
            port,
            is_dialer,
            runtime: Handle::current(),
            state: Mutex::new(State {
                session: Session::new(carrier, config.into(), now()),
                next_id: if is_dialer { 1 } else { 2 },
                newest: 0,
            }),
        }))
    }
    // ANCHOR_END: new

    pub(crate) fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock()
    }

    /// Returns the windows that the peer grants, which its hello names.
    pub(crate) fn windows(&self) -> &PeerWindows {
        static NONE: PeerWindows = PeerWindows::none();
        self.windows.get().unwrap_or(&NONE)
    }

    /// Credit goes back in quarters of a window, or at every read where a window is shared.
    fn with_credit(&self, stream: Stream) -> Stream {
        let shared = !self.config.connection_window_is_ample();
        let threshold = if shared {
            1
        } else {
            self.config.stream_window / 4
        };
        stream.with_credit_threshold(Some(threshold))
    }

    // ANCHOR: open
    pub(crate) async fn open(self: &Arc<Self>) -> Result<StreamRef> {
        let slot = self.slots.acquire().await;
        let mut state = self.lock();
        let ended = |error| open_error(error, self.status.error());
        state.session.check_open().map_err(ended)?;
        let id = state.next_id;
        state.next_id += 2;
        let stream = StreamRef::new(self.with_credit(Stream::local(id, true)), slot);
        state.session.open(&stream, now());
        self.settle(state);
        self.connect(&stream);
        Ok(stream)
    }

    pub(crate) fn on_accepted(&self, stream: &StreamRef) {
        let mut state = self.lock();
        state.session.on_accepted(stream);
        self.settle(state);
    }
    // ANCHOR_END: open

    // ANCHOR: connect
    /// Connects a socket for a stream of either side, where this one has dialed.
    fn connect(self: &Arc<Self>, stream: &StreamRef) {
        if !self.is_dialer {
            return;
        }
        let (conn, of) = (self.clone(), stream.clone());
        let task = self.runtime.spawn(async move {
            let mut failed = 0;
            while let Err(error) = conn.try_connect(&of).await {
                failed += 1;
                if failed == ATTEMPTS {
                    conn.on_socket_lost(&of, error);
                }
                if failed == ATTEMPTS || !conn.still_needs_socket(&of).await {
                    return;
                }
            }
        });
        stream.connects(task.abort_handle());
    }

    async fn try_connect(&self, stream: &StreamRef) -> io::Result<()> {
        let connecting = TcpStream::connect(self.port.at);
        let mut socket = timeout(self.config.handshake_timeout, connecting).await??;
        socket.set_nodelay(true)?;
        socket.set_zero_linger()?;
        let mut preamble = [0; 24];
        preamble[..16].copy_from_slice(&self.port.token);
        preamble[16..].copy_from_slice(&stream.id.to_be_bytes());
        socket.write_all(&preamble).await?;
        socket.read_u8().await?;
        stream.attach(socket);
        Ok(())
    }

    /// Finds the stream that a new socket is for, once its OPEN has come.
    pub(crate) async fn identify(&self, socket: &mut TcpStream) -> Result<StreamRef> {
        let mut token = [0; 16];
        socket.read_exact(&mut token).await?;
        if token != self.port.token {
            return Err(protocol("a socket with a false token"));
        }
        let id = socket.read_u64().await?;
        loop {
            let opened = self.opened.notified();
            {
                let state = self.lock();
                match state.session.stream(id) {
                    Some(stream) if stream.awaits_socket() => break Ok(stream.clone()),
                    None if !state.session.is_local(id) && id > state.newest => {}
                    _ => {
                        return Err(protocol(format_args!(
                            "a socket for stream {id}, which needs none"
                        )));
                    }
                }
            }
            opened.await;
        }
    }
    // ANCHOR_END: connect

    // ANCHOR: lost
    /// Ends the connection if the socket of a stream is gone without a reason.
    pub(crate) fn on_socket_lost(self: &Arc<Self>, stream: &StreamRef, error: io::Error) {
        let (conn, stream) = (self.clone(), stream.clone());
        self.runtime.spawn(async move {
            if conn.still_needs_socket(&stream).await {
                let why = format!("the socket of stream {} is lost: {error}", stream.id);
                conn.end(CloseReason::Failed(Error::with_source(
                    ErrorKind::Failed,
                    why,
                    error,
                )));
            }
        });
    }

    /// Returns whether a stream needs its socket after everything that the peer has said until now: its answer to a
    /// ping comes behind that.
    async fn still_needs_socket(&self, stream: &StreamRef) -> bool {
        stream.needs_socket() && self.ping().await.is_ok() && stream.needs_socket()
    }
    // ANCHOR_END: lost

    pub(crate) async fn ping(&self) -> Result<Duration> {
        let send = |bytes, waiter| {
            let mut state = self.lock();
            // A waiter that comes back is dropped: the connection has ended.
            let _ = state.session.ping(bytes, waiter, now());
            self.settle(state);
        };
        self.pings.round_trip(&self.status, send).await
    }

    // ANCHOR: frames
    /// Takes in the frames that have come whole.
    pub(crate) fn on_input(self: &Arc<Self>, input: &mut BytesMut) -> Result<()> {
        let mut opened = Vec::new();
        let mut state = self.lock();
        state.session.on_heard(now());
        while !state.session.is_ended() {
            let frame =
                binary::decode(input).map_err(|violation| state.session.blame(violation))?;
            match frame {
                Some(Frame::Stream {
                    id,
                    frame: StreamFrame::Open,
                }) => {
                    let stream = StreamRef::new(self.with_credit(Stream::remote(id)), None);
                    state.session.accept(&stream)?;
                    state.newest = state.newest.max(id);
                    opened.push(stream);
                }
                Some(frame) => state.session.handle_frame(frame, now())?,
                None => break,
            }
        }
        self.settle(state);
        for stream in opened {
            self.connect(&stream);
            // A queue that is closed belongs to a connection that is ending.
            let _ = self.backlog.push(stream);
        }
        self.opened.notify_waiters();
        Ok(())
    }

    /// Takes frames out, as bytes to send. Returns when to call [`on_timeout`](Self::on_timeout).
    pub(crate) fn poll_output(&self, output: &mut BytesMut) -> Result<Instant> {
        let mut state = self.lock();
        if state.session.is_flooded() {
            return Err(protocol("it does not read its control socket"));
        }
        while output.len() < MAX_OUTPUT
            && let Some(frame) = state.session.poll_frame()
        {
            binary::encode(&frame, output);
        }
        let deadline = state.session.poll_timeout();
        self.settle(state);
        Ok(deadline.map_or_else(
            || Instant::now() + self.config.keep_alive,
            Instant::from_std,
        ))
    }

    pub(crate) fn on_timeout(&self) {
        let mut state = self.lock();
        state.session.handle_timeout(now());
        self.settle(state);
    }
    // ANCHOR_END: frames

    // ANCHOR: events
    /// Looks at a stream after a change.
    pub(crate) fn update(&self, stream: &StreamRef) {
        if stream.with(|proto| proto.needs_session()) {
            let mut state = self.lock();
            state.session.update(stream);
            self.settle(state);
        }
    }

    /// Acts on the events of the session, once it is unlocked.
    fn settle(&self, mut state: MutexGuard<'_, State>) {
        let mut events = Vec::new();
        while let Some(event) = state.session.poll_event() {
            if let Event::Closed { code, reason, .. } = &event {
                self.status.end(CloseReason::remote(*code, reason));
            }
            events.push(event);
        }
        if state.session.has_frames() {
            self.work.notify_one();
        }
        drop(state);
        events.into_iter().for_each(|event| self.on_event(event));
    }

    fn on_event(&self, event: Event<StreamRef, PingWaiter>) {
        match event {
            Event::Hello(hello) => {
                self.slots.shrink(hello.max_streams);
                let windows = PeerWindows::new(hello.stream_window, hello.connection_window);
                // The session refuses a second hello.
                let _ = self.windows.set(windows);
            }
            Event::Wake {
                stream,
                reader,
                writer,
            } => {
                let mut state = stream.lock();
                let reader = state.reader.take_if(|_| reader);
                let writer = state.writer.take_if(|_| writer);
                let is_over = state.proto.is_retired();
                drop(state);
                if is_over {
                    stream.close_socket();
                }
                reader.into_iter().chain(writer).for_each(Waker::wake);
            }
            Event::Room(bytes) => self.windows().give_back(bytes),
            Event::SlotFreed(stream) => {
                let slot = stream.lock().slot.take();
                drop(slot);
            }
            Event::Retired(stream) => stream.close_socket(),
            Event::Idle => self.idle.notify_waiters(),
            Event::Pong { waiter, round_trip } => waiter.answer(round_trip),
            Event::KeepAlive => self.keep_alive(),
            Event::Disconnected => drop(self.status.set_connected(false)),
            Event::Reconnected => drop(self.status.set_connected(true)),
            Event::Failed => self.end(CloseReason::Failed(lost(&self.config))),
            Event::Draining => self.slots.close(),
            Event::Closed { .. } => self.on_end(),
            // What is left is about the other wires, or ends by a drop.
            _ => {}
        }
    }
    // ANCHOR_END: events

    fn keep_alive(&self) {
        // A stream that was woken for room may have lost interest.
        self.windows().nudge();
        if let Ok(bytes) = random_ping() {
            let mut state = self.lock();
            state.session.keep_alive(bytes, now());
            self.settle(state);
        }
    }

    // ANCHOR: end
    pub(crate) fn drain(&self) {
        let mut state = self.lock();
        if state.session.drain() {
            self.slots.close();
        }
        self.settle(state);
    }

    /// Ends the connection, unless it has ended.
    pub(crate) fn end(&self, reason: CloseReason) {
        let mut state = self.lock();
        if !self.status.end(reason.clone()) {
            return;
        }
        match reason {
            CloseReason::Local { code, reason } => state.session.close(code, 0, &reason, now()),
            _ => state.session.fail(),
        }
        self.settle(state);
        self.on_end();
    }

    /// Wakes what waits for the connection itself.
    fn on_end(&self) {
        self.slots.close();
        self.pings.close();
        drop(self.backlog.close());
        self.idle.notify_waiters();
        self.opened.notify_waiters();
        self.work.notify_one();
    }
    // ANCHOR_END: end
}

fn now() -> std::time::Instant {
    Instant::now().into_std()
}
