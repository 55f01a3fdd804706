use std::collections::VecDeque;

use crate::frame::{Frame, PingBytes};
use crate::violation::Violation;

/// How many answers to pings may wait while the peer goes on sending pings. A peer that keeps the rules has fewer
/// pings without an answer.
const MAX_PONGS: usize = 1024;

/// The frames about the connection that are due, in the order in which they leave.
#[derive(Debug, Default)]
pub(crate) struct Control {
    queue: VecDeque<Frame>,
    /// How many of them are answers to pings.
    pongs: usize,
    /// The last frame of this side, behind those about streams.
    close: Option<Frame>,
}

impl Control {
    pub(crate) fn push(&mut self, frame: Frame) {
        self.queue.push_back(frame);
    }

    pub(crate) fn answer(&mut self, bytes: PingBytes) -> Result<(), Violation> {
        if self.pongs >= MAX_PONGS {
            return Err(Violation::new("a flood of pings"));
        }
        self.pongs += 1;
        self.push(Frame::Pong(bytes));
        Ok(())
    }

    pub(crate) fn close(&mut self, frame: Frame) {
        self.close = Some(frame);
    }

    /// Takes out the next frame but the close.
    pub(crate) fn poll(&mut self) -> Option<Frame> {
        let frame = self.queue.pop_front()?;
        if matches!(frame, Frame::Pong(_)) {
            self.pongs -= 1;
        }
        Some(frame)
    }

    /// Takes out the close, once everything else has left.
    pub(crate) fn poll_close(&mut self) -> Option<Frame> {
        self.close.take()
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.queue.is_empty() && self.close.is_none()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers_are_bounded_until_they_leave() {
        let mut control = Control::default();
        for _ in 0..MAX_PONGS {
            control.answer([0; 64]).unwrap();
        }
        assert!(control.answer([0; 64]).is_err());
        control.push(Frame::Drain);
        assert_eq!(control.poll(), Some(Frame::Pong([0; 64])));
        control.answer([1; 64]).unwrap();
        assert!(!control.is_empty());
    }
}
