mod frames;
mod peer;
#[cfg(test)]
mod tests;

use crate::recv::RecvHalf;
use crate::send::{SendError, SendHalf};
use crate::windows::{GrantedGrowth, Growth};

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
    /// Bytes that the peer lets this side send beyond its windows, by CREDIT for more than it had to return.
    ahead: u32,
    /// Bytes read that no CREDIT has returned.
    uncredited: u32,
    /// From how many of them on a CREDIT is due. None where the multiplexer returns them.
    credit_threshold: Option<u32>,
    /// What this side's window of the stream has grown by, and how much of it CREDIT has granted.
    pub(crate) growth: Growth,
    granted: GrantedGrowth,
    pending: Pending,
    /// The peer speaks no frames.
    is_plain: bool,
    /// What says how the directions end. The session sets it.
    pub(crate) ends: Ends,
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

/// What says how the directions of a stream end, and with it what the peer still counts.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Ends {
    /// The frames END, RESET and STOP.
    #[default]
    Framed,
    /// The multiplexer. CREDIT returns what is read.
    Native,
    /// The multiplexer, where streams share a window: CREDIT returns all that counts, in the end also what is not read.
    NativeShared,
    /// The multiplexer, where the peer discards what comes: it returns no more CREDIT.
    NativeDiscarded,
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
            ahead: 0,
            uncredited: 0,
            credit_threshold: None,
            growth: Growth::default(),
            granted: GrantedGrowth::default(),
            pending: Pending::default(),
            is_plain: false,
            ends: Ends::Framed,
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

    /// Returns how many bytes the peer lets this side send beyond its windows.
    pub fn credit_ahead(&self) -> u32 {
        self.ahead
    }

    /// Returns by how many bytes this side's window of the stream has grown.
    pub fn window_growth(&self) -> u32 {
        self.growth.bytes()
    }

    /// Returns from how many read bytes on the multiplexer is to return them, of a window of `size` bytes.
    pub fn worth_returning(&self, size: u32) -> u32 {
        self.growth.worth_returning(size)
    }

    /// Returns whether bytes that are written count against the peer's windows. They do not once a peer whose stop comes
    /// [natively](crate::Carrier::ends_natively) has said that it discards them.
    pub fn is_counted(&self) -> bool {
        self.ends != Ends::NativeDiscarded
    }

    /// Returns whether the peer speaks no frames.
    pub fn is_plain(&self) -> bool {
        self.is_plain
    }

    /// Returns whether the multiplexer returns what was read, rather than CREDIT.
    pub(crate) fn is_window_native(&self) -> bool {
        self.credit_threshold.is_none()
    }

    fn ends_natively(&self) -> bool {
        self.ends != Ends::Framed
    }

    /// Returns whether every byte is returned, since other streams need the room, also that of the last bytes.
    fn returns_all(&self) -> bool {
        self.credit_threshold == Some(1)
    }

    /// Returns whether what was sent goes on to count against a window that streams share until the peer returns it,
    /// without a frame that says how the direction ended.
    fn awaits_return(&self) -> bool {
        self.ends == Ends::NativeShared && self.unacknowledged > 0
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

    /// Notes that the application wrote `count` bytes, of which `counted` count against the peer's windows: the others
    /// use credit [ahead](Self::credit_ahead) of them, if there is some.
    pub fn wrote(&mut self, count: usize, counted: u32) {
        self.sent += count as u64;
        self.ahead = self.ahead.saturating_sub(count as u32 - counted);
        self.unacknowledged = self.unacknowledged.saturating_add(counted);
    }

    /// Shuts the sending direction down. Returns whether it was open; its END is due then.
    ///
    /// # Errors
    ///
    /// The reason why it can have no clean end.
    pub fn shutdown(&mut self) -> Result<bool, SendError> {
        let was_open = self.send.shut();
        self.pending.finish |= was_open && !self.ends_natively();
        self.send.check_shutdown()?;
        Ok(was_open)
    }

    /// Abandons the sending direction unless it ended, and lets go of it. Returns whether it was open; its RESET is
    /// due then.
    pub fn reset(&mut self, code: u32) -> bool {
        let was_open = self.send.reset(code);
        self.pending.finish |= was_open && !self.ends_natively();
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
        if self.read == self.arrived {
            self.growth.on_drained();
        }
        if self.recv.on_read(self.read) {
            self.on_last_read();
        }
    }

    /// Says to the peer that the application reads no more of a direction that was open: with TAKEN where everything
    /// was read. Where the multiplexer says how a direction ends, a CREDIT returns all that counts, read or not.
    fn on_last_read(&mut self) {
        if !self.ends_natively() {
            self.pending.taken |= self.recv == RecvHalf::Ended;
        } else if self.returns_all() {
            self.uncredited = u32::MAX;
        }
    }

    /// Stops the receiving direction unless it ended, and lets go of it. Returns whether bytes could still come; its
    /// STOP is due then.
    pub fn stop(&mut self, code: u32) -> bool {
        let was_open = self.recv.stop(code);
        if was_open {
            self.pending.stop = !self.ends_natively();
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

    // What becomes of the connection.

    /// Ends both directions because the peer was silent for too long. The peer is told with code 0.
    pub(crate) fn disconnect(&mut self) {
        self.pending.finish |= self.send.disconnect() && !self.ends_natively();
        if self.recv.disconnect() {
            self.pending.stop = !self.ends_natively();
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
            Origin::Remote { .. } if self.ends_natively() => !self.awaits_return(),
            Origin::Remote { .. } => !self.send.awaits_confirmation(),
        };
        let is_said = self.is_plain || peer && !self.has_frames();
        self.counted_done && is_said && !self.is_carried
    }

    /// Returns whether the session has to [look at](crate::Session::update) the stream.
    pub fn needs_session(&self) -> bool {
        let has_news = !self.queued && self.has_frames()
            || !self.counted_done && self.is_done()
            || self.is_cut_natively()
            || self.is_over();
        has_news && !self.retired
    }

    /// Returns whether this direction was cut and no RESET frees what counts against the window that streams share.
    fn is_cut_natively(&self) -> bool {
        self.awaits_return() && self.send.is_cut()
    }

    /// Takes what counts against the peer's windows of a direction that was cut natively. Returns how many bytes that
    /// was.
    pub(crate) fn free_cut(&mut self) -> u32 {
        if !self.is_cut_natively() {
            return 0;
        }
        std::mem::take(&mut self.unacknowledged)
    }

    /// Drops what still counts against the peer's windows, now that the stream is over. Returns how many bytes that
    /// was.
    pub(crate) fn retire(&mut self) -> u32 {
        self.retired = true;
        std::mem::take(&mut self.unacknowledged)
    }
}
