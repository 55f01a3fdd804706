//! The end of a session, and the drain before it.

use super::{Ended, Session, StreamHandle};
use crate::carrier::DrainMode;
use crate::control::Control;
use crate::event::Event;
use crate::frame::{Frame, cut_reason};
use crate::timers::TimerTable;
use crate::violation::Violation;

impl<S: StreamHandle, P> Session<S, P> {
    /// Announces that no more streams are wanted. Returns whether that is news.
    pub fn drain(&mut self) -> bool {
        let is_news = self.drain.start();
        if is_news && self.carrier.is_plain {
            // A plain peer cannot be told.
            self.drain.assume_answer();
        } else if is_news {
            self.control.push(Frame::Drain);
        }
        is_news
    }

    /// Notes that a plain peer opens no more streams.
    pub fn on_plain_drain(&mut self) {
        if self.drain.on_drain().is_ok() {
            self.events.push_back(Event::Draining);
        }
    }

    /// Returns whether the peer drains the connection.
    pub fn is_drained_by_peer(&self) -> bool {
        self.drain.is_by_peer()
    }

    /// Returns whether a drain of this side is complete: no stream is under way and none comes.
    pub fn is_drained(&self) -> bool {
        self.drain
            .has_seen_all(self.carrier.drain, self.counts.seen)
            && self.streams.is_empty()
    }

    pub(super) fn answer_drain(&mut self) {
        let is_idle = match self.carrier.drain {
            DrainMode::WhenIdle => self.counts.remote == self.streams.len(),
            DrainMode::AtOnce | DrainMode::Counted => true,
        };
        if self.drain.poll_answer(self.carrier.drain, is_idle) {
            let streams = self.counts.opened;
            self.control.push(Frame::Drained { streams });
        }
    }

    /// Closes the connection from this side: frames that are due still leave, and CLOSE behind them. The first end
    /// counts.
    ///
    /// The driver bounds how long the peer may take to confirm it, by the end of a byte stream, an acknowledgement of
    /// QUIC, or a frame: the wait includes bytes below the session.
    pub fn close(&mut self, code: u32, messages: u64, reason: &str) {
        if self.ended.is_some() {
            return;
        }
        if !self.carrier.is_plain {
            let reason = cut_reason(reason).to_owned();
            self.control.close(Frame::Close {
                code,
                messages,
                reason,
            });
        }
        self.end(true);
    }

    /// Ends the session without a CLOSE: the connection is lost, or the caller closes it by itself. The first end
    /// counts.
    pub fn fail(&mut self) {
        if self.ended.is_none() {
            self.end(false);
        }
    }

    pub(super) fn end(&mut self, is_local: bool) {
        self.ended = Some(Ended {
            was_idle: self.streams.is_empty(),
            is_local,
        });
        self.timers = TimerTable::default();
        if !is_local {
            self.control = Control::default();
            self.queue.clear();
        }
        for (_, stream) in std::mem::take(&mut self.streams) {
            stream.with(|stream| {
                stream.on_conn_end();
                stream.retired = true;
                self.counts.sent += stream.bytes_sent();
                self.counts.read += stream.bytes_read();
            });
            self.events.push_back(Event::Wake {
                stream,
                reader: true,
                writer: true,
            });
        }
        self.counts.remote = 0;
        let pings = self.pings.end();
        if !pings.is_empty() {
            self.events.push_back(Event::PingsEnded(pings));
        }
        self.events.push_back(Event::Idle);
    }

    /// Returns how a violation in what came is to be told: before its hello the peer speaks another protocol.
    #[must_use]
    pub fn blame(&self, violation: Violation) -> Violation {
        if self.peer.is_some() {
            return violation;
        }
        Violation::handshake(format_args!("the peer does not speak pipe/1: {violation}"))
    }

    /// Returns whether the session ended, by either side or a failure.
    pub fn is_ended(&self) -> bool {
        self.ended.is_some()
    }

    /// Returns whether this side closed the connection.
    pub fn is_closed_here(&self) -> bool {
        self.ended.is_some_and(|ended| ended.is_local)
    }

    /// Returns whether the session ended without a stream that was cut short by that.
    pub fn ended_idle(&self) -> bool {
        self.ended.is_some_and(|ended| ended.was_idle)
    }
}
