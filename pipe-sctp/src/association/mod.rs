//! The association: state, what the application calls, and what becomes of timers.

mod due;
mod handshake;
mod input;
mod output;
mod shutdown;
#[cfg(test)]
mod tests;

use crate::{
    chunk::{
        error::{self, code},
        kind,
    },
    config::{Config, MAX_RECEIVE_BUFFER},
    cookie::{CookieKey, Peer},
    event::{CloseReason, Event, Message, SendError, SendOptions, State, Violation},
    receive::Receiver,
    reset::{self, Resets},
    send::Sender,
    stats::Stats,
    timers::{Timer, Timers},
    wire::put_tlv,
};
use bytes::Bytes;
use due::Due;
use fastrand::Rng;
use std::{
    collections::VecDeque,
    time::{Duration, Instant},
};

/// An SCTP association between two ends.
///
/// After each call that takes the time, [`poll_transmit`](Self::poll_transmit) is called until it returns
/// `None`, then [`poll_event`](Self::poll_event) and [`poll_message`](Self::poll_message) until both do, and
/// [`handle_timeout`](Self::handle_timeout) no later than [`poll_timeout`](Self::poll_timeout) says.
#[derive(Debug)]
pub struct Association {
    config: Config,
    state: State,
    rng: Rng,
    epoch: Instant,
    key: CookieKey,
    local_tag: u32,
    local_initial_tsn: u32,
    /// The peer, from its INIT or INIT ACK.
    peer: Option<Peer>,
    sender: Sender,
    receiver: Receiver,
    resets: Resets,
    timers: Timers,
    stats: Stats,
    events: VecDeque<Event>,
    due: Due,
    /// The cookie to be sent to the peer.
    cookie: Option<Vec<u8>>,
    /// How often the handshake or shutdown timer expired.
    attempts: u32,
    /// When the last packet of the peer came.
    heard: Instant,
    /// Since when the peer has something to answer.
    waiting_since: Option<Instant>,
    /// Value that the outstanding HEARTBEAT carries.
    heartbeat: Option<(u64, Instant)>,
}

impl Association {
    /// Creates an association that answers a peer. `seed` determines tags, first TSN and cookies; it has to
    /// differ between associations and not be guessable.
    pub fn new(config: Config, seed: u64, now: Instant) -> Self {
        let config = config.checked();
        let mut rng = Rng::with_seed(seed);
        let local_tag = rng.u32(1..);
        let local_initial_tsn = rng.u32(..);
        let key = CookieKey {
            key: (rng.u64(..), rng.u64(..)),
        };
        Self {
            sender: Sender::new(&config, local_initial_tsn),
            receiver: Receiver::new(&config, 0),
            resets: Resets::new(local_initial_tsn, 0),
            config,
            state: State::Closed,
            rng,
            epoch: now,
            key,
            local_tag,
            local_initial_tsn,
            peer: None,
            timers: Timers::default(),
            stats: Stats::default(),
            events: VecDeque::new(),
            due: Due::default(),
            cookie: None,
            attempts: 0,
            heard: now,
            waiting_since: None,
            heartbeat: None,
        }
    }

    /// Starts the handshake (RFC 9260, section 5.1). Both ends may. Does nothing unless the association is
    /// new.
    pub fn connect(&mut self, now: Instant) {
        if self.state == State::Closed && !self.due.ended {
            self.set_state(State::CookieWait);
            self.due.init = true;
            self.attempts = 0;
            self.heard = now;
            self.start_handshake_timer(now);
            self.refresh(now);
        }
    }

    /// Handles a packet of the peer, as DTLS delivered it. Messages are slices of it, where they are
    /// at least half of it.
    #[allow(
        clippy::needless_pass_by_value,
        reason = "messages are slices of the packet"
    )]
    pub fn handle_packet(&mut self, now: Instant, packet: Bytes) {
        self.stats.bytes_received += packet.len() as u64;
        match self.handle(now, &packet) {
            Ok(true) => self.stats.packets_received += 1,
            Ok(false) => self.stats.packets_dropped += 1,
            Err(violation) => {
                self.stats.packets_received += 1;
                self.fail(violation);
            }
        }
        self.refresh(now);
    }

    /// Returns the next packet to be sent, or `None` until time passes or another call changes
    /// something.
    pub fn poll_transmit(&mut self, now: Instant) -> Option<Bytes> {
        let mut buf = Vec::new();
        self.poll_transmit_into(now, &mut buf)
            .then(|| Bytes::from(buf))
    }

    /// Appends the next packet to be sent to `buf`. Returns `false` if there is none.
    pub fn poll_transmit_into(&mut self, now: Instant, buf: &mut Vec<u8>) -> bool {
        let start = buf.len();
        let written = self.transmit(now, buf);
        if written {
            self.stats.packets_sent += 1;
            self.stats.bytes_sent += (buf.len() - start) as u64;
        }
        written
    }

    /// Returns when [`handle_timeout`](Self::handle_timeout) is to be called.
    pub fn poll_timeout(&self) -> Option<Instant> {
        self.timers.next()
    }

    /// Does what is due at `now`.
    pub fn handle_timeout(&mut self, now: Instant) {
        // A timer that is set again lies in the future, so that each expires at most once.
        while let Some(timer) = self.timers.expire(now) {
            self.on_timer(now, timer);
        }
        self.refresh(now);
    }

    /// Tells the association that the path works again after a silence, as a layer below has noticed: what waits
    /// for a timeout that has grown meanwhile is sent now.
    pub fn path_restored(&mut self, now: Instant) {
        let has_grown = [
            (Timer::Handshake, self.attempts > 0),
            (Timer::Retransmission, self.sender.rtt.backoff() > 0),
            (Timer::Reconfig, true),
        ];
        for (timer, has_grown) in has_grown {
            if has_grown && self.timers.is_running(timer) {
                self.timers.stop(timer);
                self.on_timer(now, timer);
            }
        }
        self.refresh(now);
    }

    fn on_timer(&mut self, now: Instant, timer: Timer) {
        match timer {
            Timer::Handshake => self.on_handshake_timeout(now),
            Timer::Retransmission => {
                self.sender
                    .on_timeout(now, &mut self.timers, &mut self.stats);
            }
            Timer::Reordering => {
                self.sender.refill_burst();
                self.sender.detect_losses(now, &mut self.stats);
                self.sender.set_timers(now, &mut self.timers);
            }
            Timer::Probe => self.sender.on_probe_timeout(),
            Timer::Sack => self.receiver.acks.now = true,
            Timer::Reconfig => self.resets.on_timeout(),
            Timer::Heartbeat => self.on_heartbeat_timeout(now),
            Timer::Pacing => {}
            Timer::Failure => self.close(CloseReason::Failed),
        }
    }

    /// Returns the next event. The last is [`Event::Closed`].
    pub fn poll_event(&mut self) -> Option<Event> {
        // The end is reported after everything that came before it.
        let closed = matches!(self.events.front(), Some(Event::Closed(_)));
        if !closed && let Some(event) = self.events.pop_front() {
            return Some(event);
        }
        let reset = self
            .receiver
            .take_reset()
            .map(|stream| Event::IncomingReset { stream });
        reset.or_else(|| self.events.pop_front())
    }

    /// Returns the next message, in the order in which they became complete. Messages behind a reset
    /// wait until [`Event::IncomingReset`] was taken with [`poll_event`](Self::poll_event). What is not
    /// taken keeps the peer's window closed.
    pub fn poll_message(&mut self) -> Option<Message> {
        self.receiver.take_message()
    }

    /// Queues a message. Before the association is established it waits.
    ///
    /// # Errors
    ///
    /// [`SendError::Full`] if more than [`Config::send_buffer`] bytes were buffered; an empty association
    /// takes a message of any size. The other errors are final for the stream or the association.
    pub fn send(
        &mut self,
        now: Instant,
        stream: u16,
        ppid: u32,
        payload: Bytes,
        options: SendOptions,
    ) -> Result<(), SendError> {
        let open = match self.state {
            State::Closed => !self.due.ended,
            State::CookieWait | State::CookieEchoed | State::Established => true,
            _ => false,
        };
        if !open {
            return Err(SendError::Closed);
        }
        self.sender
            .send(now, stream, ppid, payload, &options, &mut self.stats)?;
        if self.state == State::Established {
            self.sender.set_timers(now, &mut self.timers);
        }
        Ok(())
    }

    /// Resets this end's direction of a stream once its queued messages are sent (RFC 6525). The stream
    /// takes no message until [`Event::OutgoingReset`] or [`Event::ResetDenied`], which is reported at
    /// once for a stream that the peer does not take.
    pub fn reset_outgoing(&mut self, stream: u16) {
        if self.due.ended {
            return;
        }
        if self.sender.has_stream(stream) {
            self.sender.reset(stream);
            self.due.check_resets = true;
        } else {
            self.events.push_back(Event::ResetDenied { stream });
        }
    }

    /// Sets the share of a stream among those with queued messages; 256 at first. Does nothing for a
    /// stream that the peer does not take.
    pub fn set_weight(&mut self, stream: u16, weight: u16) {
        self.sender.set_weight(stream, weight);
    }

    /// Shuts the association down once everything is acknowledged (RFC 9260, section 9.2).
    pub fn shutdown(&mut self, now: Instant) {
        match self.state {
            State::Established => self.set_state(State::ShutdownPending),
            State::CookieWait | State::CookieEchoed => self.due.shutdown_asked = true,
            State::Closed => self.close(CloseReason::Shutdown),
            _ => {}
        }
        self.refresh(now);
    }

    /// Ends the association at once; the peer is told `reason` (RFC 9260, section 9.1).
    pub fn abort(&mut self, reason: &str) {
        if self.due.ended {
            return;
        }
        let mut causes = Vec::new();
        error::put_text(&mut causes, code::USER_INITIATED, reason);
        self.reply_abort(&causes);
        self.close(CloseReason::Aborted);
    }

    /// Makes the receive buffer larger than [`Config::receive_buffer`], if it is not as large already. The peer learns
    /// of it with the next SACK.
    pub fn raise_receive_buffer(&mut self, bytes: usize) {
        self.receiver.raise_limit(bytes.min(MAX_RECEIVE_BUFFER));
    }

    /// Returns the bytes that are queued or not yet acknowledged.
    pub fn buffered(&self) -> usize {
        self.sender.buffered()
    }

    /// Returns the bytes that wait to be sent, for the first time or again.
    pub fn unsent(&self) -> usize {
        self.sender.unsent()
    }

    /// Returns the bytes of a stream that are queued or not yet acknowledged.
    pub fn buffered_on(&self, stream: u16) -> usize {
        self.sender.buffered_on(stream)
    }

    /// Returns counters and gauges.
    pub fn stats(&self) -> Stats {
        let mut stats = self.stats;
        self.sender.add_stats(&mut stats);
        stats.receive_window = self.receiver.window();
        if let Some(peer) = &self.peer {
            stats.zero_checksum = self.config.zero_checksum && peer.features.zero_checksum;
            stats.reconfig = peer.features.reconfig;
        }
        stats
    }

    /// Returns the state.
    pub fn state(&self) -> State {
        self.state
    }

    fn set_state(&mut self, state: State) {
        tracing::debug!(from = ?self.state, to = ?state, "association");
        self.state = state;
    }

    /// Returns whether data may be received (RFC 9260, section 6).
    fn takes_data(&self) -> bool {
        matches!(
            self.state,
            State::Established | State::ShutdownPending | State::ShutdownSent
        )
    }

    /// Returns whether data may be sent.
    fn sends_data(&self) -> bool {
        matches!(
            self.state,
            State::Established | State::ShutdownPending | State::ShutdownReceived
        )
    }

    /// Does what follows from a change, whatever it was.
    fn refresh(&mut self, now: Instant) {
        if self.due.ended {
            return;
        }
        while self.receiver.may_reset()
            && let Some(streams) = self.resets.take_performed(self.receiver.cumulative())
        {
            if streams.is_empty() {
                self.receiver.reset_all(self.sender.take_unreset());
            } else {
                self.receiver.reset(&streams);
            }
        }
        self.check_shutdown(now);
        if self.sender.take_low() && !self.events.contains(&Event::BufferedLow) {
            self.events.push_back(Event::BufferedLow);
        }
        if self.receiver.acks.is_pending() && !self.receiver.acks.is_due() {
            if !self.timers.is_running(Timer::Sack) {
                self.timers.set(Timer::Sack, now + self.config.sack_delay);
            }
        } else {
            self.timers.stop(Timer::Sack);
        }
        self.watch(now);
    }

    /// Sets the timers of failure and heartbeat.
    fn watch(&mut self, now: Instant) {
        let waiting = self.sender.is_waiting()
            || self.resets.is_pending()
            || self.heartbeat.is_some()
            || !matches!(
                self.state,
                State::Closed | State::Established | State::ShutdownPending
            );
        if waiting {
            let since = *self.waiting_since.get_or_insert(now);
            let failure = self
                .config
                .failed_after
                .map(|after| since.max(self.heard) + after);
            self.timers.set_or_stop(Timer::Failure, failure);
        } else {
            self.waiting_since = None;
            self.timers.stop(Timer::Failure);
        }
        if let Some(interval) = self.config.heartbeat_interval
            && self.state == State::Established
            && !self.timers.is_running(Timer::Heartbeat)
        {
            self.timers.set(Timer::Heartbeat, now + interval);
        }
    }

    fn on_heartbeat_timeout(&mut self, now: Instant) {
        let Some(interval) = self.config.heartbeat_interval else {
            return;
        };
        if self.state == State::Established && self.heard + interval <= now {
            let nonce = self.rng.u64(..);
            self.heartbeat = Some((nonce, now));
            self.due.heartbeat = true;
        }
        // Jitter keeps the ends from sending at once (RFC 9260, section 8.3).
        let jitter = self.rng.f64() * 0.2 + 0.9;
        let base = if self.due.heartbeat { now } else { self.heard };
        let next = base + interval.mul_f64(jitter);
        self.timers
            .set(Timer::Heartbeat, next.max(now + Duration::from_millis(1)));
    }

    /// Starts the request of resets, if any is to be made.
    fn check_resets(&mut self) {
        self.due.check_resets = false;
        let Some(peer) = &self.peer else {
            return;
        };
        let supported = peer.features.reconfig;
        while self.sender.has_resettable() && !self.resets.is_pending() {
            let streams = self
                .sender
                .take_resettable(reset::most_streams(self.config.mtu));
            if supported {
                let last_tsn = self.sender.last_tsn();
                self.resets.request(streams, last_tsn);
            } else {
                self.end_resets(&streams, false);
            }
        }
    }

    fn end_resets(&mut self, streams: &[u16], performed: bool) {
        for stream in streams.iter().copied() {
            self.sender.finish_reset(stream, performed);
            self.events.push_back(if performed {
                Event::OutgoingReset { stream }
            } else {
                Event::ResetDenied { stream }
            });
        }
    }

    /// Ends the association for what the peer did.
    fn fail(&mut self, violation: Violation) {
        let mut causes = Vec::new();
        match violation.value {
            Some(value) => put_tlv(&mut causes, violation.code, &value.to_be_bytes()),
            None if violation.code == code::PROTOCOL_VIOLATION => {}
            None => put_tlv(&mut causes, violation.code, &[]),
        }
        error::put_text(&mut causes, code::PROTOCOL_VIOLATION, violation.text);
        self.reply_abort(&causes);
        self.close(CloseReason::ProtocolViolation(violation.text));
    }

    /// Queues an ABORT with `causes`.
    fn reply_abort(&mut self, causes: &[u8]) {
        if let Some(peer) = &self.peer {
            let tag = peer.tag;
            self.reply(tag, kind::ABORT, 0, causes);
        }
    }

    fn close(&mut self, reason: CloseReason) {
        if self.due.ended {
            return;
        }
        self.set_state(State::Closed);
        self.timers.stop_all();
        let replies = std::mem::take(&mut self.due.replies);
        self.due = Due {
            ended: true,
            replies,
            ..Due::default()
        };
        self.sender = Sender::new(&self.config, self.local_initial_tsn);
        self.cookie = None;
        self.events.push_back(Event::Closed(reason));
    }
}
