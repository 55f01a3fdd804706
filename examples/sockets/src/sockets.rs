use std::io::{self, IoSlice};
use std::net::SocketAddr;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use bytes::Buf;
use pipe_core::Result;
use pipe_core::backend::{Binding, BoundConn, ConnCore, StreamCore, StreamIo, protocol};
use tokio::io::{AsyncReadExt, AsyncWriteExt, ReadBuf};
use tokio::net::TcpStream;
use tokio::task::JoinSet;
use tokio::time::timeout;

// ANCHOR: types
/// A connection: one control socket, and a socket for each stream.
pub type SocketsConn = BoundConn<Sockets>;

pub(crate) type Conn = Arc<ConnCore<Sockets>>;
pub(crate) type Stream = StreamCore<Socket>;
pub(crate) type Token = [u8; 16];

/// Gives the streams of a connection their sockets.
#[derive(Debug)]
pub struct Sockets {
    /// What they show, so that no other socket is taken for one of them.
    pub(crate) token: Token,
    /// Where to connect them to, at the side that dialed.
    pub(crate) at: Option<SocketAddr>,
}

/// The socket of a stream.
#[derive(Debug)]
pub enum Socket {
    /// There is none yet. The dialer has a task that connects it, which ends with the set.
    Awaited(JoinSet<()>),
    /// It carries bytes.
    Open(TcpStream),
}
// ANCHOR_END: types

// ANCHOR: binding
impl Binding for Sockets {
    type Io = Socket;

    fn io(&self) -> Socket {
        Socket::Awaited(JoinSet::new())
    }

    fn on_stream(conn: &Conn, stream: &Stream) {
        if let Some(at) = conn.binding().at {
            let task = connect(conn.clone(), stream.clone(), at);
            stream.with_io(|io| match io {
                Socket::Awaited(tasks) => drop(tasks.spawn_on(task, conn.runtime())),
                Socket::Open(_) => {}
            });
        }
    }
}

impl StreamIo for Socket {
    fn poll_read(
        &mut self,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<usize>> {
        let read = |socket: &TcpStream| socket.try_read_buf(buf);
        self.poll(cx, TcpStream::poll_read_ready, read)
    }

    fn poll_write(&mut self, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        let write = |socket: &TcpStream| socket.try_write(buf);
        self.poll(cx, TcpStream::poll_write_ready, write)
    }

    fn poll_write_vectored(
        &mut self,
        cx: &mut Context<'_>,
        bufs: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let write = |socket: &TcpStream| socket.try_write_vectored(bufs);
        self.poll(cx, TcpStream::poll_write_ready, write)
    }
}

impl Socket {
    /// Reads or writes once the socket is there and ready.
    fn poll(
        &self,
        cx: &mut Context<'_>,
        poll_ready: impl Fn(&TcpStream, &mut Context<'_>) -> Poll<io::Result<()>>,
        mut act: impl FnMut(&TcpStream) -> io::Result<usize>,
    ) -> Poll<io::Result<usize>> {
        let Self::Open(socket) = self else {
            return Poll::Pending;
        };
        loop {
            match ready!(poll_ready(socket, cx)).and_then(|()| act(socket)) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                Ok(0) => return Poll::Ready(Err(io::ErrorKind::UnexpectedEof.into())),
                done => return Poll::Ready(done),
            }
        }
    }
}
// ANCHOR_END: binding

/// How often the dialer tries to connect the socket of a stream.
const ATTEMPTS: usize = 8;

// ANCHOR: connect
/// Connects the socket of a stream, whichever side has opened it.
async fn connect(conn: Conn, stream: Stream, at: SocketAddr) {
    let mut attempts = 1;
    while let Err(error) = try_connect(&conn, &stream, at).await {
        if attempts == ATTEMPTS {
            return conn.on_lost(stream, error).await;
        }
        if !conn.still_needs_io(&stream).await {
            return;
        }
        attempts += 1;
    }
}

async fn try_connect(conn: &Conn, stream: &Stream, at: SocketAddr) -> io::Result<()> {
    let limit = conn.config.handshake_timeout;
    let mut socket = timeout(limit, TcpStream::connect(at)).await??;
    socket.set_nodelay(true)?;
    let preamble = [&conn.binding().token[..], &stream.id.to_be_bytes()].concat();
    socket.write_all(&preamble).await?;
    socket.read_u8().await?;
    attach(stream, socket)
}
// ANCHOR_END: connect

// ANCHOR: adopt
/// Finds the stream of a socket that has come.
pub(crate) async fn adopt(conn: Conn, mut socket: TcpStream) -> Result<()> {
    let mut preamble = [0; size_of::<Token>() + 8];
    socket.read_exact(&mut preamble).await?;
    let (token, mut id) = preamble.split_at(size_of::<Token>());
    if token != conn.binding().token {
        return Err(protocol("a socket with a false token"));
    }
    // The socket may be faster than the frame that opens its stream.
    let stream = conn.stream(id.get_u64()).await;
    let is_awaited = |io: &mut Socket| matches!(io, Socket::Awaited(_));
    match stream.filter(|stream| stream.with_io(is_awaited) == Some(true)) {
        Some(stream) => {
            socket.write_u8(0).await?;
            Ok(attach(&stream, socket)?)
        }
        None => Err(protocol("a socket for a stream that needs none")),
    }
}

/// Gives a stream its socket. When the stream is over, nothing is under way on the socket: it may be reset then, and
/// leaves no port in TIME_WAIT.
fn attach(stream: &Stream, socket: TcpStream) -> io::Result<()> {
    socket.set_zero_linger()?;
    stream.with_io(|io| *io = Socket::Open(socket));
    stream.wake();
    Ok(())
}
// ANCHOR_END: adopt
