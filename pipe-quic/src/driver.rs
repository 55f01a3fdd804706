use std::convert::Infallible;
use std::future::poll_fn;
use std::pin::pin;
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

use bytes::BytesMut;
use futures::FutureExt;
use futures::future::OptionFuture;
use pipe_core::backend::proto::codec::binary;
use pipe_core::backend::proto::{Frame, StreamFrame};
use pipe_core::backend::{Liveness, LivenessEvent, liveness, lost};
use pipe_core::{CloseReason, Error, Result, Wire};
use tokio::time::{Instant, sleep, sleep_until, timeout};

use crate::control_stream::ControlInput;
use crate::early::Early;
use crate::early_data::EarlyData;
use crate::error::{Condition, protocol};
use crate::shared::Shared;
use crate::socket::Socket;
use crate::stream_core::StreamCore;

/// Time limit for the last frames of a connection.
const LINGER: Duration = Duration::from_secs(3);

/// Time for which deferrable frames wait, and for which a stream waits to be announced by its first
/// write.
const GATHER: Duration = Duration::from_millis(1);

/// The task of a connection: its control streams, and its clock.
pub(crate) struct Driver {
    pub(crate) shared: Arc<Shared>,
    /// Absent where the wire is raw, and until the peer's hello.
    pub(crate) control: Option<ControlInput>,
    /// Present while the handshake of TLS is in progress.
    pub(crate) early: Option<Early>,
    pub(crate) end: End,
}

/// Ends the connection when its driver goes, even if its runtime does or it panics, so that nothing waits in vain.
pub(crate) struct End {
    pub(crate) shared: Arc<Shared>,
    /// The socket to close once the connection is over, if it is this connection's own.
    pub(crate) socket: Option<Arc<Socket>>,
}

impl Drop for End {
    fn drop(&mut self) {
        self.shared.driver_gone();
        if let Some(socket) = self.socket.take() {
            // The socket is the connection's own.
            drop(self.shared.take_endpoint());
            socket.close();
        }
    }
}

impl Driver {
    pub(crate) async fn run(mut self) {
        let session = self.early.as_ref().and_then(Early::session);
        if let Err(error) = self.drive().await {
            tracing::debug!(%error, "a peer broke the protocol");
            self.shared.fail(Condition::Protocol, error);
        }
        if let Some(session) = session
            && self.shared.early() == EarlyData::Pending
        {
            // The next dial begins anew.
            session.forget();
        }
        self.say_goodbye().await;
        self.shared.close_quinn();
        self.shared.bury();
        drop(self.control);
        let endpoint = self.shared.take_endpoint();
        if let (Some(endpoint), true) = (endpoint, self.end.socket.is_some()) {
            // The close is sent again as long as the peer goes on sending.
            let _ = timeout(LINGER, endpoint.wait_idle()).await;
        }
    }

    /// Brings this side's close to the peer, over the control stream: QUIC's own is sent once, and quinn
    /// (0.11) does not send it at all while data waits for the congestion window.
    async fn say_goodbye(&mut self) {
        let closed_here = matches!(self.shared.status.reason(), Some(CloseReason::Local { .. }));
        if !closed_here {
            return;
        }
        let (send, output) = {
            let mut inner = self.shared.inner.lock();
            (inner.control.take(), inner.output.take())
        };
        let Some(mut send) = send else { return };
        let say = async {
            send.write_all(&output).await.ok()?;
            send.finish().ok()?;
            send.stopped().await.ok()
        };
        // The peer may have closed at the same time.
        let hear = async {
            let Some(control) = &mut self.control else {
                return std::future::pending().await;
            };
            let mut buf = [0; 1024];
            while let Ok(Some(count)) = control.recv.read(&mut buf).await {
                control.input.extend_from_slice(&buf[..count]);
                loop {
                    match binary::decode(&mut control.input) {
                        Ok(None) => break,
                        // The control stream of a peer that sends malformed frames is of no further
                        // use.
                        Ok(Some(Frame::Close { .. })) | Err(_) => return,
                        Ok(Some(_)) => {}
                    }
                }
            }
        };
        tokio::select! {
            _ = say => {}
            () = hear => {}
            () = sleep(LINGER) => {}
        }
    }

    /// Runs until the connection has ended, or the peer breaks the rules.
    async fn drive(&mut self) -> Result<()> {
        let shared = self.shared.clone();
        let mut ended = pin!(shared.status.ended());
        let mut lost = pin!(shared.quinn.closed());
        let mut clock = Clock::new(&shared);
        let mut wake = pin!(sleep_until(clock.next(&shared)));
        if let Some(control) = &mut self.control {
            take(&shared, &mut control.input)?;
        }
        let early = self.early.take();
        let mut early = OptionFuture::from(early.map(|early| Box::pin(early.finish(&shared))));
        let mut under_way = shared.early() == EarlyData::Pending;
        let mut buf = [0; 1024];
        let mut gathered = pin!(sleep(GATHER));
        let mut gathers = false;
        let mut unshown = Vec::new();
        loop {
            if !gathers && shared.gathers() {
                gathers = true;
                gathered.as_mut().reset(Instant::now() + GATHER);
            }
            let recv = self.control.as_mut().map(|control| &mut control.recv);
            tokio::select! {
                _ = ended.as_mut() => return Ok(()),
                error = lost.as_mut() => {
                    if under_way {
                        // It has more details of the reason.
                        let _ = (&mut early).now_or_never();
                    }
                    shared.lost(&error);
                    return Ok(());
                }
                heard = &mut early, if under_way => {
                    under_way = false;
                    if let Some(mut control) = heard.flatten() {
                        clock.heard(&shared);
                        take(&shared, &mut control.input)?;
                        self.control = Some(control);
                    }
                }
                read = read(recv, &mut buf) => {
                    let Some(count) = read? else { continue };
                    clock.heard(&shared);
                    if let Some(control) = &mut self.control {
                        control.input.extend_from_slice(&buf[..count]);
                        take(&shared, &mut control.input)?;
                    }
                }
                error = send(&shared) => return Err(broken(&error)),
                never = show(&shared, &mut unshown) => match never {},
                () = shared.news.notified() => {}
                () = gathered.as_mut(), if gathers => {
                    gathers = false;
                    shared.stop_gathering(&mut unshown);
                }
                () = wake.as_mut() => {
                    if clock.strike(&shared) {
                        return Ok(());
                    }
                    wake.as_mut().reset(clock.next(&shared));
                }
            }
        }
    }
}

/// Reads from the control stream; `None` when the connection is over, which is reported elsewhere.
async fn read(recv: Option<&mut quinn::RecvStream>, buf: &mut [u8]) -> Result<Option<usize>> {
    let Some(recv) = recv else {
        return std::future::pending().await;
    };
    match recv.read(buf).await {
        Ok(Some(count)) => Ok(Some(count)),
        Ok(None) => Err(protocol("it has ended the control stream")),
        Err(quinn::ReadError::ConnectionLost(_)) => std::future::pending().await,
        Err(error) => Err(broken(&error)),
    }
}

/// Sends pending frames until the control stream is cut.
async fn send(shared: &Shared) -> quinn::WriteError {
    poll_fn(|cx| match shared.inner.lock().poll_send(cx) {
        // The end of the connection is reported elsewhere.
        Poll::Ready(quinn::WriteError::ConnectionLost(_)) => Poll::Pending,
        sent => sent,
    })
    .await
}

/// Shows streams to the peer, as long as there are some to show.
async fn show(shared: &Shared, unshown: &mut Vec<Arc<StreamCore>>) -> Infallible {
    poll_fn(|cx| {
        shared.show(unshown, cx);
        Poll::Pending
    })
    .await
}

fn broken(error: &impl std::fmt::Display) -> Error {
    protocol(format_args!("the control stream is cut: {error}"))
}

/// Takes in the frames that have come.
fn take(shared: &Shared, input: &mut BytesMut) -> Result<()> {
    while let Some(frame) = binary::decode(input)? {
        match frame {
            Frame::Ping(bytes) => shared.answer(bytes)?,
            Frame::Pong(bytes) => shared.pong(&bytes)?,
            Frame::Stream { id, frame } => match frame {
                StreamFrame::Done => shared.peer_done(id),
                StreamFrame::Credit(bytes) => shared.credit(id, bytes),
                other => return Err(useless(&other)),
            },
            Frame::Drain => shared.drain_by_peer()?,
            Frame::Drained { .. } => shared.drained_by_peer()?,
            Frame::Close { code, reason, .. } => shared.closed_by_peer(code, &reason),
            Frame::Hello(_) => return Err(protocol("a second hello")),
            other => return Err(useless(&other)),
        }
    }
    Ok(())
}

/// Returns the error of a frame whose meaning QUIC itself has.
fn useless(frame: &impl std::fmt::Debug) -> Error {
    protocol(format_args!(
        "a message that QUIC has no use for: {frame:?}"
    ))
}

/// Detects from silence whether the peer is reachable.
struct Clock {
    liveness: Liveness,
    /// Number of packets received at the last check.
    seen: u64,
    looked: Instant,
    period: Duration,
}

impl Clock {
    fn new(shared: &Shared) -> Self {
        let now = Instant::now();
        Self {
            liveness: liveness(&shared.config, now.into_std()),
            seen: received(shared),
            looked: now,
            period: shared.config.keep_alive / 4,
        }
    }

    /// Returns when to strike next. While there is traffic, received packets are checked now and
    /// then; otherwise the answers to pings are observed directly.
    fn next(&self, shared: &Shared) -> Instant {
        let deadline = self.liveness.deadline().into();
        if shared.wire == Wire::Pipe && shared.in_use() == 0 {
            return deadline;
        }
        deadline.min(self.looked + self.period)
    }

    fn heard(&mut self, shared: &Shared) {
        if self.liveness.heard(Instant::now().into_std()) {
            shared.status.set_connected(true);
        }
    }

    /// Performs the due actions. Returns whether the peer is lost.
    fn strike(&mut self, shared: &Shared) -> bool {
        let now = Instant::now();
        self.looked = now;
        shared.nudge_writers();
        let received = received(shared);
        if std::mem::replace(&mut self.seen, received) != received {
            self.heard(shared);
        }
        while let Some(event) = self.liveness.poll(now.into_std()) {
            match event {
                LivenessEvent::Ping if shared.wire == Wire::Pipe => shared.ask(),
                // quinn sends its own.
                LivenessEvent::Ping => {}
                LivenessEvent::Disconnected => shared.disconnect(),
                LivenessEvent::Failed => {
                    shared.fail(Condition::Silent, lost(&shared.config));
                    return true;
                }
            }
        }
        false
    }
}

/// Counts frames that only the peer can have sent.
fn received(shared: &Shared) -> u64 {
    let frames = shared.quinn.stats().frame_rx;
    frames.acks + frames.ping + frames.stream + frames.max_data + frames.max_stream_data
}
