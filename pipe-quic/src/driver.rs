use std::convert::Infallible;
use std::future::poll_fn;
use std::pin::pin;
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

use futures::FutureExt;
use futures::future::OptionFuture;
use pipe_core::backend::SessionConn;
use pipe_core::backend::proto::Frame;
use pipe_core::backend::proto::codec::binary;
use pipe_core::{CloseReason, Error, Result, Wire};
use tokio::time::{Instant, sleep, sleep_until, timeout};

use crate::conn_inner::ConnInner;
use crate::control_stream::ControlInput;
use crate::early::Early;
use crate::early_data::EarlyData;
use crate::error::{Condition, protocol};
use crate::socket::Socket;
use crate::stream_inner::StreamRef;
use crate::web::WebSession;

/// Time limit for the last frames of a connection.
const LINGER: Duration = Duration::from_secs(3);

/// The task of a connection: its control streams, and its clock.
pub(crate) struct Driver {
    pub(crate) conn: Arc<ConnInner>,
    /// Absent where the wire is raw, and until the peer's hello.
    pub(crate) control: Option<ControlInput>,
    /// The session of WebTransport, if it is one.
    pub(crate) web: Option<WebSession>,
    /// Present while the handshake of TLS is in progress.
    pub(crate) early: Option<Early>,
    pub(crate) end: End,
}

/// Ends the connection when its driver goes, even if its runtime does or it panics, so that nothing waits in vain.
pub(crate) struct End {
    pub(crate) conn: Arc<ConnInner>,
    /// The socket to close once the connection is over, if it is this connection's own.
    pub(crate) socket: Option<Arc<Socket>>,
}

impl Drop for End {
    fn drop(&mut self) {
        self.conn.driver_gone();
        drop(self.conn.take_endpoint());
        if let Some(socket) = self.socket.take() {
            socket.close();
        }
    }
}

impl Driver {
    pub(crate) async fn run(mut self) {
        let session = self.early.as_ref().and_then(Early::session);
        if let Err(error) = self.drive().await {
            tracing::debug!(%error, "a peer broke the protocol");
            self.conn.fail(Condition::Protocol, error);
        }
        if let Some(session) = session
            && self.conn.early() == EarlyData::Pending
        {
            // The next dial begins anew.
            session.forget();
        }
        self.say_goodbye().await;
        self.conn.close_quinn();
        self.conn.bury();
        drop(self.control);
        let endpoint = self.conn.take_endpoint();
        if let (Some(endpoint), true) = (endpoint, self.end.socket.is_some()) {
            // The close is sent again as long as the peer goes on sending.
            let _ = timeout(LINGER, endpoint.wait_idle()).await;
        }
    }

    /// Brings this side's close to the peer, over the control stream: QUIC's own is sent once, and quinn
    /// (0.11) does not send it at all while data waits for the congestion window.
    async fn say_goodbye(&mut self) {
        let Some(CloseReason::Local { code, reason }) = self.conn.status.reason() else {
            return;
        };
        let control = self.conn.take_control();
        if control.is_none() && self.web.is_none() {
            return;
        }
        let web = &mut self.web;
        let say = async {
            if let Some((mut send, frames)) = control {
                send.write_all(&frames).await.ok()?;
                send.finish().ok()?;
                send.stopped().await.ok()?;
            }
            match web {
                Some(web) => web.close(*code, reason).await,
                None => Some(()),
            }
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
        let conn = self.conn.clone();
        let mut ended = pin!(conn.status.ended());
        let mut lost = pin!(conn.quinn.closed());
        let mut clock = Clock::new(&conn);
        let mut wake = pin!(sleep_until(clock.next(&conn)));
        if let Some(control) = &mut self.control {
            conn.receive(&mut control.input)?;
        }
        let early = self.early.take();
        let mut early = OptionFuture::from(early.map(|early| Box::pin(early.finish(&conn))));
        let mut under_way = conn.early() == EarlyData::Pending;
        let mut buf = [0; 1024];
        let mut hidden = Vec::new();
        loop {
            let next = clock.next(&conn);
            if next != wake.deadline() {
                wake.as_mut().reset(next);
            }
            let recv = self.control.as_mut().map(|control| &mut control.recv);
            tokio::select! {
                _ = ended.as_mut() => return Ok(()),
                error = lost.as_mut() => {
                    if under_way {
                        // It has more details of the reason.
                        let _ = (&mut early).now_or_never();
                    }
                    conn.lost(&error);
                    return Ok(());
                }
                heard = &mut early, if under_way => {
                    under_way = false;
                    if let Some(mut control) = heard.flatten() {
                        conn.receive(&mut control.input)?;
                        self.control = Some(control);
                    }
                }
                read = read(recv, &mut buf) => {
                    let Some(count) = read? else { continue };
                    if let Some(control) = &mut self.control {
                        control.input.extend_from_slice(&buf[..count]);
                        conn.receive(&mut control.input)?;
                    }
                }
                ended = web_ended(&mut self.web) => {
                    conn.end(&ended?);
                    return Ok(());
                }
                error = send(&conn) => return Err(broken(&error)),
                never = show(&conn, &mut hidden) => match never {},
                () = conn.news.notified() => {}
                () = wake.as_mut() => {
                    clock.strike(&conn);
                    conn.take_hidden(&mut hidden);
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

/// Waits for the peer's end of the session of WebTransport, if it is one.
async fn web_ended(web: &mut Option<WebSession>) -> Result<CloseReason> {
    match web {
        Some(web) => web.ended().await,
        None => std::future::pending().await,
    }
}

/// Sends pending frames until the control stream is cut.
async fn send(conn: &ConnInner) -> quinn::WriteError {
    poll_fn(|cx| match conn.poll_send(cx) {
        // The end of the connection is reported elsewhere.
        Poll::Ready(quinn::WriteError::ConnectionLost(_)) => Poll::Pending,
        sent => sent,
    })
    .await
}

/// Shows streams to the peer, as long as there are some to show.
async fn show(conn: &ConnInner, hidden: &mut Vec<StreamRef>) -> Infallible {
    poll_fn(|cx| {
        conn.show(hidden, cx);
        Poll::Pending
    })
    .await
}

fn broken(error: &impl std::fmt::Display) -> Error {
    protocol(format_args!("the control stream is cut: {error}"))
}

/// The time, and the packets of the peer, which are signs of life.
struct Clock {
    /// Number of packets received at the last check.
    seen: u64,
    looked: Instant,
    period: Duration,
}

impl Clock {
    fn new(conn: &ConnInner) -> Self {
        Self {
            seen: received(conn),
            looked: Instant::now(),
            period: conn.config.keep_alive / 4,
        }
    }

    /// Returns when to strike next. While there is traffic, received packets are checked now and
    /// then; otherwise the answers to pings are observed directly.
    fn next(&self, conn: &ConnInner) -> Instant {
        let state = conn.state.lock();
        let has_streams = state.session.streams().next().is_some();
        let check = (has_streams || conn.wire == Wire::Raw).then(|| self.looked + self.period);
        let session = state.session.poll_timeout().map(Instant::from_std);
        let next = [check, session, state.extra.control.poll_timeout()];
        // Without a deadline the connection has ended.
        let far = || Instant::now() + LINGER;
        next.into_iter().flatten().min().unwrap_or_else(far)
    }

    /// Performs the due actions.
    fn strike(&mut self, conn: &ConnInner) {
        let now = Instant::now();
        if now >= self.looked + self.period {
            self.looked = now;
            if let Some(windows) = &conn.peer_windows {
                windows.nudge();
            }
        }
        let received = received(conn);
        let heard = std::mem::replace(&mut self.seen, received) != received;
        conn.handle_timeout(now, heard);
    }
}

/// Counts frames that only the peer can have sent.
fn received(conn: &ConnInner) -> u64 {
    let frames = conn.quinn.stats().frame_rx;
    frames.acks + frames.ping + frames.stream + frames.max_data + frames.max_stream_data
}
