use crate::frame::StreamFrame;
use crate::recv::RecvHalf;
use crate::send::{SendError, SendHalf};
use crate::violation::Violation;

/// The state of one stream: both halves, what they carried, and the frames to send about it.
///
/// It belongs to a [`Session`](crate::Session), which has to [look at](crate::Session::update) it after a change
/// that [needs](Self::needs_session) it. Reads and writes that change nothing else need no session.
#[derive(Debug)]
pub struct Stream {
    id: u64,
    origin: Origin,
    send: SendHalf,
    recv: RecvHalf,
    /// Bytes that the application wrote.
    sent: u64,
    /// Bytes that the peer sent, read or not.
    arrived: u64,
    /// Bytes that the application read.
    read: u64,
    /// Bytes that count against the peer's windows.
    unacknowledged: u32,
    /// Bytes read that no CREDIT has returned.
    uncredited: u32,
    /// From how many of them on a CREDIT is due. None where the multiplexer returns them.
    credit_threshold: Option<u32>,
    pending: Pending,
    /// The peer speaks no frames.
    is_plain: bool,
    /// The multiplexer says how the directions end. The session sets it.
    pub(crate) ends_natively: bool,
    /// The peer returns no more CREDIT, as it discards what comes.
    is_uncounted: bool,
    /// The multiplexer's stream has not ended.
    is_carried: bool,
    /// The multiplexer's direction of the peer has ended: no more bytes come.
    has_fin: bool,
    /// It is in the session's queue of streams with frames to send.
    pub(crate) queued: bool,
    /// The session counted that the application is done.
    pub(crate) counted_done: bool,
    /// The session said that it counts against the peer's limit no more.
    pub(crate) slot_freed: bool,
    /// The session has forgotten it.
    pub(crate) retired: bool,
}

/// Which side opened a stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Origin {
    /// This side.
    Local {
        /// The peer's application is done with the stream.
        peer_done: bool,
    },
    /// The peer.
    Remote {
        /// This side's application has taken the stream.
        accepted: bool,
    },
}

/// The frames that are due besides END and RESET, which the state of the sending half gives.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Pending {
    open: bool,
    /// END or RESET, as the sending half has it.
    finish: bool,
    /// STOP, as the receiving half has it.
    stop: bool,
    taken: bool,
    done: bool,
}

/// What follows from a frame of the peer.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[must_use]
pub struct Reaction {
    /// A task that waits in a read has to look again.
    pub wakes_reader: bool,
    /// A task that waits in a write has to look again.
    pub wakes_writer: bool,
    /// So many bytes count against the peer's connection window no more.
    pub freed: u32,
}

impl Stream {
    /// Creates a stream that this side opens. With `by_frame`, an OPEN frame tells the peer.
    pub fn local(id: u64, by_frame: bool) -> Self {
        let mut stream = Self::new(id, Origin::Local { peer_done: false });
        stream.pending.open = by_frame;
        stream
    }

    /// Creates a stream that the peer opened.
    pub fn remote(id: u64) -> Self {
        Self::new(id, Origin::Remote { accepted: false })
    }

    fn new(id: u64, origin: Origin) -> Self {
        Self {
            id,
            origin,
            send: SendHalf::Ready,
            recv: RecvHalf::Open,
            sent: 0,
            arrived: 0,
            read: 0,
            unacknowledged: 0,
            uncredited: 0,
            credit_threshold: None,
            pending: Pending::default(),
            is_plain: false,
            ends_natively: false,
            is_uncounted: false,
            is_carried: false,
            has_fin: false,
            queued: false,
            counted_done: false,
            slot_freed: false,
            retired: false,
        }
    }

    /// Returns CREDIT to the peer from `bytes` read bytes on.
    #[must_use]
    pub fn with_credit_threshold(self, bytes: Option<u32>) -> Self {
        Self {
            credit_threshold: bytes.map(|bytes| bytes.max(1)),
            ..self
        }
    }

    /// Sends no frames: the peer speaks none.
    #[must_use]
    pub fn into_plain(self) -> Self {
        Self {
            is_plain: true,
            ..self
        }
    }

    /// Stays with the session until the multiplexer's stream [has ended](Self::on_carrier_end) as well.
    #[must_use]
    pub fn with_carrier(self) -> Self {
        Self {
            is_carried: true,
            ..self
        }
    }

    /// Returns the number of the stream.
    pub fn id(&self) -> u64 {
        self.id
    }

    /// Returns which side opened it.
    pub fn origin(&self) -> Origin {
        self.origin
    }

    /// Returns whether this side opened it.
    pub fn is_local(&self) -> bool {
        matches!(self.origin, Origin::Local { .. })
    }

    /// Returns the state of the direction that this side sends.
    pub fn send(&self) -> SendHalf {
        self.send
    }

    /// Returns the state of the direction that this side receives.
    pub fn recv(&self) -> RecvHalf {
        self.recv
    }

    /// Returns how many bytes the application wrote.
    pub fn bytes_sent(&self) -> u64 {
        self.sent
    }

    /// Returns how many bytes the peer sent.
    pub fn bytes_arrived(&self) -> u64 {
        self.arrived
    }

    /// Returns how many bytes the application read.
    pub fn bytes_read(&self) -> u64 {
        self.read
    }

    /// Returns how many bytes count against the peer's window of this stream.
    pub fn unacknowledged(&self) -> u32 {
        self.unacknowledged
    }

    /// Returns whether bytes that are written count against the peer's connection window. They do not once a peer whose
    /// stop comes [natively](crate::Carrier::ends_natively) has said that it discards them.
    pub fn is_counted(&self) -> bool {
        !self.is_uncounted
    }

    /// Returns whether the peer's application read everything that was sent, and its end.
    pub fn is_confirmed(&self) -> bool {
        matches!(self.send, SendHalf::Shut { confirmed: true })
    }

    /// Returns whether the session has forgotten the stream: nothing of it is under way at either side.
    pub fn is_retired(&self) -> bool {
        self.retired
    }

    // What the application does.

    /// Notes that the application wrote `count` bytes, of which `counted` count against the peer's windows.
    pub fn wrote(&mut self, count: usize, counted: u32) {
        self.sent += count as u64;
        self.unacknowledged = self.unacknowledged.saturating_add(counted);
    }

    /// Shuts the sending direction down. Returns whether it was open; its END is due then.
    ///
    /// # Errors
    ///
    /// The reason why it can have no clean end.
    pub fn shutdown(&mut self) -> Result<bool, SendError> {
        let was_open = self.send.shut();
        self.pending.finish |= was_open && !self.ends_natively;
        self.send.check_shutdown()?;
        Ok(was_open)
    }

    /// Abandons the sending direction unless it ended, and lets go of it. Returns whether it was open; its RESET is
    /// due then.
    pub fn reset(&mut self, code: u32) -> bool {
        let was_open = self.send.reset(code);
        self.pending.finish |= was_open && !self.ends_natively;
        was_open
    }

    /// Cuts both directions, as the reset of a plain multiplexer does. Reads give the code from now on.
    pub fn reset_both(&mut self, code: u32) {
        self.send.reset(code);
        self.recv.on_reset(code);
    }

    /// Notes that the application read `count` bytes.
    pub fn read(&mut self, count: usize) {
        self.read += count as u64;
        // Where the multiplexer keeps what comes, bytes arrive as they are read.
        self.arrived = self.arrived.max(self.read);
        self.uncredited = self.uncredited.saturating_add(count as u32);
        if self.recv.on_read(self.read) {
            self.on_last_read();
        }
    }

    /// Says to the peer that the application reads no more of a direction that was open: with TAKEN where everything
    /// was read. Where the multiplexer says how a direction ends, a CREDIT returns all that counts, read or not.
    fn on_last_read(&mut self) {
        if !self.ends_natively {
            self.pending.taken |= self.recv == RecvHalf::Ended;
        } else if self.credit_threshold.is_some() {
            self.uncredited = u32::MAX;
        }
    }

    /// Stops the receiving direction unless it ended, and lets go of it. Returns whether bytes could still come; its
    /// STOP is due then.
    pub fn stop(&mut self, code: u32) -> bool {
        let was_open = self.recv.stop(code);
        if was_open {
            self.pending.stop = !self.ends_natively;
            self.on_last_read();
        }
        was_open
    }

    /// Notes that the application took a stream of the peer.
    pub fn accept(&mut self) {
        if let Origin::Remote { accepted } = &mut self.origin {
            *accepted = true;
        }
    }

    // What the peer does.

    /// Notes `count` bytes of the peer. Returns whether they are for the application; otherwise they are discarded.
    ///
    /// # Errors
    ///
    /// A violation, if they lie behind the end of the direction.
    pub fn on_bytes(&mut self, count: usize) -> Result<bool, Violation> {
        self.arrived += count as u64;
        let total = match self.recv {
            RecvHalf::SizeKnown { total } => total,
            RecvHalf::Ended if count > 0 => self.read,
            _ => u64::MAX,
        };
        if self.arrived > total {
            let id = self.id;
            return Err(Violation::new(format_args!(
                "bytes behind the end of stream {id}"
            )));
        }
        Ok(self.recv.takes_bytes())
    }

    /// Notes the multiplexer's own end of the peer's direction. Where it `is_clean`, it ends the direction.
    ///
    /// # Errors
    ///
    /// A violation, if the peer announced more bytes than came.
    pub fn on_fin(&mut self, is_clean: bool) -> Result<Reaction, Violation> {
        if let RecvHalf::SizeKnown { total } = self.recv
            && self.arrived < total
        {
            let (id, arrived) = (self.id, self.arrived);
            return Err(Violation::new(format_args!(
                "{arrived} bytes of stream {id}, where {total} were announced"
            )));
        }
        self.has_fin = true;
        if is_clean && self.recv == RecvHalf::Open {
            self.recv.on_end(self.arrived, self.read);
            if self.ends_natively && self.recv == RecvHalf::Ended {
                self.on_last_read();
            }
        }
        Ok(Reaction {
            wakes_reader: is_clean,
            ..Reaction::default()
        })
    }

    /// Notes that the multiplexer's stream has ended in both directions.
    pub fn on_carrier_end(&mut self) {
        self.is_carried = false;
    }

    /// Returns whether the multiplexer's stream has not ended.
    pub fn is_carried(&self) -> bool {
        self.is_carried
    }

    /// Returns whether the multiplexer's direction of the peer has ended: no more bytes come.
    pub fn has_fin(&self) -> bool {
        self.has_fin
    }

    /// Notes that the multiplexer cut both directions, as a peer that speaks no frames does.
    pub fn on_cut(&mut self) -> Reaction {
        // Behind its end, the direction is whole, read or not.
        if self.recv == RecvHalf::Open {
            self.on_reset(0);
        }
        let stopped = self.on_stop(0);
        Reaction {
            wakes_reader: true,
            ..stopped
        }
    }

    /// Notes that the multiplexer's stream is lost: it carries no more bytes, and no more frames can be sent about it.
    pub fn on_carrier_lost(&mut self) -> Reaction {
        self.is_plain = true;
        self.is_carried = false;
        self.pending = Pending::default();
        self.on_cut()
    }

    /// Takes a frame of the peer about this stream.
    ///
    /// # Errors
    ///
    /// A violation, if it contradicts what came before.
    pub fn on_frame(&mut self, frame: StreamFrame) -> Result<Reaction, Violation> {
        let id = self.id;
        let reader = Reaction {
            wakes_reader: true,
            ..Reaction::default()
        };
        Ok(match frame {
            StreamFrame::Open => {
                return Err(Violation::new(format_args!("a second stream {id}")));
            }
            StreamFrame::End(total) => {
                let is_false = match self.recv {
                    RecvHalf::Open if self.has_fin => self.arrived != total,
                    RecvHalf::Open => self.arrived > total,
                    RecvHalf::SizeKnown { .. } | RecvHalf::Ended => true,
                    _ => false,
                };
                if is_false {
                    return Err(Violation::new(format_args!(
                        "a second or false end of stream {id}"
                    )));
                }
                self.recv.on_end(total, self.read);
                self.on_last_read();
                reader
            }
            StreamFrame::Reset(code) => {
                self.on_reset(code);
                reader
            }
            StreamFrame::Stop(code) => self.on_stop(code),
            StreamFrame::Credit(bytes) => {
                self.is_uncounted |= self.ends_natively && bytes == u32::MAX;
                self.free(bytes)
            }
            StreamFrame::Taken => {
                self.send.on_confirmed();
                self.free(u32::MAX)
            }
            StreamFrame::Done => {
                let Origin::Local { peer_done } = &mut self.origin else {
                    return Err(Violation::new(format_args!(
                        "a done of stream {id} by the side that opened it"
                    )));
                };
                *peer_done = true;
                self.send.on_confirmed();
                // The peer has no use for how this side's direction ended.
                self.pending.finish = false;
                self.free(u32::MAX)
            }
        })
    }

    /// Notes that the peer abandoned its direction, by a frame or natively.
    pub fn on_reset(&mut self, code: u32) {
        if self.recv.on_reset(code) {
            self.on_last_read();
        }
    }

    /// Notes that the peer reads no more, by a frame or natively.
    pub fn on_stop(&mut self, code: u32) -> Reaction {
        if self.send.on_stop(code) {
            self.pending.finish = false;
        }
        self.free(u32::MAX)
    }

    /// Takes bytes out of the count against the peer's windows.
    fn free(&mut self, bytes: u32) -> Reaction {
        let freed = bytes.min(self.unacknowledged);
        self.unacknowledged -= freed;
        Reaction {
            wakes_writer: true,
            freed,
            ..Reaction::default()
        }
    }

    // What becomes of the connection.

    /// Ends both directions because the peer was silent for too long. The peer is told with code 0.
    pub(crate) fn disconnect(&mut self) {
        self.pending.finish |= self.send.disconnect() && !self.ends_natively;
        if self.recv.disconnect() {
            self.pending.stop = !self.ends_natively;
            self.on_last_read();
        }
    }

    /// Ends both directions with the connection.
    pub(crate) fn on_conn_end(&mut self) {
        self.send.on_conn_end();
        self.recv.on_conn_end();
        self.uncredited = 0;
    }

    /// Returns whether this side's application is done with both directions.
    pub fn is_done(&self) -> bool {
        let is_taken = !matches!(self.origin, Origin::Remote { accepted: false });
        self.send.is_done() && self.recv.is_done() && is_taken
    }

    /// Makes DONE or TAKEN due, now that the application is done.
    pub(crate) fn on_done(&mut self) {
        if !self.is_local() {
            // It implies TAKEN.
            self.pending.done = true;
            self.pending.taken = false;
        }
    }

    /// Returns whether a stream of this side counts against the peer's limit no more.
    pub(crate) fn frees_slot(&self) -> bool {
        let by_peer = match self.origin {
            Origin::Local { peer_done } => (peer_done || self.is_plain) && !self.is_carried,
            Origin::Remote { .. } => false,
        };
        self.counted_done && by_peer && !self.slot_freed
    }

    /// Returns whether nothing is left to send or to wait for but what the multiplexer does.
    pub(crate) fn is_over(&self) -> bool {
        let peer = match self.origin {
            Origin::Local { peer_done } => peer_done,
            Origin::Remote { .. } if self.ends_natively => self.unacknowledged == 0,
            Origin::Remote { .. } => !self.send.awaits_confirmation(),
        };
        let is_said = self.is_plain || peer && !self.has_frames();
        self.counted_done && is_said && !self.is_carried
    }

    /// Returns whether a frame is due.
    pub fn has_frames(&self) -> bool {
        !self.is_plain && (self.pending != Pending::default() || self.owes_credit())
    }

    fn owes_credit(&self) -> bool {
        let Some(threshold) = self.credit_threshold else {
            return false;
        };
        // Where every byte counts, other streams need the room, also that of the last bytes.
        let needs_room = match self.recv {
            RecvHalf::Open => true,
            _ if self.ends_natively => true,
            RecvHalf::SizeKnown { total } => threshold == 1 || self.arrived < total,
            RecvHalf::Ended => threshold == 1,
            _ => false,
        };
        needs_room && self.uncredited >= threshold
    }

    /// Returns whether the session has to [look at](crate::Session::update) the stream.
    pub fn needs_session(&self) -> bool {
        let has_news = !self.queued && self.has_frames()
            || !self.counted_done && self.is_done()
            || self.unacknowledged > 0 && self.is_cut_natively()
            || self.is_over();
        has_news && !self.retired
    }

    /// Returns whether this direction was cut and no RESET frees what counts against the peer's windows.
    fn is_cut_natively(&self) -> bool {
        self.ends_natively && self.send.is_cut()
    }

    /// Takes what counts against the peer's windows of a direction that was cut natively. Returns how many bytes that
    /// was.
    pub(crate) fn free_cut(&mut self) -> u32 {
        if !self.is_cut_natively() {
            return 0;
        }
        std::mem::take(&mut self.unacknowledged)
    }

    /// Takes out the next frame to send, and how many bytes count against the peer's connection window no more once it
    /// is sent. `has_bytes` says that bytes of the stream wait in front of its end. After the last frame the session
    /// has to [look at](crate::Session::update) the stream, which may be over.
    pub fn poll_frame(&mut self, has_bytes: bool) -> Option<(StreamFrame, u32)> {
        use std::mem::take;
        if self.is_plain {
            return None;
        }
        if take(&mut self.pending.open) {
            return Some((StreamFrame::Open, 0));
        }
        if !has_bytes && take(&mut self.pending.finish) {
            let (frame, is_cut) = match self.send {
                SendHalf::Reset { code } => (StreamFrame::Reset(code), true),
                SendHalf::Disconnected { .. } => (StreamFrame::Reset(0), true),
                _ => (StreamFrame::End(self.sent), false),
            };
            let freed = if is_cut {
                take(&mut self.unacknowledged)
            } else {
                0
            };
            return Some((frame, freed));
        }
        if take(&mut self.pending.stop) {
            let code = match self.recv {
                RecvHalf::Stopped { code } => code,
                _ => 0,
            };
            return Some((StreamFrame::Stop(code), 0));
        }
        if self.owes_credit() {
            return Some((StreamFrame::Credit(take(&mut self.uncredited)), 0));
        }
        if take(&mut self.pending.taken) {
            return Some((StreamFrame::Taken, 0));
        }
        if !has_bytes && !self.pending.finish && take(&mut self.pending.done) {
            return Some((StreamFrame::Done, 0));
        }
        // What waits behind bytes is due when they have left.
        self.queued = self.has_frames();
        None
    }

    /// Drops what still counts against the peer's windows, now that the stream is over. Returns how many bytes that
    /// was.
    pub(crate) fn retire(&mut self) -> u32 {
        self.retired = true;
        std::mem::take(&mut self.unacknowledged)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn frames(stream: &mut Stream) -> Vec<StreamFrame> {
        std::iter::from_fn(|| stream.poll_frame(false))
            .map(|(frame, _)| frame)
            .collect()
    }

    #[test]
    fn a_stream_of_the_peer_that_was_echoed_is_done_when_the_end_was_read() {
        let mut stream = Stream::remote(2);
        stream.accept();
        assert!(stream.on_bytes(5).unwrap());
        stream.read(5);
        stream.wrote(5, 5);
        assert!(stream.shutdown().unwrap());
        assert!(!stream.is_done());
        let reaction = stream.on_frame(StreamFrame::End(5)).unwrap();
        assert!(reaction.wakes_reader);
        assert!(stream.is_done());
        stream.counted_done = true;
        stream.on_done();
        assert_eq!(
            frames(&mut stream),
            [StreamFrame::End(5), StreamFrame::Done]
        );
        assert!(!stream.is_over());
        assert_eq!(stream.on_frame(StreamFrame::Taken).unwrap().freed, 5);
        assert!(stream.is_over() && stream.is_confirmed());
    }

    #[test]
    fn a_drop_says_reset_before_stop_and_done_last() {
        let mut stream = Stream::remote(2);
        stream.accept();
        stream.wrote(3, 3);
        stream.reset(0);
        stream.stop(0);
        assert!(stream.is_done());
        stream.on_done();
        assert_eq!(stream.poll_frame(false), Some((StreamFrame::Reset(0), 3)));
        assert_eq!(
            frames(&mut stream),
            [StreamFrame::Stop(0), StreamFrame::Done]
        );
    }

    #[test]
    fn the_end_waits_for_the_bytes_before_it() {
        let mut stream = Stream::local(1, true);
        stream.wrote(3, 0);
        stream.shutdown().unwrap();
        stream.stop(7);
        assert_eq!(stream.poll_frame(true), Some((StreamFrame::Open, 0)));
        assert_eq!(stream.poll_frame(true), Some((StreamFrame::Stop(7), 0)));
        assert_eq!(stream.poll_frame(true), None);
        assert_eq!(stream.poll_frame(false), Some((StreamFrame::End(3), 0)));
        assert_eq!(stream.poll_frame(false), None);
    }

    #[test]
    fn bytes_and_the_end_may_come_in_any_order() {
        let mut stream = Stream::remote(2);
        assert!(stream.on_frame(StreamFrame::End(4)).is_ok());
        assert!(stream.on_bytes(3).unwrap());
        assert!(stream.on_fin(false).is_err());
        assert!(stream.on_bytes(1).unwrap());
        assert!(stream.on_fin(false).is_ok());
        stream.read(4);
        assert_eq!(stream.recv(), RecvHalf::Ended);
        assert!(stream.on_bytes(1).is_err());
    }

    #[test]
    fn a_false_end_is_a_violation() {
        for end in [StreamFrame::End(4), StreamFrame::End(5)] {
            let mut stream = Stream::remote(2);
            let _ = stream.on_frame(StreamFrame::End(4)).unwrap();
            assert!(stream.on_frame(end).is_err());
        }
        let mut stream = Stream::remote(2);
        assert!(stream.on_bytes(5).unwrap());
        assert!(stream.on_frame(StreamFrame::End(4)).is_err());
        let _ = stream.on_fin(false).unwrap();
        assert!(stream.on_frame(StreamFrame::End(6)).is_err());
        assert!(stream.on_frame(StreamFrame::End(5)).is_ok());
    }

    #[test]
    fn a_stop_of_the_peer_takes_the_end_back_and_frees_the_window() {
        let mut stream = Stream::local(1, false);
        stream.wrote(9, 9);
        stream.shutdown().unwrap();
        let reaction = stream.on_frame(StreamFrame::Stop(3)).unwrap();
        assert_eq!((reaction.freed, reaction.wakes_writer), (9, true));
        assert_eq!(frames(&mut stream), []);
        assert!(stream.shutdown().is_ok());
        assert_eq!(stream.send(), SendHalf::ShutThenStopped { code: 3 });
    }

    #[test]
    fn a_cut_half_counts_until_the_application_lets_go() {
        let mut stream = Stream::remote(2);
        stream.accept();
        let _ = stream.on_frame(StreamFrame::Reset(1)).unwrap();
        let _ = stream.on_frame(StreamFrame::Stop(2)).unwrap();
        assert!(!stream.is_done());
        stream.reset(0);
        assert!(!stream.is_done());
        stream.stop(0);
        assert!(stream.is_done());
        assert_eq!(frames(&mut stream), []);
    }

    #[test]
    fn credit_is_due_from_its_threshold_on_and_not_behind_the_end() {
        let mut stream = Stream::remote(2).with_credit_threshold(Some(10));
        stream.on_bytes(30).unwrap();
        stream.read(9);
        assert_eq!(frames(&mut stream), []);
        stream.read(1);
        assert_eq!(frames(&mut stream), [StreamFrame::Credit(10)]);
        let _ = stream.on_frame(StreamFrame::End(30)).unwrap();
        stream.read(15);
        assert_eq!(frames(&mut stream), []);
        stream.read(5);
        assert_eq!(frames(&mut stream), [StreamFrame::Taken]);

        let mut every = Stream::remote(4).with_credit_threshold(Some(0));
        every.on_bytes(3).unwrap();
        let _ = every.on_frame(StreamFrame::End(3)).unwrap();
        every.read(1);
        assert_eq!(frames(&mut every), [StreamFrame::Credit(1)]);
        every.read(2);
        assert_eq!(
            frames(&mut every),
            [StreamFrame::Credit(2), StreamFrame::Taken]
        );
    }

    #[test]
    fn a_done_of_the_peer_confirms_and_leaves_nothing_to_say_of_the_end() {
        let mut stream = Stream::local(1, false);
        stream.wrote(2, 2);
        stream.shutdown().unwrap();
        let reaction = stream.on_frame(StreamFrame::Done).unwrap();
        assert_eq!(reaction.freed, 2);
        assert!(stream.is_confirmed());
        assert_eq!(frames(&mut stream), []);
        assert!(Stream::remote(2).on_frame(StreamFrame::Done).is_err());
    }

    #[test]
    fn a_plain_end_is_clean_and_a_cut_is_a_reset() {
        let mut stream = Stream::remote(2);
        stream.on_bytes(3).unwrap();
        let _ = stream.on_fin(true).unwrap();
        assert_eq!(stream.recv(), RecvHalf::SizeKnown { total: 3 });
        stream.read(3);
        assert_eq!(stream.recv(), RecvHalf::Ended);

        let mut whole = Stream::remote(4).into_plain();
        whole.on_bytes(3).unwrap();
        let _ = whole.on_fin(true).unwrap();
        let _ = whole.on_cut();
        whole.read(3);
        assert_eq!(whole.recv(), RecvHalf::Ended);

        let mut stream = Stream::local(1, false);
        let reaction = stream.on_cut();
        assert!(reaction.wakes_reader && reaction.wakes_writer);
        assert_eq!(
            stream.send(),
            SendHalf::Stopped {
                code: 0,
                held: true
            }
        );
        assert_eq!(
            stream.recv(),
            RecvHalf::Reset {
                code: 0,
                held: true
            }
        );
    }

    #[test]
    fn a_lost_carrier_cuts_what_has_not_ended_and_leaves_nothing_to_say() {
        let mut stream = Stream::remote(2).with_carrier();
        stream.accept();
        stream.on_bytes(3).unwrap();
        let _ = stream.on_frame(StreamFrame::End(3)).unwrap();
        stream.wrote(4, 4);
        stream.shutdown().unwrap();
        let reaction = stream.on_carrier_lost();
        assert_eq!((reaction.freed, reaction.wakes_reader), (4, true));
        assert!(!stream.has_frames() && frames(&mut stream).is_empty());
        stream.read(3);
        assert_eq!(stream.recv(), RecvHalf::Ended);
        assert!(stream.is_done());
        stream.counted_done = true;
        stream.on_done();
        assert!(stream.is_over());
    }

    fn native(mut stream: Stream) -> Stream {
        stream.ends_natively = true;
        stream
    }

    #[test]
    fn native_ends_are_told_by_no_frame() {
        let mut stream = native(Stream::remote(2));
        stream.accept();
        stream.read(5);
        let _ = stream.on_fin(true).unwrap();
        assert_eq!(stream.recv(), RecvHalf::Ended);
        stream.wrote(5, 5);
        assert_eq!(stream.shutdown(), Ok(true));
        assert!(stream.is_done());
        stream.counted_done = true;
        stream.on_done();
        assert_eq!(frames(&mut stream), [StreamFrame::Done]);
        // The peer still returns what counts.
        assert!(!stream.is_over());
        assert_eq!(
            stream.on_frame(StreamFrame::Credit(5)).map(|r| r.freed),
            Ok(5)
        );
        assert!(stream.is_over());

        for cut in [Stream::disconnect, |stream: &mut Stream| {
            assert!(stream.reset(1) && stream.stop(2));
        }] {
            let mut stream = native(Stream::local(1, false));
            stream.wrote(3, 3);
            cut(&mut stream);
            assert_eq!(frames(&mut stream), []);
            assert!(stream.needs_session());
            assert_eq!((stream.free_cut(), stream.free_cut()), (3, 0));
        }
    }

    #[test]
    fn credit_returns_everything_with_a_native_end() {
        let all = StreamFrame::Credit(u32::MAX);
        for end in [
            |stream: &mut Stream| {
                let _ = stream.on_fin(true).unwrap();
            },
            |stream: &mut Stream| stream.on_reset(1),
            |stream: &mut Stream| assert!(stream.stop(2)),
            Stream::disconnect,
        ] {
            let stream = Stream::remote(2).with_credit_threshold(Some(1));
            let mut stream = native(stream);
            stream.read(3);
            end(&mut stream);
            assert_eq!(frames(&mut stream), [all]);
            stream.stop(0);
            assert_eq!(frames(&mut stream), []);
        }
        let mut uncounted = native(Stream::remote(2));
        uncounted.on_reset(1);
        assert_eq!(frames(&mut uncounted), []);
    }

    #[test]
    fn a_peer_that_discards_what_comes_counts_no_more() {
        let mut stream = native(Stream::local(1, false));
        stream.wrote(3, 3);
        let reaction = stream.on_frame(StreamFrame::Credit(2)).unwrap();
        assert!(reaction.freed == 2 && stream.is_counted());
        let reaction = stream.on_frame(StreamFrame::Credit(u32::MAX)).unwrap();
        assert!(reaction.freed == 1 && !stream.is_counted());
        assert_eq!(stream.on_stop(7).freed, 0);
        let half = SendHalf::Stopped {
            code: 7,
            held: true,
        };
        assert_eq!(stream.send(), half);
    }

    #[test]
    fn silence_is_told_as_reset_and_stop_with_code_0() {
        let mut stream = Stream::local(1, false);
        stream.disconnect();
        assert_eq!(
            frames(&mut stream),
            [StreamFrame::Reset(0), StreamFrame::Stop(0)]
        );
        stream.on_conn_end();
        assert!(!stream.has_frames());
        assert_eq!(stream.send().check_write(), Err(SendError::Disconnected));
    }
}
