//! An attacker that speaks yamux by hand, alone or below `pipe/1`.

use std::fmt;
use std::io;
use std::sync::Arc;

use bytes::BytesMut;
use futures::FutureExt;
use futures::future::BoxFuture;
use pipe_core::Addr;
use pipe_core::backend::proto::codec::binary;
use pipe_core::backend::proto::{Frame, Hello, PING_LEN, StreamFrame};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, ReadHalf, WriteHalf, split};
use tokio::task::JoinHandle;

use super::peer::{Attacker, Held, Move, MoveKind, NO_CANDIDATES, Peer, Reading, held};

const DATA: u8 = 0;
const WINDOW_UPDATE: u8 = 1;
const PING: u8 = 2;

const SYN: u16 = 1;
const FIN: u16 = 4;
const RST: u16 = 8;

/// The number of the control channel of `pipe/1`.
const CONTROL: u32 = 1;

/// A byte stream to a listener.
pub trait ByteStream: AsyncRead + AsyncWrite + Send + Unpin + 'static {}

impl<T: AsyncRead + AsyncWrite + Send + Unpin + 'static> ByteStream for T {}

type Connect = dyn Fn(Addr) -> BoxFuture<'static, io::Result<Box<dyn ByteStream>>> + Send + Sync;

/// Attacks listeners of `pipe/1` over yamux, or of plain yamux, over any byte stream.
#[derive(Clone)]
pub struct Yamux {
    connect: Arc<Connect>,
    knock: Option<Arc<Connect>>,
    stall: Option<Arc<Connect>>,
    raw: bool,
}

impl Yamux {
    /// Attacks `pipe/1`, over byte streams that `connect` makes.
    pub fn new<F>(connect: impl Fn(Addr) -> F + Send + Sync + 'static) -> Self
    where
        F: Future<Output = io::Result<Box<dyn ByteStream>>> + Send + 'static,
    {
        Self {
            connect: Arc::new(move |addr| connect(addr).boxed()),
            knock: None,
            stall: None,
            raw: false,
        }
    }

    /// Makes byte streams on which nothing was said with `connect`, where the others begin with a handshake of
    /// their own.
    #[must_use]
    pub fn with_silent<F>(mut self, connect: impl Fn(Addr) -> F + Send + Sync + 'static) -> Self
    where
        F: Future<Output = io::Result<Box<dyn ByteStream>>> + Send + 'static,
    {
        self.knock = Some(Arc::new(move |addr| connect(addr).boxed()));
        self
    }

    /// Begins handshakes that are never ended with `connect`, from another source than those that are innocent.
    #[must_use]
    pub fn with_stalled<F>(mut self, connect: impl Fn(Addr) -> F + Send + Sync + 'static) -> Self
    where
        F: Future<Output = io::Result<Box<dyn ByteStream>>> + Send + 'static,
    {
        self.stall = Some(Arc::new(move |addr| connect(addr).boxed()));
        self
    }

    fn peer(&self, stream: Box<dyn ByteStream>, reading: Reading) -> Box<dyn Peer> {
        let (input, output) = split(stream);
        Box::new(YamuxPeer {
            attacker: self.clone(),
            output,
            made: BytesMut::new(),
            input: Input::new(input, reading),
        })
    }

    /// Attacks plain yamux instead.
    #[must_use]
    pub fn raw(mut self) -> Self {
        self.raw = true;
        self
    }
}

impl fmt::Debug for Yamux {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Yamux")
            .field("raw", &self.raw)
            .finish_non_exhaustive()
    }
}

impl Attacker for Yamux {
    fn connect<'a>(
        &'a self,
        addr: &'a Addr,
        reading: Reading,
    ) -> BoxFuture<'a, io::Result<Box<dyn Peer>>> {
        let connecting = (self.connect)(addr.clone());
        async move { Ok(self.peer(connecting.await?, reading)) }.boxed()
    }

    fn knock<'a>(&'a self, addr: &'a Addr) -> BoxFuture<'a, io::Result<Held>> {
        let connect = self.knock.as_ref().unwrap_or(&self.connect);
        let connecting = connect(addr.clone());
        async move { Ok(held(self.peer(connecting.await?, Reading::Discards))) }.boxed()
    }

    fn stall<'a>(&'a self, addr: &'a Addr) -> BoxFuture<'a, io::Result<Held>> {
        let connecting = self.stall.as_ref().map(|connect| connect(addr.clone()));
        async move {
            let connecting = connecting.ok_or(io::ErrorKind::Unsupported)?;
            Ok(held(self.peer(connecting.await?, Reading::Discards)))
        }
        .boxed()
    }

    fn number(&self, n: u64) -> u64 {
        // A client has the odd numbers; the control channel is the first of them.
        2 * n + if self.raw { 1 } else { 3 }
    }

    fn lacks(&self, kind: MoveKind) -> Option<&'static str> {
        let of_pipe = [
            MoveKind::Stop,
            MoveKind::Ping,
            MoveKind::Unknown,
            MoveKind::Control,
            MoveKind::Early,
        ];
        match kind {
            MoveKind::Candidates => return Some(NO_CANDIDATES),
            MoveKind::Stall if self.raw => return Some("plain yamux has no handshake"),
            MoveKind::Stall if self.stall.is_none() => {
                return Some("there is no other source to connect from");
            }
            _ => {}
        }
        (self.raw && of_pipe.contains(&kind)).then_some("plain yamux has no such message")
    }
}

/// What becomes of the bytes that come.
enum Input {
    /// A task reads and discards them.
    Discarded(JoinHandle<()>),
    /// They wait, and the byte stream stays open.
    Unread {
        _half: ReadHalf<Box<dyn ByteStream>>,
    },
}

impl Input {
    fn new(mut half: ReadHalf<Box<dyn ByteStream>>, reading: Reading) -> Self {
        if reading == Reading::Never {
            return Self::Unread { _half: half };
        }
        Self::Discarded(tokio::spawn(async move {
            let mut bytes = vec![0; 64 * 1024];
            while half.read(&mut bytes).await.is_ok_and(|count| count > 0) {}
        }))
    }

    /// Whether the other side has ended the byte stream, as far as it was read.
    fn has_ended(&self) -> bool {
        matches!(self, Self::Discarded(task) if task.is_finished())
    }
}

impl Drop for Input {
    fn drop(&mut self) {
        if let Self::Discarded(task) = self {
            task.abort();
        }
    }
}

struct YamuxPeer {
    attacker: Yamux,
    output: WriteHalf<Box<dyn ByteStream>>,
    made: BytesMut,
    input: Input,
}

impl YamuxPeer {
    fn number(&self, n: u64) -> u32 {
        self.attacker.number(n) as u32
    }

    fn header(&mut self, kind: u8, flags: u16, stream: u32, length: u32) {
        self.made.extend_from_slice(&[0, kind]);
        self.made.extend_from_slice(&flags.to_be_bytes());
        self.made.extend_from_slice(&stream.to_be_bytes());
        self.made.extend_from_slice(&length.to_be_bytes());
    }

    fn data(&mut self, flags: u16, stream: u32, bytes: &[u8]) {
        self.header(DATA, flags, stream, bytes.len() as u32);
        self.made.extend_from_slice(bytes);
    }

    fn say_about(&mut self, stream: u32, frame: StreamFrame) -> io::Result<()> {
        let id = stream.into();
        self.say(&Frame::Stream { id, frame })
    }

    /// Sends a frame of `pipe/1`.
    fn say(&mut self, frame: &Frame) -> io::Result<()> {
        if self.attacker.raw {
            return Err(io::ErrorKind::Unsupported.into());
        }
        let mut bytes = BytesMut::new();
        binary::encode(frame, &mut bytes);
        self.data(0, CONTROL, &bytes);
        Ok(())
    }
}

impl Peer for YamuxPeer {
    fn greet(&mut self) -> BoxFuture<'_, io::Result<()>> {
        async move {
            if !self.attacker.raw {
                self.data(SYN, CONTROL, &[]);
                self.say(&Frame::Hello(Hello {
                    max_streams: 256,
                    stream_window: 256 * 1024,
                    connection_window: 0,
                    flight: 0,
                    takes_growth: false,
                }))?;
            }
            self.flush().await
        }
        .boxed()
    }

    fn make(&mut self, action: Move<'_>) -> io::Result<()> {
        let raw = self.attacker.raw;
        match action {
            Move::Open(n) => self.data(SYN, self.number(n), &[]),
            Move::Data(n, bytes) => self.data(0, self.number(n), bytes),
            Move::End(n, bytes) => {
                let stream = self.number(n);
                if !raw {
                    self.say_about(stream, StreamFrame::End(bytes))?;
                }
                self.header(DATA, FIN, stream, 0);
            }
            Move::Reset(n) => {
                let stream = self.number(n);
                if raw {
                    self.header(WINDOW_UPDATE, RST, stream, 0);
                } else {
                    self.say_about(stream, StreamFrame::Reset(7))?;
                    self.header(DATA, FIN, stream, 0);
                }
            }
            Move::Stop(n) => self.say_about(self.number(n), StreamFrame::Stop(7))?,
            Move::Credit(n, bytes) => {
                let stream = self.number(n);
                self.header(WINDOW_UPDATE, 0, stream, bytes);
                if !raw {
                    self.say_about(stream, StreamFrame::Credit(bytes))?;
                }
            }
            Move::Done(n) => self.say_about(self.number(n), StreamFrame::Done)?,
            Move::Taken(n) => self.say_about(self.number(n), StreamFrame::Taken)?,
            Move::Ping => self.say(&Frame::Ping([5; PING_LEN]))?,
            Move::Idle => self.header(WINDOW_UPDATE, 0, self.number(0), 0),
            Move::MuxPing => self.header(PING, SYN, 0, 1),
            Move::Control(_) if raw => return Err(io::ErrorKind::Unsupported.into()),
            Move::Control(bytes) => self.data(0, CONTROL, bytes),
        }
        Ok(())
    }

    fn flush(&mut self) -> BoxFuture<'_, io::Result<()>> {
        async move {
            if self.input.has_ended() {
                return Err(io::ErrorKind::ConnectionReset.into());
            }
            let made = self.made.split();
            self.output.write_all(&made).await?;
            self.output.flush().await
        }
        .boxed()
    }

    fn pending(&self) -> usize {
        self.made.len()
    }
}
