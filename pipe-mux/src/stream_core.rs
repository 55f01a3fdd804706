use std::task::{Context, Poll, Waker, ready};

use parking_lot::Mutex;
use pipe_core::backend::{PeerWindows, RecvState, SendState, StreamSlot, WindowTicket, protocol};
use pipe_core::{Error, Result};

use crate::muxer::MuxerStream;
use crate::wire::Wire;
use crate::yamux::YamuxStream;

/// How much is thrown away at once of what nobody wants to read.
const SCRATCH: usize = 4 * 1024;

/// A stream: the multiplexer's, and what the control channel says of it.
pub(crate) struct StreamCore {
    pub(crate) id: u64,
    /// Whether this side opened it.
    pub(crate) ours: bool,
    pub(crate) state: Mutex<StreamState>,
}

pub(crate) struct StreamState {
    /// None once a plain stream was reset.
    io: Option<YamuxStream>,
    wire: Wire,
    /// The peer can see it: something of this side has been sent, or will be next.
    pub(crate) shown: bool,
    /// The peer knows that a stream that it opened has come.
    pub(crate) acked: bool,
    pub(crate) send: SendState,
    pub(crate) recv: RecvState,
    /// Bytes accepted from the application.
    pub(crate) sent: u64,
    /// Bytes that have come from the multiplexer for the application.
    pub(crate) received: u64,
    /// Bytes that count against the peer's window; only where it counts them over the control channel.
    used: u32,
    /// The stream's place in the queue for the peer's connection window.
    ticket: WindowTicket,
    /// Bytes that were read and that the peer was not told of.
    pub(crate) unreturned: u32,
    /// The peer has read this side's direction to its end.
    pub(crate) taken: bool,
    /// This side has read the peer's direction to its end and has not said so.
    pub(crate) owes_taken: bool,
    /// The peer knows that its direction was read to its end.
    pub(crate) told_taken: bool,
    /// It is on the list of streams that owe the peer a word.
    pub(crate) owes: bool,
    /// How many bytes the peer has announced to be all.
    announced: Option<u64>,
    /// The multiplexer's stream has ended: it gives no more bytes, or takes none.
    read_ended: bool,
    write_ended: bool,
    pub(crate) reader: Option<Waker>,
    pub(crate) writer: Option<Waker>,
    /// This side's application has it.
    pub(crate) accepted: bool,
    /// The application has let go of the sending half, or has ended it by itself after the peer's stop.
    send_released: bool,
    /// The application has let go of the receiving half, or has stopped it after the peer's reset.
    recv_released: bool,
    /// The peer's application is done with it.
    pub(crate) peer_done: bool,
    /// This side's application was found to be done with it.
    pub(crate) done: bool,
    /// The driver has it on its list.
    pub(crate) lingers: bool,
    /// Held as long as a stream that this side opened is in use at either side.
    pub(crate) slot: Option<StreamSlot>,
}

/// What a read came to.
pub(crate) enum Read {
    Bytes(usize),
    End,
}

impl StreamCore {
    pub(crate) fn new(io: YamuxStream, wire: Wire, slot: Option<StreamSlot>) -> Self {
        let id = io.id();
        Self {
            id,
            ours: slot.is_some(),
            state: Mutex::new(StreamState {
                io: Some(io),
                wire,
                shown: slot.is_none(),
                acked: slot.is_some(),
                send: SendState::Open,
                recv: RecvState::Open,
                sent: 0,
                received: 0,
                used: 0,
                ticket: WindowTicket::default(),
                unreturned: 0,
                taken: false,
                owes_taken: false,
                told_taken: false,
                owes: false,
                announced: None,
                read_ended: false,
                write_ended: false,
                reader: None,
                writer: None,
                accepted: slot.is_some(),
                send_released: false,
                recv_released: false,
                peer_done: false,
                done: false,
                lingers: false,
                slot,
            }),
        }
    }
}

impl StreamState {
    /// Reads for the application. `conn` gives the end of the connection.
    pub(crate) fn poll_read(
        &mut self,
        cx: &mut Context<'_>,
        buf: &mut [u8],
        conn: impl Fn() -> Option<Error>,
    ) -> Poll<Result<Read>> {
        if self.recv == RecvState::Ended {
            return Poll::Ready(Ok(Read::End));
        }
        if let Some(error) = self.recv.read_error(conn()) {
            return Poll::Ready(Err(error));
        }
        if self.announced == Some(self.received) {
            self.recv = RecvState::Ended;
            self.owes_taken = true;
            return Poll::Ready(Ok(Read::End));
        }
        if let (false, Some(io)) = (self.read_ended, &mut self.io) {
            match io.poll_read(cx, buf) {
                Poll::Ready(Ok(count)) if count > 0 => {
                    self.received += count as u64;
                    self.unreturned = self.unreturned.saturating_add(count as u32);
                    if self.announced.is_some_and(|all| self.received > all) {
                        return Poll::Ready(Err(protocol("bytes behind the end of a stream")));
                    }
                    return Poll::Ready(Ok(Read::Bytes(count)));
                }
                Poll::Ready(Ok(_)) => self.read_ended = true,
                // The driver says what became of the stream or the connection.
                Poll::Ready(Err(_)) | Poll::Pending => {}
            }
        }
        if self.read_ended && self.announced.is_some() {
            return Poll::Ready(Err(protocol("fewer bytes than announced in a stream")));
        }
        if self.read_ended && self.wire == Wire::Raw {
            self.recv = RecvState::Ended;
            return Poll::Ready(Ok(Read::End));
        }
        // The end of the connection wakes what waits; it comes before it, or finds the waker here.
        if let Some(error) = conn() {
            return Poll::Ready(Err(error));
        }
        // The end of the multiplexer's stream is not that of a direction, which END announces.
        self.reader = Some(cx.waker().clone());
        Poll::Pending
    }

    /// The peer has cut the multiplexer's stream. Returns who waits for news of it.
    pub(crate) fn cut_by_peer(&mut self) -> Result<[Option<Waker>; 2]> {
        if self.wire == Wire::Pipe {
            return Err(protocol("a stream was reset without a message"));
        }
        self.write_ended = true;
        if let Some(next) = self.send.stop(0) {
            self.send = next;
        }
        if self.io.as_ref().is_none_or(MuxerStream::is_reset) {
            self.cut_recv(RecvState::Reset(0));
            self.read_ended = true;
            self.io = None;
        }
        Ok([self.reader.take(), self.writer.take()])
    }

    /// Writes for the application, within the peer's windows.
    pub(crate) fn poll_write(
        &mut self,
        cx: &mut Context<'_>,
        buf: &[u8],
        windows: Option<&PeerWindows>,
        conn: impl Fn() -> Option<Error>,
    ) -> Poll<Result<usize>> {
        if self.send != SendState::Open {
            return Poll::Ready(Err(self.send.write_error(conn())));
        }
        if buf.is_empty() {
            return Poll::Ready(Ok(0));
        }
        let Some(io) = &mut self.io else {
            return Poll::Ready(Err(self.send.write_error(conn())));
        };
        let room = windows.map_or(buf.len(), |w| {
            w.take(self.used, buf.len(), &mut self.ticket, cx)
        });
        if room == 0 {
            self.writer = Some(cx.waker().clone());
            return Poll::Pending;
        }
        let written = io.poll_write(cx, &buf[..room]);
        if let Some(windows) = windows {
            let count = if let Poll::Ready(Ok(count)) = written {
                count
            } else {
                0
            };
            windows.give_back((room - count) as u64);
            self.used += count as u32;
        }
        match written {
            Poll::Ready(Ok(count)) => {
                self.sent += count as u64;
                (self.shown, self.acked) = (true, true);
                return Poll::Ready(Ok(count));
            }
            // The driver says what became of the stream or the connection.
            Poll::Ready(Err(_)) | Poll::Pending => {}
        }
        if let Some(error) = conn() {
            return Poll::Ready(Err(error));
        }
        self.writer = Some(cx.waker().clone());
        Poll::Pending
    }

    /// Ends the sending direction for the application. `Some` with the number of bytes when the end
    /// is to be announced.
    pub(crate) fn shut(&mut self, conn: impl Fn() -> Option<Error>) -> Result<Option<u64>> {
        if let Some(error) = self.send.shutdown_error(conn()) {
            return Err(error);
        }
        if self.send != SendState::Open {
            return Ok(None);
        }
        let Some(io) = &mut self.io else {
            return Ok(None);
        };
        io.finish();
        (self.shown, self.acked, self.write_ended) = (true, true, true);
        self.send = SendState::Shut;
        Ok(Some(self.sent))
    }

    /// The peer announced the end of its direction.
    pub(crate) fn announce_end(&mut self, bytes: u64) -> Result<Option<Waker>> {
        if self.announced.replace(bytes).is_some() || self.received > bytes {
            return Err(protocol("a second or false end of a stream"));
        }
        Ok(self.reader.take())
    }

    /// The peer has read so many more bytes. Returns how many were counted, and the writer's waker.
    pub(crate) fn credit(&mut self, bytes: u32) -> (u32, Option<Waker>) {
        let freed = bytes.min(self.used);
        self.used -= freed;
        (freed, self.writer.take())
    }

    /// Cuts the receiving direction short, unless it has ended. Returns whether it did.
    pub(crate) fn cut_recv(&mut self, to: RecvState) -> bool {
        let open = self.recv == RecvState::Open && self.announced != Some(self.received);
        if open {
            self.recv = to;
        }
        open
    }

    /// Ends both directions together with the connection.
    pub(crate) fn end(&mut self) {
        self.unreturned = 0;
        if self.send == SendState::Open {
            self.send = SendState::ConnEnded;
        }
        self.cut_recv(RecvState::ConnEnded);
    }

    /// Whether this side's application is done with both directions: it has ended them, or has let go of
    /// those that the peer has cut. Until then it may work for the stream, so that it counts.
    pub(crate) fn is_done(&self) -> bool {
        let received = match self.recv {
            RecvState::Open => self.announced == Some(self.received),
            RecvState::Reset(_) | RecvState::Disconnected => self.recv_released,
            RecvState::Ended | RecvState::Stopped(_) | RecvState::ConnEnded => true,
        };
        let sent = match self.send {
            SendState::Open => false,
            SendState::Stopped { shut: false, .. } | SendState::Disconnected => self.send_released,
            SendState::Stopped { shut: true, .. }
            | SendState::Shut
            | SendState::Reset(_)
            | SendState::ConnEnded => true,
        };
        received && sent && self.accepted
    }

    /// Notes that the application has let go of its sending half, or has ended it by itself. Returns
    /// whether it is done with the stream by that.
    pub(crate) fn release_send(&mut self) -> bool {
        !std::mem::replace(&mut self.send_released, true) && !self.done && self.is_done()
    }

    /// The same of the receiving half.
    pub(crate) fn release_recv(&mut self) -> bool {
        !std::mem::replace(&mut self.recv_released, true) && !self.done && self.is_done()
    }

    /// Whether the peer's direction was read to its end.
    pub(crate) fn has_taken_all(&self) -> bool {
        let whole = self.recv == RecvState::Open && self.announced == Some(self.received);
        whole || self.recv == RecvState::Ended
    }

    /// Whether nothing more is expected of the peer about this side's direction.
    pub(crate) fn is_sent(&self) -> bool {
        self.send != SendState::Shut || self.taken || self.peer_done || self.wire == Wire::Raw
    }

    /// Whether a direction was cut short, so that the driver has to bring it to its end.
    pub(crate) fn is_cut_short(&self) -> bool {
        let send = !matches!(self.send, SendState::Open | SendState::Shut) && !self.write_ended;
        let recv = !matches!(self.recv, RecvState::Open | RecvState::Ended) && !self.read_ended;
        send || recv
    }

    /// Whether the driver has something to bring to its end.
    pub(crate) fn needs_driver(&self) -> bool {
        self.done && !self.is_closed() || self.is_cut_short()
    }

    /// Whether the multiplexer's stream can be dropped without a reset.
    pub(crate) fn is_closed(&self) -> bool {
        self.read_ended && self.write_ended
    }

    /// Brings the multiplexer's stream to its end once the application is done with it: what still
    /// comes is thrown away, so that the peer's credit lasts.
    pub(crate) fn poll_linger(&mut self, cx: &mut Context<'_>) -> Poll<Result<()>> {
        let own_reset = matches!(
            (self.send, self.recv),
            (SendState::Reset(_), RecvState::Reset(_))
        );
        if self.wire == Wire::Raw && (self.is_done() || own_reset) && !self.write_ended {
            self.reset_plain();
            return Poll::Ready(Ok(()));
        }
        if !self.shown {
            return Poll::Pending;
        }
        let whole = self.has_taken_all();
        let Some(io) = &mut self.io else {
            return Poll::Ready(Ok(()));
        };
        // The end of a plain direction would say that all of it has come.
        if self.wire == Wire::Pipe && self.send != SendState::Open && !self.write_ended {
            io.finish();
            (self.write_ended, self.acked) = (true, true);
        }
        if whole || self.recv != RecvState::Open {
            let mut scratch = [0; SCRATCH];
            while !self.read_ended {
                match ready!(io.poll_read(cx, &mut scratch)) {
                    Ok(count) if count > 0 && whole => {
                        return Poll::Ready(Err(protocol("bytes behind the end of a stream")));
                    }
                    Ok(count) if count > 0 => {}
                    _ => self.read_ended = true,
                }
            }
        }
        if self.is_closed() {
            Poll::Ready(Ok(()))
        } else {
            Poll::Pending
        }
    }

    /// Resets a plain stream, unless this side's end has left: after that, yamux has no word for it.
    pub(crate) fn reset_plain(&mut self) {
        if self.write_ended {
            return;
        }
        (self.read_ended, self.write_ended) = (true, true);
        self.io = None;
    }

    /// Whether the peer can see the stream, and that it was taken.
    pub(crate) fn is_known(&self) -> bool {
        self.shown && self.acked
    }

    /// Shows the stream to the peer, or that it was taken, unless something else of it has done so.
    pub(crate) fn show(&mut self) {
        if !self.is_known() {
            if let Some(io) = &mut self.io {
                io.announce();
            }
            (self.shown, self.acked) = (true, true);
        }
    }
}

pub(crate) fn wake(waker: Option<Waker>) {
    if let Some(waker) = waker {
        waker.wake();
    }
}
