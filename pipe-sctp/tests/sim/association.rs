//! [`Stack`] for this crate's association.

use super::stack::{Output, Sending, Stack};
use bytes::Bytes;
use pipe_sctp::{Association, Config, Event, SendOptions};
use std::time::{Duration, Instant};

/// This crate's association.
pub struct Ours {
    pub association: Association,
    base: Instant,
}

impl Ours {
    /// `now` is the time of its creation. Endpoints of one simulation share `base`.
    pub fn new(config: Config, seed: u64, base: Instant, now: Duration) -> Ours {
        Ours {
            association: Association::new(config, seed, base + now),
            base,
        }
    }

    pub fn boxed(config: Config, seed: u64, base: Instant) -> Box<Ours> {
        Box::new(Ours::new(config, seed, base, Duration::ZERO))
    }
}

impl Stack for Ours {
    fn connect(&mut self, now: Duration) {
        self.association.connect(self.base + now);
    }

    fn handle_packet(&mut self, now: Duration, packet: Bytes) {
        self.association.handle_packet(self.base + now, packet);
    }

    fn poll_transmit(&mut self, now: Duration) -> Option<Bytes> {
        self.association.poll_transmit(self.base + now)
    }

    fn poll_timeout(&mut self) -> Option<Duration> {
        self.association
            .poll_timeout()
            .map(|at| at.saturating_duration_since(self.base))
    }

    fn handle_timeout(&mut self, now: Duration) {
        self.association.handle_timeout(self.base + now);
    }

    fn poll_output(&mut self) -> Option<Output> {
        while let Some(event) = self.association.poll_event() {
            return Some(match event {
                Event::Connected => Output::Connected,
                Event::IncomingReset { stream } => Output::IncomingReset { stream },
                Event::OutgoingReset { stream } => Output::OutgoingReset { stream },
                Event::ResetDenied { stream } => Output::ResetDenied { stream },
                Event::Restarted => Output::Restarted,
                Event::Closed(reason) => Output::Closed(reason.to_string()),
                _ => continue,
            });
        }
        let message = self.association.poll_message()?;
        Some(Output::Message {
            stream: message.stream,
            payload: message.payload,
        })
    }

    fn send(&mut self, now: Duration, stream: u16, payload: Bytes, sending: Sending) -> bool {
        let options = SendOptions {
            unordered: sending.unordered,
            max_retransmits: sending.max_retransmits,
            lifetime: sending.lifetime,
            ..SendOptions::default()
        };
        self.association
            .send(self.base + now, stream, 53, payload, options)
            .is_ok()
    }

    fn reset(&mut self, _now: Duration, stream: u16) {
        self.association.reset_outgoing(stream);
    }

    fn shutdown(&mut self, now: Duration) {
        self.association.shutdown(self.base + now);
    }

    fn buffered(&mut self) -> usize {
        self.association.buffered()
    }

    fn is_closed(&self) -> bool {
        self.association.state() == pipe_sctp::State::Closed
    }

    fn describe(&self) -> String {
        format!(
            "{:?} {:?}",
            self.association.state(),
            self.association.stats()
        )
    }
}
