use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::mpsc;
use std::task::{Context, Poll};
use std::time::Instant;

use tokio::time::Sleep;

use super::outgoing::{Batch, Outgoing};
use super::port::{Datagrams, Inbox, PortSender};
use super::relays::StreamMessages;
use super::shared::Shared;
use super::socket::Socket;
use crate::engine::faults::Faults;

/// Number of datagrams after which those that were read are answered: the peer sends on while the others are read.
const MAX_READ: usize = 32;

/// Maximum number of consecutive turns before other tasks run.
const MAX_TURNS: usize = 16;

/// A socket that a connection sends from.
pub(super) enum RunSocket {
    /// One of its own, which it reads too.
    Own(Socket),
    /// One of a port, which the port reads.
    Shared(PortSender),
}

/// The loop of a connection: it reads the sockets, lets the layers answer, and sends what comes of it, until
/// nothing is left to do before the next datagram, the next call of a handle, or the next deadline.
pub(super) struct Run {
    shared: Arc<Shared>,
    sockets: Vec<RunSocket>,
    /// Further sockets.
    coming: mpsc::Receiver<Socket>,
    /// What the shared sockets have received, and what was taken of it.
    inbox: Option<Arc<Inbox>>,
    received: Datagrams,
    /// Messages of the streams to TURN servers.
    messages: StreamMessages,
    out: Outgoing,
    faults: Option<Faults>,
    timer: Pin<Box<Sleep>>,
    /// The socket that is read first.
    first: usize,
}

impl Run {
    pub(super) fn new(
        shared: Arc<Shared>,
        sockets: Vec<RunSocket>,
        coming: mpsc::Receiver<Socket>,
        inbox: Option<Arc<Inbox>>,
        messages: StreamMessages,
        faults: Option<Faults>,
    ) -> Self {
        let max_segments = sockets.iter().map(RunSocket::max_segments).min();
        Self {
            shared,
            out: Outgoing::new(max_segments.unwrap_or(1)),
            sockets,
            coming,
            inbox,
            received: Datagrams::default(),
            messages,
            faults,
            timer: Box::pin(tokio::time::sleep_until(Instant::now().into())),
            first: 0,
        }
    }

    /// Reads what has come. Returns whether there may be more.
    fn read(&mut self, cx: &mut Context<'_>, now: Instant) -> bool {
        let mut is_more = false;
        let count = self.sockets.len();
        let faults = self.faults.as_ref();
        for i in 0..count {
            let index = (self.first + i) % count;
            let RunSocket::Own(socket) = &self.sockets[index] else {
                continue;
            };
            let mut total = 0;
            loop {
                let mut core = None;
                let received = socket.poll_receive(cx, |from, datagram| {
                    if faults.is_some_and(|faults| faults.cuts(datagram.first())) {
                        return;
                    }
                    let core = core.get_or_insert_with(|| self.shared.lock());
                    core.handle_datagram(now, index, from, datagram);
                });
                match received {
                    Poll::Pending => break,
                    Poll::Ready(Ok(number)) => total += number,
                    // An error that the system reports of an earlier datagram, as of a closed port.
                    Poll::Ready(Err(error)) => {
                        tracing::debug!(%error, "reading a socket failed");
                        total += 1;
                    }
                }
                if total >= MAX_READ {
                    is_more = true;
                    break;
                }
            }
        }
        is_more |= self.read_inbox(now);
        is_more |= self.read_messages(cx, now);
        if count > 0 {
            self.first = (self.first + 1) % count;
        }
        is_more
    }

    /// Takes messages of the streams to TURN servers. Returns whether there may be more, in which case nothing wakes the
    /// task for them.
    fn read_messages(&mut self, cx: &mut Context<'_>, now: Instant) -> bool {
        for _ in 0..MAX_READ {
            let Poll::Ready(Some((relay, input))) = self.messages.poll_recv(cx) else {
                return false;
            };
            self.shared.lock().handle_stream(now, relay, &input);
        }
        true
    }

    /// Takes what the shared sockets have received. Returns whether there may be more.
    fn read_inbox(&mut self, now: Instant) -> bool {
        let Some(inbox) = &self.inbox else {
            return false;
        };
        if self.received.is_empty() {
            inbox.swap(&mut self.received);
        }
        let mut core = None;
        for _ in 0..MAX_READ {
            let Some((socket, from, datagram)) = self.received.next() else {
                break;
            };
            let faults = self.faults.as_ref();
            if faults.is_some_and(|faults| faults.cuts(datagram.first())) {
                continue;
            }
            let core = core.get_or_insert_with(|| self.shared.lock());
            core.handle_datagram(now, socket, from, datagram);
        }
        !self.received.is_empty()
    }

    /// Sends what waits. Returns whether all was sent.
    fn flush(&mut self, cx: &mut Context<'_>) -> bool {
        while let Some(batch) = self.out.front() {
            let mut left = None;
            if let Some(socket) = self.sockets.get_mut(batch.socket) {
                if socket.poll_send(cx, batch).is_pending() {
                    return false;
                }
                // The system may have refused a batch, and takes single datagrams from then on.
                let most = socket.max_segments();
                left = (batch.count > most).then_some(most);
            }
            if let Some(most) = left {
                self.out.set_max_segments(most);
            }
            self.out.pop();
        }
        true
    }
}

impl RunSocket {
    fn max_segments(&self) -> usize {
        match self {
            Self::Own(socket) => socket.max_segments(),
            Self::Shared(sender) => sender.max_segments(),
        }
    }

    fn poll_send(&mut self, cx: &mut Context<'_>, batch: &Batch) -> Poll<()> {
        match self {
            Self::Own(socket) => socket.poll_send(cx, batch),
            Self::Shared(sender) => sender.poll_send(cx, batch),
        }
    }
}

impl Future for Run {
    type Output = ();

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        let this = self.get_mut();
        this.shared.register(cx.waker());
        if let Some(inbox) = &this.inbox {
            inbox.register(cx.waker());
        }
        for _ in 0..MAX_TURNS {
            this.shared.take_woken();
            let now = Instant::now();
            let is_more = this.read(cx, now);
            let turn = this.shared.lock().turn(
                now,
                &mut this.out,
                this.shared.unread(),
                this.faults.as_ref(),
            );
            this.shared.note_turn(&turn);
            // Those that it sends from are there by now.
            let coming = this.coming.try_iter();
            this.sockets.extend(coming.map(RunSocket::Own));
            let is_flushed = this.flush(cx);
            let Some(deadline) = turn.deadline else {
                if !is_flushed {
                    return Poll::Pending;
                }
                this.shared.lock().end();
                this.shared.note_ended();
                return Poll::Ready(());
            };
            if is_more || (turn.is_more && is_flushed) {
                continue;
            }
            if deadline < this.timer.deadline().into_std() || this.timer.is_elapsed() {
                this.timer.as_mut().reset(deadline.into());
            }
            let is_due = this.timer.as_mut().poll(cx).is_ready();
            if !is_due && !this.shared.take_woken() {
                return Poll::Pending;
            }
        }
        cx.waker().wake_by_ref();
        Poll::Pending
    }
}

impl Drop for Run {
    fn drop(&mut self) {
        // It may be cut off: with its runtime, or by a panic.
        self.shared.lock().end();
        self.shared.note_ended();
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicBool, Ordering};
    use std::task::{Wake, Waker};
    use std::time::Duration;

    use bytes::Bytes;
    use pipe_net::TcpDialer;
    use pipe_tls::TlsOptions;
    use tokio::sync::mpsc::channel;
    use tokio::task::coop::unconstrained;

    use super::*;
    use crate::engine::own::core::Core;
    use crate::engine::own::gathering::Gathering;
    use crate::engine::own::ice::{Ice, Times};
    use crate::engine::own::relays::Relays;
    use crate::engine::own::routes::Routes;
    use crate::engine::own::sctp_transport::SctpTransport;
    use crate::engine::own::turn::StreamInput;
    use crate::engine::own::vitals::Vitals;
    use crate::engine::task::Parts;

    fn shared() -> Arc<Shared> {
        let now = Instant::now();
        let long = Duration::from_secs(60);
        let times = Times {
            keep_alive: long,
            failed_after: long,
        };
        let (relays, _messages) = Relays::new(TlsOptions::new(), TcpDialer::new());
        let core = Core::new(
            Routes::new(Vec::new(), relays, None),
            Gathering::new(Vec::new()),
            Ice::new(true, times, now).unwrap(),
            SctpTransport::new(pipe_sctp::Config::default(), now),
            Vitals::new(long, now),
            now,
        );
        let (parts, _task) = Parts::new();
        Shared::new(core.unwrap(), parts, 1 << 20)
    }

    #[derive(Default)]
    struct Woken(AtomicBool);

    impl Wake for Woken {
        fn wake(self: Arc<Self>) {
            self.0.store(true, Ordering::Relaxed);
        }
    }

    #[tokio::test]
    async fn what_comes_over_streams_in_a_burst_is_taken_without_more_to_wake_it() {
        for count in [1, MAX_READ - 1, MAX_READ, MAX_READ + 1, 5 * MAX_READ] {
            let (sender, messages) = channel(count);
            let (_sockets, coming) = mpsc::channel();
            let run = Run::new(shared(), Vec::new(), coming, None, messages, None);
            let mut run = Box::pin(unconstrained(run));
            for _ in 0..count {
                let message = StreamInput::Message(Bytes::from_static(&[0x40, 0, 0, 0]));
                sender.try_send((0, message)).unwrap();
            }
            let woken = Arc::new(Woken::default());
            let waker = Waker::from(woken.clone());
            loop {
                assert!(
                    run.as_mut()
                        .poll(&mut Context::from_waker(&waker))
                        .is_pending()
                );
                if !woken.0.swap(false, Ordering::Relaxed) {
                    break;
                }
            }
            assert_eq!(sender.capacity(), count, "of {count} messages");
        }
    }
}
