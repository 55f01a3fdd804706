use std::collections::VecDeque;
use std::fmt;
use std::sync::Arc;
use std::time::Instant;

use bytes::Bytes;
use pipe_core::{Error, ErrorKind, Result};
use pipe_sctp::dcep::{Dcep, Open, Reliability, ppid};
use pipe_sctp::{Event, Message, SendError, SendOptions};

use super::channel_state::ChannelState;
use super::channels::{Channels, Direction};
use super::events::EventQueue;
use super::held::Held;
use super::payload::{to_message, to_payload};
use super::unread::Unread;
use crate::engine::channel_info::{ChannelInfo, ChannelOptions};
use crate::engine::event::{ChannelEvent, PeerEvent};
use crate::error::lost;

/// Priority of a channel: normal (RFC 8831, section 6.4).
const PRIORITY: u16 = 256;

/// Number of bytes that wait to be sent beyond which no more are taken: what others write waits behind them.
const MAX_UNSENT: usize = 512 * 1024;

/// Number of packets whose queue is kept after they were taken.
const MAX_PACKETS: usize = 8;

/// Whether a message was taken.
pub(super) enum Taken {
    Yes,
    /// The association is not established, or its buffer is full.
    NotNow,
}

/// The association of SCTP with its channels (RFC 8831), without I/O.
pub(super) struct SctpTransport {
    config: pipe_sctp::Config,
    association: Option<pipe_sctp::Association>,
    is_associated: bool,
    channels: Channels,
    /// Packets that were decrypted.
    packets: VecDeque<Bytes>,
    /// Messages whose stream is not free yet.
    held: Held,
    failure: Option<Error>,
    goodbye: Option<String>,
    /// Whether it was shut down, so that all messages have arrived.
    is_shut_down: bool,
    /// Bytes that the peer has not acknowledged, when that was last looked at.
    buffered: usize,
    /// Whether channels may have been opened since then.
    is_opened: bool,
    /// Time of the last call.
    now: Instant,
}

impl SctpTransport {
    pub(super) fn new(config: pipe_sctp::Config, now: Instant) -> Self {
        Self {
            config,
            association: None,
            is_associated: false,
            channels: Channels::default(),
            packets: VecDeque::new(),
            held: Held::default(),
            failure: None,
            goodbye: None,
            is_shut_down: false,
            buffered: 0,
            is_opened: false,
            now,
        }
    }

    /// Returns the association, once there is one.
    pub(super) fn association(&self) -> Option<&pipe_sctp::Association> {
        self.association.as_ref()
    }

    /// Changes the settings for a peer that is described, before the association is made.
    pub(super) fn configure(&mut self, change: impl FnOnce(&mut pipe_sctp::Config)) {
        if self.association.is_none() {
            change(&mut self.config);
        }
    }

    /// Sets the role in DTLS, of which the ids of channels depend.
    pub(super) fn set_role(&mut self, is_client: bool) {
        self.channels.set_role(is_client);
    }

    /// Passes on events and messages while there is room for them. Returns whether there are no more.
    pub(super) fn deliver(
        &mut self,
        now: Instant,
        unread: &Unread,
        events: &mut EventQueue,
    ) -> bool {
        self.now = now;
        loop {
            // An id that is free may be that of the next message.
            let is_any = self.poll();
            self.take_held(unread, events);
            let is_drained = self.take_messages(unread, events);
            // Messages may be what an event has waited for.
            if !is_any && !self.poll() {
                return is_drained;
            }
        }
    }

    /// Begins the association.
    ///
    /// # Errors
    ///
    /// [`Io`](ErrorKind::Io) when the system gives no random bytes.
    pub(super) fn connect(&mut self, now: Instant) -> Result<()> {
        let mut seed = [0; 8];
        getrandom::fill(&mut seed).map_err(|error| {
            let why = format!("the system gives no random bytes: {error}");
            Error::new(ErrorKind::Io, why)
        })?;
        let seed = u64::from_ne_bytes(seed);
        let mut association = pipe_sctp::Association::new(self.config.clone(), seed, now);
        association.connect(now);
        self.association = Some(association);
        Ok(())
    }

    /// Keeps a packet that was decrypted until [`handle_packets`](Self::handle_packets).
    pub(super) fn push_packet(&mut self, packet: &[u8]) {
        self.packets.push_back(Bytes::copy_from_slice(packet));
    }

    /// Takes the packets that were kept, once there is an association.
    pub(super) fn handle_packets(&mut self, now: Instant) {
        if let Some(association) = &mut self.association {
            for packet in self.packets.drain(..) {
                association.handle_packet(now, packet);
            }
        }
        if self.packets.capacity() > MAX_PACKETS {
            self.packets = VecDeque::new();
        }
    }

    /// Passes on the events of the association. Returns whether there were any.
    fn poll(&mut self) -> bool {
        let mut is_any = false;
        while let Some(event) = self.next_event() {
            is_any = true;
            match event {
                Event::Connected => self.associated(),
                Event::IncomingReset { stream } => self.note_incoming_reset(stream),
                Event::OutgoingReset { stream } => self.note_outgoing_reset(stream),
                Event::ResetDenied { stream } => {
                    // The id stays in use, since the peer still has it.
                    tracing::debug!(stream, "the peer refuses the reset of a stream");
                }
                Event::Closed(reason) => {
                    tracing::debug!(%reason, "the association has ended");
                    if let pipe_sctp::CloseReason::ProtocolViolation(why) = reason {
                        self.fail(lost(format_args!("the peer breaks SCTP: {why}")));
                    } else if reason == pipe_sctp::CloseReason::Failed {
                        self.fail(lost(&reason));
                    }
                    self.is_shut_down = reason == pipe_sctp::CloseReason::Shutdown;
                    self.goodbye = Some(match reason {
                        // Its text is the peer's.
                        pipe_sctp::CloseReason::AbortedByPeer { code, .. } => {
                            format!("an ABORT of SCTP with the cause {code}")
                        }
                        reason => reason.to_string(),
                    });
                }
                Event::Restarted => {
                    self.fail(lost("the peer has begun its association anew"));
                }
                // The acknowledgements themselves are followed.
                _ => {}
            }
        }
        is_any
    }

    fn next_event(&mut self) -> Option<Event> {
        self.association.as_mut()?.poll_event()
    }

    /// Takes messages while there is room for them. Returns whether there are no more.
    fn take_messages(&mut self, unread: &Unread, events: &mut EventQueue) -> bool {
        while unread.has_room() && events.has_room() {
            let association = self.association.as_mut();
            let Some(message) = association.and_then(pipe_sctp::Association::poll_message) else {
                return true;
            };
            if self.channels.is_early(message.stream) {
                self.hold(message);
                continue;
            }
            let cost = self.handle_message(message, events);
            unread.add(cost);
        }
        false
    }

    fn hold(&mut self, message: Message) {
        if !self.held.push(message, self.config.receive_buffer) {
            let why = "the peer uses ids of channels whose reset it does not answer";
            self.fail(lost(why));
        }
    }

    /// Takes the messages that have waited for an id that is free now.
    fn take_held(&mut self, unread: &Unread, events: &mut EventQueue) {
        if self.held.is_empty() {
            return;
        }
        for message in self.held.take() {
            if self.channels.is_early(message.stream) {
                self.hold(message);
            } else {
                let cost = self.handle_message(message, events);
                unread.add(cost);
            }
        }
    }

    fn handle_message(&mut self, message: Message, events: &mut EventQueue) -> usize {
        let Message {
            stream,
            ppid,
            payload,
            ..
        } = message;
        if ppid == ppid::DCEP {
            self.handle_dcep(stream, &payload, events);
            return 0;
        }
        let Some(entry) = self.channels.by_id(stream) else {
            tracing::debug!(
                stream,
                ppid,
                "a message on a stream without a channel is dropped"
            );
            return 0;
        };
        if entry.outgoing != Direction::Open {
            // The application has closed the channel.
            return 0;
        }
        let Some(event) = to_message(ppid, payload) else {
            tracing::debug!(stream, ppid, "a message of an unknown kind is dropped");
            return 0;
        };
        entry.inner.push(event)
    }

    fn handle_dcep(&mut self, stream: u16, payload: &[u8], events: &mut EventQueue) {
        match Dcep::parse(payload) {
            Ok(Dcep::Ack) => {
                if let Some(entry) = self.channels.by_id_mut(stream)
                    && std::mem::take(&mut entry.is_unanswered)
                {
                    entry.inner.push(ChannelEvent::Open);
                }
            }
            Ok(Dcep::Open(open)) => {
                let info = ChannelInfo::new(&open.label, &open.protocol, !open.unordered);
                let Some(inner) = self.channels.add_remote(info, stream) else {
                    // RFC 8832, section 6.
                    tracing::debug!(stream, "a channel with the id of another one is refused");
                    return;
                };
                self.send_dcep(stream, &Dcep::Ack);
                inner.push(ChannelEvent::Open);
                events.push(PeerEvent::Channel(inner));
            }
            Err(error) => {
                tracing::debug!(%error, stream, "a message about a channel is dropped");
            }
        }
    }

    /// Sends what the association bounds by itself: the messages about channels.
    fn send_dcep(&mut self, stream: u16, message: &Dcep) {
        let (payload, options) = (message.to_bytes(), SendOptions::default());
        if let Some(association) = &mut self.association
            && let Err(error) = association.send(self.now, stream, ppid::DCEP, payload, options)
        {
            tracing::debug!(%error, stream, "a message about a channel is not sent");
        }
    }

    /// The association is established: channels that waited are opened.
    fn associated(&mut self) {
        self.is_associated = true;
        self.is_opened = true;
        self.open_waiting();
    }

    fn open_waiting(&mut self) {
        if !self.is_associated {
            return;
        }
        for key in self.channels.take_waiting() {
            let Some(entry) = self.channels.get(key) else {
                continue;
            };
            if entry.is_negotiated {
                entry.inner.push(ChannelEvent::Open);
                continue;
            }
            let info = entry.inner.info();
            let open = Dcep::Open(Open {
                unordered: !info.ordered,
                reliability: Reliability::Reliable,
                priority: PRIORITY,
                label: info.label.clone(),
                protocol: info.protocol.clone(),
            });
            if let Some(id) = entry.id {
                self.send_dcep(id, &open);
            }
        }
    }

    /// Opens a channel; `None` if its id is in use.
    pub(super) fn open_channel(
        &mut self,
        label: &str,
        options: &ChannelOptions,
    ) -> Option<Arc<ChannelState>> {
        let info = ChannelInfo::new(label, &options.protocol, options.ordered);
        let inner = self.channels.add(info, options.negotiated)?;
        self.now = Instant::now();
        self.open_waiting();
        Some(inner)
    }

    pub(super) fn has_free_id(&mut self) -> bool {
        self.channels.has_free_id()
    }

    /// Queues a message of a channel.
    ///
    /// # Errors
    ///
    /// [`Failed`](pipe_core::ErrorKind::Failed) if the channel is closed.
    pub(super) fn send(&mut self, key: usize, is_text: bool, bytes: &Bytes) -> Result<Taken> {
        let entry = self.channels.get(key).ok_or_else(closed)?;
        if entry.outgoing != Direction::Open {
            return Err(closed());
        }
        let (Some(association), Some(id), true) =
            (&mut self.association, entry.id, self.is_associated)
        else {
            return Ok(Taken::NotNow);
        };
        if association.unsent() > MAX_UNSENT {
            return Ok(Taken::NotNow);
        }
        let (ppid, payload) = to_payload(is_text, bytes);
        let options = SendOptions {
            // Messages before the answer to the opening are in order (RFC 8832, section 6).
            unordered: !entry.inner.info().ordered && !entry.is_unanswered,
            ..SendOptions::default()
        };
        match association.send(Instant::now(), id, ppid, payload, options) {
            Ok(()) => {
                self.buffered = association.buffered();
                Ok(Taken::Yes)
            }
            Err(SendError::Full) => Ok(Taken::NotNow),
            Err(error) => Err(lost(error)),
        }
    }

    /// Returns how many bytes of a channel the peer has not acknowledged.
    pub(super) fn outstanding(&self, key: usize) -> usize {
        let id = self.channels.get(key).and_then(|entry| entry.id);
        match (&self.association, id) {
            (Some(association), Some(id)) => association.buffered_on(id),
            _ => 0,
        }
    }

    /// Closes a channel of the application.
    pub(super) fn close_channel(&mut self, key: usize) {
        let Some(entry) = self.channels.get_mut(key) else {
            return;
        };
        let Some(id) = entry.id else {
            return self.channels.forget(key);
        };
        if entry.outgoing == Direction::Open {
            entry.outgoing = Direction::Resetting;
            if let Some(association) = &mut self.association {
                association.reset_outgoing(id);
            }
        }
    }

    /// The peer has reset its direction of a channel, all of whose messages were taken. This side does so too
    /// (RFC 8831, section 6.7).
    fn note_incoming_reset(&mut self, stream: u16) {
        let Some(entry) = self.channels.by_id_mut(stream) else {
            // A channel that never was: its messages were refused, and so its opening.
            if let Some(association) = &mut self.association {
                association.reset_outgoing(stream);
            }
            return;
        };
        let key = entry.inner.key();
        if entry.incoming != Direction::Reset {
            entry.incoming = Direction::Reset;
            entry.inner.push(ChannelEvent::Closed);
        }
        self.close_channel(key);
        self.channels.remove_if_over(key);
        self.free_id();
    }

    fn note_outgoing_reset(&mut self, stream: u16) {
        if let Some(entry) = self.channels.by_id_mut(stream) {
            entry.outgoing = Direction::Reset;
            let key = entry.inner.key();
            self.channels.remove_if_over(key);
            self.free_id();
        }
    }

    /// An id may be free: a channel that waits for one is opened.
    fn free_id(&mut self) {
        self.is_opened = true;
        self.open_waiting();
    }

    /// Returns whether the peer has acknowledged something since the last call, or channels may have been
    /// opened.
    pub(super) fn is_acknowledged(&mut self) -> bool {
        let association = self.association.as_ref();
        let buffered = association.map_or(0, pipe_sctp::Association::buffered);
        let is_less = buffered < std::mem::replace(&mut self.buffered, buffered);
        is_less || std::mem::take(&mut self.is_opened)
    }

    /// Aborts the association, which [`poll_transmit_into`](Self::poll_transmit_into) tells the peer.
    pub(super) fn abort(&mut self) {
        if let Some(association) = &mut self.association {
            association.abort("");
        }
    }

    /// Writes the next packet to send. Returns whether there is one.
    pub(super) fn poll_transmit_into(&mut self, now: Instant, packet: &mut Vec<u8>) -> bool {
        let association = self.association.as_mut();
        association.is_some_and(|association| association.poll_transmit_into(now, packet))
    }

    pub(super) fn handle_timeout(&mut self, now: Instant) {
        if let Some(association) = &mut self.association
            && association.poll_timeout().is_some_and(|at| at <= now)
        {
            association.handle_timeout(now);
        }
    }

    /// Makes the receive buffer larger, if it is not as large already.
    pub(super) fn raise_receive_buffer(&mut self, bytes: usize) {
        if let Some(association) = &mut self.association {
            association.raise_receive_buffer(bytes);
        }
    }

    /// The peer is heard again after a silence.
    pub(super) fn path_restored(&mut self, now: Instant) {
        if let Some(association) = &mut self.association {
            association.path_restored(now);
        }
    }

    /// Returns when to call [`handle_timeout`](Self::handle_timeout).
    pub(super) fn deadline(&self) -> Option<Instant> {
        self.association
            .as_ref()
            .and_then(pipe_sctp::Association::poll_timeout)
    }

    fn fail(&mut self, error: Error) {
        self.failure.get_or_insert(error);
    }

    /// Returns why the association cannot go on, once.
    pub(super) fn take_failure(&mut self) -> Option<Error> {
        self.failure.take()
    }

    /// Returns how the association has ended, if it has.
    pub(super) fn goodbye(&self) -> Option<&str> {
        self.goodbye.as_deref()
    }

    /// Ends the incoming directions of all channels where the transport was shut down, so that nothing of them is
    /// missing. Where it was broken off, they end with the connection, and not as whole.
    pub(super) fn close_channels(&mut self) {
        if self.is_shut_down {
            self.channels.close_all();
        }
    }

    /// Nothing happens any more.
    pub(super) fn end(&mut self) {
        self.channels.end();
        self.association = None;
    }
}

impl fmt::Debug for SctpTransport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SctpTransport")
            .field("is_associated", &self.is_associated)
            .finish_non_exhaustive()
    }
}

/// Returns the error of a channel that takes no more.
pub(super) fn closed() -> Error {
    Error::new(ErrorKind::Failed, "the data channel is closed")
}
