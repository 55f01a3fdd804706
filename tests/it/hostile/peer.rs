use std::net::SocketAddr;

use bytes::{Buf, BytesMut};
use pipe_core::backend::proto::codec::binary;
use pipe_core::backend::proto::{Frame, Hello, StreamFrame};
use pipewerks::tcp::{MuxConn, MuxListener, TcpTransport};
use pipewerks::{Addr, Config, Listener, Transport};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

pub(crate) const DATA: u8 = 0;
pub(crate) const WINDOW_UPDATE: u8 = 1;
pub(crate) const PING: u8 = 2;
pub(crate) const GO_AWAY: u8 = 3;

pub(crate) const SYN: u16 = 1;
pub(crate) const ACK: u16 = 2;
pub(crate) const FIN: u16 = 4;
pub(crate) const RST: u16 = 8;

/// The stream of the control channel.
pub(crate) const CONTROL: u32 = 1;

/// A peer that speaks yamux by hand, and so can say anything.
pub(crate) struct Peer {
    pub(crate) socket: TcpStream,
    input: BytesMut,
}

/// The side that the peer plays.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Side {
    Client,
    Server,
}

pub(crate) const SIDES: [Side; 2] = [Side::Client, Side::Server];

impl Side {
    /// The first stream that it may open for the application.
    pub(crate) fn first_stream(self) -> u32 {
        match self {
            Self::Client => 3,
            Self::Server => 2,
        }
    }
}

/// A frame that came.
#[derive(Debug)]
pub(crate) struct MuxFrame {
    pub(crate) kind: u8,
    pub(crate) stream: u32,
    pub(crate) body: Vec<u8>,
}

/// A header of yamux.
pub(crate) fn header(kind: u8, flags: u16, stream: u32, length: u32) -> Vec<u8> {
    let mut header = vec![0, kind];
    header.extend(flags.to_be_bytes());
    header.extend(stream.to_be_bytes());
    header.extend(length.to_be_bytes());
    header
}

/// A data frame of yamux.
pub(crate) fn data(flags: u16, stream: u32, body: &[u8]) -> Vec<u8> {
    let mut frame = header(DATA, flags, stream, body.len() as u32);
    frame.extend(body);
    frame
}

/// A frame of yamux with frames of the control channel.
pub(crate) fn control(frames: &[Frame]) -> Vec<u8> {
    let mut bytes = BytesMut::new();
    for frame in frames {
        binary::encode(frame, &mut bytes);
    }
    data(0, CONTROL, &bytes)
}

/// A frame about a stream.
pub(crate) fn about(id: u64, frame: StreamFrame) -> Frame {
    Frame::Stream { id, frame }
}

pub(crate) fn hello() -> Frame {
    Frame::Hello(Hello {
        max_streams: 256,
        stream_window: 256 * 1024,
        connection_window: 0,
        flight: 0,
        takes_growth: false,
    })
}

/// A listener of the transport under test.
pub(crate) async fn listen(config: Config) -> MuxListener {
    let transport = TcpTransport::new()
        .with_config(config)
        .expect("a configuration");
    let addr = "tcp://127.0.0.1:0".parse().expect("an address");
    transport.listen(&addr).await.expect("a listener")
}

pub(crate) fn socket_addr(addr: &Addr) -> SocketAddr {
    let (host, port) = (addr.as_url().host_str(), addr.port());
    format!("{}:{}", host.expect("a host"), port.expect("a port"))
        .parse()
        .expect("an address of IP")
}

/// A peer on `side` and the connection under test, after an honest handshake.
pub(crate) async fn meet(side: Side, config: Config) -> (Peer, MuxConn) {
    match side {
        Side::Client => {
            let listener = listen(config).await;
            let mut peer = Peer::connect(&listener.local_addr()).await;
            peer.send(&data(SYN, CONTROL, &[])).await;
            peer.send(&control(&[hello()])).await;
            let conn = listener.accept().await.expect("a connection");
            (peer, conn)
        }
        Side::Server => {
            let socket = TcpListener::bind("127.0.0.1:0").await.expect("a socket");
            let addr = format!("tcp://{}", socket.local_addr().expect("its address"));
            let transport = TcpTransport::new()
                .with_config(config)
                .expect("a configuration");
            let dialing = tokio::spawn(async move {
                let addr = addr.parse().expect("an address");
                transport.dial(&addr).await
            });
            let (socket, _) = socket.accept().await.expect("a dial");
            let mut peer = Peer::new(socket);
            peer.send(&control(&[hello()])).await;
            let conn = dialing.await.expect("no panic").expect("a connection");
            (peer, conn)
        }
    }
}

impl Peer {
    pub(crate) fn new(socket: TcpStream) -> Self {
        Self {
            socket,
            input: BytesMut::new(),
        }
    }

    pub(crate) async fn connect(addr: &Addr) -> Self {
        let socket = TcpStream::connect(socket_addr(addr)).await;
        Self::new(socket.expect("a connection"))
    }

    /// Sends bytes; a socket that the other side has closed is no mistake of the peer's.
    pub(crate) async fn send(&mut self, bytes: &[u8]) -> bool {
        self.socket.write_all(bytes).await.is_ok()
    }

    /// The next frame, or `None` at the end of the byte stream, however it ends.
    pub(crate) async fn next(&mut self) -> Option<MuxFrame> {
        loop {
            if let Some(frame) = self.parse() {
                return Some(frame);
            }
            match self.socket.read_buf(&mut self.input).await {
                Ok(count) if count > 0 => {}
                _ => return None,
            }
        }
    }

    /// Reads what is there and throws it away. Returns whether there was anything.
    pub(crate) async fn read_some(&mut self) -> bool {
        let mut scratch = [0; 16 * 1024];
        matches!(self.socket.try_read(&mut scratch), Ok(count) if count > 0)
    }

    /// Reads until the end of the byte stream.
    pub(crate) async fn drain(&mut self) {
        while self.next().await.is_some() {}
    }

    fn parse(&mut self) -> Option<MuxFrame> {
        let mut bytes = &self.input[..];
        if bytes.len() < 12 {
            return None;
        }
        bytes.advance(1);
        let (kind, _flags) = (bytes.get_u8(), bytes.get_u16());
        let (stream, length) = (bytes.get_u32(), bytes.get_u32());
        let body = if kind == DATA { length as usize } else { 0 };
        if bytes.len() < body {
            return None;
        }
        let body = bytes[..body].to_vec();
        self.input.advance(12 + body.len());
        Some(MuxFrame { kind, stream, body })
    }
}
