//! What an SCTP implementation does, whichever it is.

use bytes::Bytes;
use std::time::Duration;

/// An endpoint of one association. Times are those since the beginning of the simulation.
pub trait Stack {
    /// Starts the handshake from this side.
    fn connect(&mut self, now: Duration);
    fn handle_packet(&mut self, now: Duration, packet: Bytes);
    fn poll_transmit(&mut self, now: Duration) -> Option<Bytes>;
    fn poll_timeout(&mut self) -> Option<Duration>;
    fn handle_timeout(&mut self, now: Duration);
    /// Returns the next message or event, in the order in which the application would see them.
    fn poll_output(&mut self) -> Option<Output>;
    /// Queues a message. Returns false when there is no room for it or the stream is being reset.
    fn send(&mut self, now: Duration, stream: u16, payload: Bytes, sending: Sending) -> bool;
    fn reset(&mut self, now: Duration, stream: u16);
    /// Whether a reset now would discard messages of the stream that were taken.
    fn reset_discards(&mut self, _stream: u16) -> bool {
        false
    }
    /// Ends the association once everything has arrived.
    fn shutdown(&mut self, now: Duration);
    /// Bytes that were taken and are not acknowledged yet, as far as the implementation counts them.
    fn buffered(&mut self) -> usize;
    /// Whether the association ended, or was not begun.
    fn is_closed(&self) -> bool {
        false
    }
    /// A line on the state, for the message of a failed test.
    fn describe(&self) -> String {
        String::new()
    }
}

/// How a message is sent.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Sending {
    pub unordered: bool,
    pub max_retransmits: Option<u16>,
    pub lifetime: Option<Duration>,
}

impl Sending {
    pub fn is_reliable(&self) -> bool {
        self.max_retransmits.is_none() && self.lifetime.is_none()
    }
}

/// What an endpoint reports.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Output {
    Connected,
    Message { stream: u16, payload: Bytes },
    IncomingReset { stream: u16 },
    OutgoingReset { stream: u16 },
    ResetDenied { stream: u16 },
    Restarted,
    Closed(String),
}
