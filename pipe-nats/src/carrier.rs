//! The stream of bytes over a pair of inboxes: its two halves, and the task that exchanges messages with the peer.

use std::future::pending;
use std::io;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use async_nats::{Message, Subscriber};
use bytes::Bytes;
use futures::{FutureExt, StreamExt};
use parking_lot::Mutex;
use pipe_core::backend::now;
use pipe_core::{Error, ErrorKind, Result};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::sync::Notify;
use tokio::time::{Instant, sleep, sleep_until, timeout};

use crate::broker::{Broker, Watch, gone};
use crate::greeting::Answer;
use crate::link::{Link, MAX_CHUNK};
use crate::segment::{HEADER, Segment};
use crate::subject::is_inbox;

/// Time for which the last bytes are sent again after both halves were dropped.
const LINGER: Duration = Duration::from_secs(3);

/// Time limit for the last message to leave.
const LAST_WORD: Duration = Duration::from_secs(1);

/// Pause before another look at a client that is not connected: the report of a connection can come a moment before its state.
const UNTIL_CONNECTED: Duration = Duration::from_millis(100);

/// Maximum number of messages taken before the answer to them is sent.
const BATCH: usize = 64;

/// Where the messages of a connection go, and come from.
pub(crate) struct Inboxes {
    pub(crate) broker: Arc<Broker>,
    /// The subscription of this side's own inbox.
    pub(crate) own: Subscriber,
    /// The subject of the peer's inbox.
    pub(crate) peer: String,
}

/// The receiving half.
#[derive(Debug)]
pub(crate) struct Reader(Arc<Shared>);

/// The sending half.
#[derive(Debug)]
pub(crate) struct Writer(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    state: Mutex<SharedState>,
    /// Notified when the task has something to do.
    work: Notify,
    /// Notified when both halves are dropped.
    left: Notify,
}

#[derive(Debug)]
struct SharedState {
    link: Link,
    reader: Option<Waker>,
    writer: Option<Waker>,
    halves: u8,
    /// Why no more bytes come or leave.
    failed: Option<Error>,
}

/// What the task does next.
enum Step {
    Send(Bytes),
    Wait(Option<std::time::Instant>),
    End,
}

/// Makes the halves of a stream over these inboxes. A task runs it, until both are dropped and what was written has
/// arrived.
pub(crate) fn open(inboxes: Inboxes) -> (Reader, Writer) {
    let state = SharedState {
        link: Link::new(),
        reader: None,
        writer: None,
        halves: 2,
        failed: None,
    };
    let shared = Arc::new(Shared {
        state: Mutex::new(state),
        work: Notify::new(),
        left: Notify::new(),
    });
    let task = Task {
        shared: shared.clone(),
        watch: inboxes.broker.watch(),
        inboxes,
    };
    tokio::spawn(task.run());
    (Reader(shared.clone()), Writer(shared))
}

impl Reader {
    /// Waits until the peer has sent something, or nothing will come.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future changes nothing.
    pub(crate) async fn first_byte(&self) -> io::Result<()> {
        std::future::poll_fn(|cx| {
            let mut state = self.0.state.lock();
            let polled = state.poll_bytes(cx);
            polled.map_ok(drop)
        })
        .await
    }
}

impl SharedState {
    /// Waits for received bytes. Returns whether there are any; otherwise they have ended.
    fn poll_bytes(&mut self, cx: &Context<'_>) -> Poll<io::Result<bool>> {
        if !self.link.unread().is_empty() {
            return Poll::Ready(Ok(true));
        }
        if self.link.is_at_end() {
            return Poll::Ready(Ok(false));
        }
        if let Some(error) = &self.failed {
            return Poll::Ready(Err(error.clone().into()));
        }
        self.reader = Some(cx.waker().clone());
        Poll::Pending
    }

    fn fail(&mut self, error: Error) {
        self.failed.get_or_insert(error);
    }
}

impl AsyncRead for Reader {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let mut state = self.0.state.lock();
        if !std::task::ready!(state.poll_bytes(cx))? {
            return Poll::Ready(Ok(()));
        }
        while buf.remaining() > 0 && !state.link.unread().is_empty() {
            let piece = state.link.unread();
            let count = piece.len().min(buf.remaining());
            buf.put_slice(&piece[..count]);
            state.link.consume(count);
        }
        drop(state);
        // There is room for more.
        self.0.work.notify_one();
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Writer {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        let mut state = self.0.state.lock();
        if let Some(error) = &state.failed {
            return Poll::Ready(Err(error.clone().into()));
        }
        if state.link.is_finished() {
            return Poll::Ready(Err(io::ErrorKind::BrokenPipe.into()));
        }
        let count = state.link.write(buf);
        if count == 0 && !buf.is_empty() {
            state.writer = Some(cx.waker().clone());
            return Poll::Pending;
        }
        drop(state);
        self.0.work.notify_one();
        Poll::Ready(Ok(count))
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        // The task sends what was written.
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.0.state.lock().link.finish();
        self.0.work.notify_one();
        Poll::Ready(Ok(()))
    }
}

impl Shared {
    fn leave(&self) {
        let mut state = self.state.lock();
        state.halves -= 1;
        let is_last = state.halves == 0;
        drop(state);
        if is_last {
            self.left.notify_one();
            self.work.notify_one();
        }
    }

    /// Processes what has come to this side's inbox.
    fn handle(&self, messages: impl Iterator<Item = Message>) {
        let mut state = self.state.lock();
        for message in messages {
            // A word of the broker, and a late answer to the request.
            if message.status.is_some() || Answer::decode(&message.payload).is_some() {
                continue;
            }
            let handled = Segment::decode(message.payload)
                .and_then(|segment| state.link.handle(&segment, now()));
            if let Err(error) = handled {
                state.fail(error);
            }
        }
        if state.link.is_reset() {
            let why = "the peer has given the connection up";
            state.fail(io::Error::new(io::ErrorKind::ConnectionReset, why).into());
        }
        self.wake(state);
    }

    fn fail(&self, error: Error) {
        let mut state = self.state.lock();
        state.fail(error);
        self.wake(state);
    }

    fn wake(&self, mut state: parking_lot::MutexGuard<'_, SharedState>) {
        let wakers = [state.reader.take(), state.writer.take()];
        drop(state);
        wakers.into_iter().flatten().for_each(Waker::wake);
    }

    /// Returns what the task does next. `room` is for how many bytes a message has room now.
    fn step(&self, room: Option<usize>) -> Step {
        let now = now();
        let mut state = self.state.lock();
        if state.halves == 0 {
            state.link.discard();
            let is_over = !state.link.is_finished() || state.link.is_all_confirmed();
            if is_over || state.failed.is_some() {
                return Step::End;
            }
        }
        if state.failed.is_some() {
            return Step::Wait(None);
        }
        state.link.handle_timeout(now);
        if let Some(room) = room
            && let Some(segment) = state.link.poll_transmit(room, now)
        {
            return Step::Send(segment.encode());
        }
        Step::Wait(match room {
            Some(_) => state.link.poll_timeout(),
            None => Some(now + UNTIL_CONNECTED),
        })
    }

    /// Returns whether the connection is over without the peer knowing.
    fn is_broken_off(&self) -> bool {
        let state = self.state.lock();
        let is_complete = state.link.is_all_confirmed() && state.link.is_at_end();
        !is_complete && !state.link.is_reset()
    }
}

impl Drop for Reader {
    fn drop(&mut self) {
        self.0.leave();
    }
}

impl Drop for Writer {
    fn drop(&mut self) {
        self.0.leave();
    }
}

/// Exchanges messages with the peer.
struct Task {
    shared: Arc<Shared>,
    watch: Watch,
    inboxes: Inboxes,
}

impl Task {
    async fn run(mut self) {
        let shared = self.shared.clone();
        let abandoned = async {
            shared.left.notified().await;
            sleep(LINGER).await;
        };
        tokio::select! {
            ended = self.exchange() => if let Err(error) = ended {
                shared.fail(error);
            },
            () = abandoned => {}
        }
        let Inboxes { broker, peer, .. } = self.inboxes;
        let last = async {
            if shared.is_broken_off() {
                let reset = Segment::reset().encode();
                // It is a favour: the peer finds out by itself.
                let _ = broker.publish(peer, reset).await;
            }
            broker.flush().await;
        };
        let _ = timeout(LAST_WORD, last).await;
    }

    /// Runs until both halves are dropped, and the peer has all that was written.
    async fn exchange(&mut self) -> Result<()> {
        loop {
            let room = self.inboxes.broker.is_connected().then(|| {
                let max = self.inboxes.broker.max_payload();
                max.saturating_sub(HEADER).min(MAX_CHUNK)
            });
            if room == Some(0) {
                let why = "the broker takes no message that is long enough";
                return Err(Error::new(ErrorKind::Failed, why));
            }
            match self.shared.step(room) {
                Step::Send(message) => self.send(message).await?,
                Step::Wait(until) => self.wait(until).await?,
                Step::End => return Ok(()),
            }
        }
    }

    /// Publishes a message. What comes meanwhile is taken.
    async fn send(&mut self, message: Bytes) -> Result<()> {
        let Inboxes { broker, own, peer } = &mut self.inboxes;
        let mut sending = pin!(broker.publish(peer.clone(), message));
        loop {
            tokio::select! {
                biased;
                sent = &mut sending => return sent,
                came = own.next() => self.shared.handle(std::iter::once(came.ok_or_else(gone)?)),
            }
        }
    }

    /// Waits for messages, for something to do, and for this time.
    async fn wait(&mut self, until: Option<std::time::Instant>) -> Result<()> {
        let Inboxes { broker, own, peer } = &mut self.inboxes;
        tokio::select! {
            biased;
            came = own.next() => {
                let first = came.ok_or_else(gone)?;
                let mut batch = vec![first];
                while batch.len() < BATCH
                    && let Some(Some(next)) = own.next().now_or_never()
                {
                    batch.push(next);
                }
                let others: Vec<_> = batch.iter().filter_map(|m| other_inbox(m, peer)).collect();
                self.shared.handle(batch.into_iter());
                for other in others {
                    broker.publish(other, Segment::reset().encode()).await?;
                }
            }
            () = self.shared.work.notified() => {}
            reconnected = self.watch.reconnected() => {
                reconnected?;
                self.shared.state.lock().link.on_reconnect();
            }
            () = reached(until) => {}
        }
        Ok(())
    }
}

/// Returns the inbox in the answer of another listener, where a request was repeated and two have taken it.
fn other_inbox(message: &Message, peer: &str) -> Option<String> {
    let reply = message.reply.as_deref()?;
    let is_other = reply != peer && is_inbox(reply);
    (is_other && Answer::decode(&message.payload) == Some(Answer::Welcome))
        .then(|| reply.to_owned())
}

async fn reached(until: Option<std::time::Instant>) {
    match until {
        Some(until) => sleep_until(Instant::from_std(until)).await,
        None => pending().await,
    }
}
