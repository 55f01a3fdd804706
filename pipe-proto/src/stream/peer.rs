//! What the peer, and the multiplexer, do with a stream.

use super::{Ends, Origin, Pending, Reaction, Stream};
use crate::frame::StreamFrame;
use crate::recv::RecvHalf;
use crate::send::SendHalf;
use crate::violation::Violation;

impl Stream {
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
            if self.ends_natively() && self.recv == RecvHalf::Ended {
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
                if self.ends == Ends::NativeShared && bytes == u32::MAX {
                    self.ends = Ends::NativeDiscarded;
                }
                self.on_credit(bytes)
            }
            StreamFrame::Taken => {
                self.send.on_confirmed();
                self.free(u32::MAX)
            }
            StreamFrame::Done => {
                let Origin::Local { peer_done } = &mut self.origin else {
                    return Err(Violation::new(format_args!(
                        "DONE for stream {id} from the side that opened it"
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

    /// Takes credit: beyond what counts, it grows the window of a stream that lives.
    fn on_credit(&mut self, bytes: u32) -> Reaction {
        let reaction = self.free(bytes);
        if self.send == SendHalf::Ready {
            self.ahead = self.ahead.saturating_add(bytes - reaction.freed);
        }
        reaction
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
}
