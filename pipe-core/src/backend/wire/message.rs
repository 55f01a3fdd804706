use bytes::{Buf, BufMut, BytesMut};

use crate::{Config, Error, ErrorKind, MAX_REASON_LEN, Result};

/// The longest payload of a message, in bytes.
pub const MAX_PAYLOAD: usize = 4096;

/// How many random bytes a ping carries.
pub const PING_LEN: usize = 64;

/// What the payload of the first message starts with.
const MAGIC: &[u8; 6] = b"pipe/1";

/// Type and length.
const HEADER_LEN: usize = 3;

/// Types from here on may be ignored by who does not know them.
const FIRST_OPTIONAL: u8 = 0x80;

const HELLO: u8 = 0x01;
const PING: u8 = 0x02;
const PONG: u8 = 0x03;
const END: u8 = 0x04;
const RESET: u8 = 0x05;
const STOP: u8 = 0x06;
const DONE: u8 = 0x07;
const DRAIN: u8 = 0x08;
const DRAINED: u8 = 0x09;
const CLOSE: u8 = 0x0a;
const TAKEN: u8 = 0x0b;
const CREDIT: u8 = 0x0c;

/// A message of the control channel of `pipe/1`.
///
/// On the wire: one byte of type, two of length, then so many bytes of payload; numbers in network
/// byte order. A payload may be longer than its fields, for what later versions add.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Message {
    /// The first message of each side.
    Hello(Hello),
    /// A sign of life is asked for: these bytes come back.
    Ping([u8; PING_LEN]),
    /// The bytes of a ping.
    Pong([u8; PING_LEN]),
    /// The sender's direction of a stream ends cleanly after so many bytes.
    End {
        /// The stream.
        stream: u64,
        /// How many bytes the direction has carried in all.
        bytes: u64,
    },
    /// The sender abandons its direction of a stream.
    Reset {
        /// The stream.
        stream: u64,
        /// The application's code.
        code: u32,
    },
    /// The sender wants no more of the receiver's direction of a stream.
    Stop {
        /// The stream.
        stream: u64,
        /// The application's code.
        code: u32,
    },
    /// The sender's application is done with a stream that the receiver opened: its slot is free.
    Done {
        /// The stream.
        stream: u64,
    },
    /// The sender's application has read the receiver's direction of a stream to its end.
    Taken {
        /// The stream.
        stream: u64,
    },
    /// The sender's application has read so many more bytes of the receiver's direction of a stream.
    Credit {
        /// The stream.
        stream: u64,
        /// How many bytes.
        bytes: u32,
    },
    /// The sender opens no more streams, and wants none.
    Drain,
    /// The sender opens no more streams since it was asked not to.
    Drained,
    /// The sender closes the connection. Nothing follows.
    Close {
        /// The application's code.
        code: u32,
        /// The application's reason, of at most [`MAX_REASON_LEN`] bytes.
        reason: String,
    },
}

/// What each side says of itself at the start.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Hello {
    /// How many streams of the peer it allows at once.
    pub max_streams: u32,
    /// How many bytes of one direction of a stream it takes before they are read. The multiplexer's own
    /// window may be smaller.
    pub stream_window: u32,
    /// How many bytes of all streams together it takes before they are read; 0 for any number.
    pub connection_window: u64,
}

impl From<&Config> for Hello {
    /// Says what a configuration allows a peer that speaks the control protocol. A connection window that the
    /// windows of all streams cannot fill is none.
    fn from(config: &Config) -> Self {
        let ample = config.connection_window_is_ample();
        Self {
            max_streams: config.max_streams,
            stream_window: config.stream_window,
            connection_window: if ample { 0 } else { config.connection_window },
        }
    }
}

/// Makes the bytes of a new ping.
///
/// # Errors
///
/// [`Io`](ErrorKind::Io) if the system gives no random bytes.
pub fn random_ping() -> Result<[u8; PING_LEN]> {
    let mut bytes = [0; PING_LEN];
    getrandom::fill(&mut bytes).map_err(|error| {
        Error::with_source(ErrorKind::Io, "the system gives no random bytes", error)
    })?;
    Ok(bytes)
}

impl Message {
    /// Appends the message to `out`.
    pub fn encode(&self, out: &mut BytesMut) {
        let start = out.len();
        out.put_bytes(0, HEADER_LEN);
        let kind = match self {
            Self::Hello(hello) => {
                out.put_slice(MAGIC);
                out.put_u32(hello.max_streams);
                out.put_u32(hello.stream_window);
                out.put_u64(hello.connection_window);
                HELLO
            }
            Self::Ping(bytes) => {
                out.put_slice(bytes);
                PING
            }
            Self::Pong(bytes) => {
                out.put_slice(bytes);
                PONG
            }
            Self::End { stream, bytes } => {
                out.put_u64(*stream);
                out.put_u64(*bytes);
                END
            }
            Self::Reset { stream, code } => {
                out.put_u64(*stream);
                out.put_u32(*code);
                RESET
            }
            Self::Stop { stream, code } => {
                out.put_u64(*stream);
                out.put_u32(*code);
                STOP
            }
            Self::Done { stream } => {
                out.put_u64(*stream);
                DONE
            }
            Self::Taken { stream } => {
                out.put_u64(*stream);
                TAKEN
            }
            Self::Credit { stream, bytes } => {
                out.put_u64(*stream);
                out.put_u32(*bytes);
                CREDIT
            }
            Self::Drain => DRAIN,
            Self::Drained => DRAINED,
            Self::Close { code, reason } => {
                out.put_u32(*code);
                out.put_slice(crate::error::cut(reason).as_bytes());
                CLOSE
            }
        };
        let length = (out.len() - start - HEADER_LEN) as u16;
        out[start] = kind;
        out[start + 1..start + HEADER_LEN].copy_from_slice(&length.to_be_bytes());
    }

    /// Takes the next message from the front of `input`, if it is whole. Optional messages of an
    /// unknown type are passed over.
    ///
    /// # Errors
    ///
    /// [`Protocol`](ErrorKind::Protocol) for a payload above [`MAX_PAYLOAD`], before it is waited for,
    /// one too short for its fields, or a type that is unknown and not optional.
    pub fn decode(input: &mut BytesMut) -> Result<Option<Self>> {
        loop {
            let Some(&[kind, high, low]) = input.first_chunk::<HEADER_LEN>() else {
                return Ok(None);
            };
            let length = usize::from(u16::from_be_bytes([high, low]));
            if length > MAX_PAYLOAD {
                return Err(protocol(format!(
                    "a message of {length} bytes is above the limit"
                )));
            }
            if input.len() < HEADER_LEN + length {
                return Ok(None);
            }
            let payload = &input[HEADER_LEN..HEADER_LEN + length];
            let message = Self::from_payload(kind, payload)?;
            input.advance(HEADER_LEN + length);
            if message.is_some() {
                return Ok(message);
            }
        }
    }

    fn from_payload(kind: u8, mut payload: &[u8]) -> Result<Option<Self>> {
        let short = |_| protocol(format!("a message of type {kind:#04x} is too short"));
        let message = match kind {
            HELLO => {
                if payload.get(..MAGIC.len()) != Some(MAGIC) {
                    return Err(protocol("the peer does not speak pipe/1".into()));
                }
                payload.advance(MAGIC.len());
                Self::Hello(Hello {
                    max_streams: payload.try_get_u32().map_err(short)?,
                    stream_window: payload.try_get_u32().map_err(short)?,
                    connection_window: payload.try_get_u64().map_err(short)?,
                })
            }
            PING | PONG => {
                let mut bytes = [0; PING_LEN];
                payload.try_copy_to_slice(&mut bytes).map_err(short)?;
                if kind == PING {
                    Self::Ping(bytes)
                } else {
                    Self::Pong(bytes)
                }
            }
            END => Self::End {
                stream: payload.try_get_u64().map_err(short)?,
                bytes: payload.try_get_u64().map_err(short)?,
            },
            RESET | STOP => {
                let stream = payload.try_get_u64().map_err(short)?;
                let code = payload.try_get_u32().map_err(short)?;
                if kind == RESET {
                    Self::Reset { stream, code }
                } else {
                    Self::Stop { stream, code }
                }
            }
            DONE => Self::Done {
                stream: payload.try_get_u64().map_err(short)?,
            },
            TAKEN => Self::Taken {
                stream: payload.try_get_u64().map_err(short)?,
            },
            CREDIT => Self::Credit {
                stream: payload.try_get_u64().map_err(short)?,
                bytes: payload.try_get_u32().map_err(short)?,
            },
            DRAIN => Self::Drain,
            DRAINED => Self::Drained,
            CLOSE => {
                let code = payload.try_get_u32().map_err(short)?;
                let reason = &payload[..payload.len().min(MAX_REASON_LEN)];
                // What is put in for bytes that are no text may be longer than they are.
                let reason = String::from_utf8_lossy(reason);
                Self::Close {
                    code,
                    reason: crate::error::cut(&reason).to_owned(),
                }
            }
            FIRST_OPTIONAL.. => return Ok(None),
            _ => {
                return Err(protocol(format!(
                    "a message of the unknown type {kind:#04x}"
                )));
            }
        };
        Ok(Some(message))
    }
}

fn protocol(message: String) -> Error {
    Error::new(ErrorKind::Protocol, message)
}
