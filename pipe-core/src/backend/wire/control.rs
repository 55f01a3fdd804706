use std::collections::{HashSet, VecDeque};

use bytes::BytesMut;

use crate::backend::common::protocol;
use crate::backend::wire::message::{Hello, Message, PING_LEN};
use crate::backend::wire::outbox::Outbox;
use crate::{Error, ErrorKind, Result};

/// How many answers to pings may wait while the peer goes on asking for more. Beyond it, the peer is
/// flooding: one that keeps the rules has fewer pings under way.
const MAX_ANSWERS: usize = 1024;

/// One side of the control channel of `pipe/1`, without any I/O.
///
/// Its owner feeds it what the channel [received](Self::receive), takes the [events](Self::next_event)
/// that come of it, and sends what is in [`output`](Self::output). Pings are answered by itself.
///
/// Its queues are bounded: the input by one message; the output by 1,024 answers and, as long as the owner
/// ends the connection once the output [is flooded](Self::is_flooded), by 64 KiB and 128 bytes for each
/// stream; the events by one [`receive`](Self::receive), after which the owner takes them.
#[derive(Debug)]
pub struct Control {
    input: BytesMut,
    output: Outbox,
    /// Answers to pings in the output, at most.
    answers: usize,
    events: VecDeque<ControlEvent>,
    greeted: bool,
    closed: bool,
    drain_announced: bool,
    pings: HashSet<[u8; PING_LEN]>,
}

/// What the peer said.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ControlEvent {
    /// It has introduced itself. Always the first event.
    Hello(Hello),
    /// It has answered a ping.
    Pong([u8; PING_LEN]),
    /// Its direction of a stream ends cleanly after so many bytes.
    End {
        /// The stream.
        stream: u64,
        /// How many bytes the direction has carried in all.
        bytes: u64,
    },
    /// It has abandoned its direction of a stream.
    Reset {
        /// The stream.
        stream: u64,
        /// The application's code.
        code: u32,
    },
    /// It wants no more of this side's direction of a stream.
    Stop {
        /// The stream.
        stream: u64,
        /// The application's code.
        code: u32,
    },
    /// Its application is done with a stream that this side opened.
    Done {
        /// The stream.
        stream: u64,
    },
    /// Its application has read this side's direction of a stream to its end.
    Taken {
        /// The stream.
        stream: u64,
    },
    /// Its application has read so many more bytes of this side's direction of a stream.
    Credit {
        /// The stream.
        stream: u64,
        /// How many bytes.
        bytes: u32,
    },
    /// It opens no more streams and wants none. The answer has been queued.
    Drain,
    /// It has taken this side's drain to heart: every stream that it opened is known by now.
    Drained,
    /// It has closed the connection.
    Close {
        /// The application's code.
        code: u32,
        /// The application's reason.
        reason: String,
    },
}

impl Control {
    /// A side that introduces itself with `hello`.
    pub fn new(hello: Hello) -> Self {
        let mut control = Self {
            input: BytesMut::new(),
            output: Outbox::default(),
            answers: 0,
            events: VecDeque::new(),
            greeted: false,
            closed: false,
            drain_announced: false,
            pings: HashSet::new(),
        };
        control.send(&Message::Hello(hello));
        control
    }

    /// Takes in bytes from the peer, in any pieces. Nothing is taken after its `close`.
    ///
    /// # Errors
    ///
    /// [`Handshake`](ErrorKind::Handshake) when the first message is not a hello, and
    /// [`Protocol`](ErrorKind::Protocol) when any other breaks the rules. The connection is over then.
    pub fn receive(&mut self, bytes: &[u8]) -> Result<()> {
        if self.closed {
            return Ok(());
        }
        self.input.extend_from_slice(bytes);
        while let Some(message) = Message::decode(&mut self.input).map_err(|e| self.blame(e))? {
            self.take(message)?;
            if self.closed {
                self.input.clear();
                break;
            }
        }
        Ok(())
    }

    /// What the peer said next.
    pub fn next_event(&mut self) -> Option<ControlEvent> {
        self.events.pop_front()
    }

    /// The bytes that are to be sent to the peer; the owner takes them from the front.
    pub fn output(&mut self) -> &mut BytesMut {
        let output = self.output.bytes();
        if output.is_empty() {
            self.answers = 0;
        }
        output
    }

    /// Whether so much waits that the peer does not take what this side says, where each side may have
    /// `max_streams` streams open. The connection is to be ended then.
    pub fn is_flooded(&self, max_streams: u32) -> bool {
        self.output.is_flooded(max_streams)
    }

    /// Asks the peer for a sign of life, with random bytes that its answer has to repeat.
    pub fn ping(&mut self, bytes: [u8; PING_LEN]) {
        self.pings.insert(bytes);
        self.send(&Message::Ping(bytes));
    }

    /// How many pings have no answer yet.
    pub fn pings_under_way(&self) -> usize {
        self.pings.len()
    }

    /// Announces the clean end of this side's direction of a stream.
    pub fn end(&mut self, stream: u64, bytes: u64) {
        self.send(&Message::End { stream, bytes });
    }

    /// Announces that this side abandons its direction of a stream.
    pub fn reset(&mut self, stream: u64, code: u32) {
        self.send(&Message::Reset { stream, code });
    }

    /// Announces that this side wants no more of the peer's direction of a stream.
    pub fn stop(&mut self, stream: u64, code: u32) {
        self.send(&Message::Stop { stream, code });
    }

    /// Announces that this side is done with a stream that the peer opened.
    pub fn done(&mut self, stream: u64) {
        self.send(&Message::Done { stream });
    }

    /// Announces that the peer's direction of a stream was read to its end.
    pub fn taken(&mut self, stream: u64) {
        self.send(&Message::Taken { stream });
    }

    /// Announces that so many more bytes of the peer's direction of a stream were read.
    pub fn credit(&mut self, stream: u64, bytes: u32) {
        self.output.credit(stream, bytes);
    }

    /// Announces that no more streams are to be opened.
    pub fn drain(&mut self) {
        self.send(&Message::Drain);
    }

    /// Announces the close of the connection.
    pub fn close(&mut self, code: u32, reason: &str) {
        self.send(&Message::Close {
            code,
            reason: reason.to_owned(),
        });
    }

    fn send(&mut self, message: &Message) {
        self.output.push(message);
    }

    fn take(&mut self, message: Message) -> Result<()> {
        if !self.greeted {
            let Message::Hello(hello) = message else {
                return Err(Error::new(
                    ErrorKind::Handshake,
                    "the peer did not say hello",
                ));
            };
            self.greeted = true;
            self.events.push_back(ControlEvent::Hello(hello));
            return Ok(());
        }
        let event = match message {
            Message::Hello(_) => return Err(protocol("a second hello")),
            Message::Ping(bytes) => {
                if self.answers >= MAX_ANSWERS {
                    return Err(protocol("a flood of pings"));
                }
                self.answers += 1;
                self.send(&Message::Pong(bytes));
                return Ok(());
            }
            Message::Pong(bytes) => {
                if !self.pings.remove(&bytes) {
                    return Err(protocol("an answer to a ping that was not sent"));
                }
                ControlEvent::Pong(bytes)
            }
            Message::End { stream, bytes } => ControlEvent::End { stream, bytes },
            Message::Reset { stream, code } => ControlEvent::Reset { stream, code },
            Message::Stop { stream, code } => ControlEvent::Stop { stream, code },
            Message::Done { stream } => ControlEvent::Done { stream },
            Message::Taken { stream } => ControlEvent::Taken { stream },
            Message::Credit { stream, bytes } => ControlEvent::Credit { stream, bytes },
            Message::Drain => {
                if std::mem::replace(&mut self.drain_announced, true) {
                    return Err(protocol("a second drain"));
                }
                self.send(&Message::Drained);
                ControlEvent::Drain
            }
            Message::Drained => ControlEvent::Drained,
            Message::Close { code, reason } => {
                self.closed = true;
                ControlEvent::Close { code, reason }
            }
        };
        self.events.push_back(event);
        Ok(())
    }

    /// A peer that breaks the rules before its hello speaks another protocol.
    fn blame(&self, error: Error) -> Error {
        if self.greeted {
            return error;
        }
        Error::with_source(
            ErrorKind::Handshake,
            "the peer does not speak pipe/1",
            error,
        )
    }
}
