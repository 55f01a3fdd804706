use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use bytes::{Buf, Bytes, BytesMut};
use pipe_tls::TlsOptions;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpSocket, TcpStream, lookup_host};
use tokio::sync::mpsc;
use tokio::task::AbortHandle;
use tokio::time::{Instant, timeout};
use tokio_rustls::TlsConnector;

use super::turn_server::Server;
use super::vitals::Vitals;

/// Maximum number of queued datagrams, each way. Further ones are lost on their way out, as by a
/// router, and left with the server on their way in.
pub(super) const QUEUE: usize = 256;

/// Maximum number of datagrams of one write.
const TOGETHER: usize = 64;

/// Time limit of connecting.
const CONNECT: Duration = Duration::from_secs(10);

/// Time since the last attempt after which an ended stream is started again.
const AGAIN: Duration = Duration::from_secs(1);

/// A stream to a TURN server.
#[derive(Debug)]
pub(super) struct Tunnel {
    out: mpsc::Sender<Bytes>,
    begun: Instant,
    task: AbortHandle,
}

impl Tunnel {
    /// Connects the socket at `from` with the server that `to` stands for. Received datagrams go to
    /// `came`.
    pub(super) fn begin(
        (from, to): (SocketAddr, SocketAddr),
        server: Server,
        tls: TlsOptions,
        came: mpsc::Sender<(SocketAddr, Bytes)>,
        vitals: Arc<Vitals>,
    ) -> Self {
        let (out, to_send) = mpsc::channel(QUEUE);
        let task = tokio::spawn(async move {
            let error = match timeout(CONNECT, connect(from, &server, &tls)).await {
                Ok(Ok(stream)) => carry(stream, to_send, to, came).await,
                Ok(Err(error)) => error,
                Err(_) => io::Error::new(
                    io::ErrorKind::TimedOut,
                    format!("no connection within {CONNECT:?}"),
                ),
            };
            tracing::debug!(%server, %error, "the stream to a TURN server is over");
            let why = format!("the TURN server {server} is not reached: {error}");
            vitals.refusals().note(why);
        });
        Self {
            out,
            begun: Instant::now(),
            task: task.abort_handle(),
        }
    }

    /// Returns whether it is over, and so long ago begun that it may be tried again.
    pub(super) fn may_begin_anew(&self, now: Instant) -> bool {
        self.out.is_closed() && now.duration_since(self.begun) >= AGAIN
    }

    pub(super) fn send(&self, datagram: &[u8]) {
        // Without room it is lost.
        let _ = self.out.try_send(Bytes::copy_from_slice(datagram));
    }
}

impl Drop for Tunnel {
    fn drop(&mut self) {
        self.task.abort();
    }
}

trait Duplex: AsyncRead + AsyncWrite + Unpin + Send {}

impl<T: AsyncRead + AsyncWrite + Unpin + Send> Duplex for T {}

async fn connect(
    from: SocketAddr,
    server: &Server,
    tls: &TlsOptions,
) -> io::Result<Box<dyn Duplex>> {
    let stream = connect_tcp(from, server).await?;
    stream.set_nodelay(true)?;
    if !server.tls {
        return Ok(Box::new(stream));
    }
    let config = tls.client_config(None, &[]).map_err(io::Error::other)?;
    let name = pipe_tls::server_name(&server.host).map_err(io::Error::other)?;
    let connecting = TlsConnector::from(config).connect(name, stream);
    Ok(Box::new(connecting.await?))
}

/// Connects over the interface of the socket, which the settings have chosen.
async fn connect_tcp(from: SocketAddr, server: &Server) -> io::Result<TcpStream> {
    let found = lookup_host((&*server.host, server.port)).await?;
    let mut last = io::Error::new(
        io::ErrorKind::AddrNotAvailable,
        format!("it has no address that {} reaches", from.ip()),
    );
    for addr in found.filter(|addr| addr.is_ipv4() == from.is_ipv4()) {
        let socket = if addr.is_ipv4() {
            TcpSocket::new_v4()?
        } else {
            TcpSocket::new_v6()?
        };
        let mut local = from;
        local.set_port(0);
        let connected = match socket.bind(local) {
            Ok(()) => socket.connect(addr).await,
            Err(error) => Err(error),
        };
        match connected {
            Ok(stream) => return Ok(stream),
            Err(error) => last = error,
        }
    }
    Err(last)
}

/// Carries datagrams both ways. Returns why that has ended.
async fn carry(
    stream: Box<dyn Duplex>,
    mut to_send: mpsc::Receiver<Bytes>,
    server: SocketAddr,
    came: mpsc::Sender<(SocketAddr, Bytes)>,
) -> io::Error {
    let (mut read, mut write) = tokio::io::split(stream);
    let sending = async {
        let (mut datagrams, mut bytes) = (Vec::new(), BytesMut::new());
        while to_send.recv_many(&mut datagrams, TOGETHER).await > 0 {
            for datagram in datagrams.drain(..) {
                frame(&datagram, &mut bytes);
            }
            write.write_all_buf(&mut bytes).await?;
            write.flush().await?;
        }
        Ok(())
    };
    let receiving = async {
        let mut bytes = BytesMut::new();
        loop {
            while let Some(datagram) = next(&mut bytes)? {
                if came.send((server, datagram)).await.is_err() {
                    return Ok(());
                }
            }
            if read.read_buf(&mut bytes).await? == 0 {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
        }
    };
    let over: io::Result<()> = tokio::select! {
        over = sending => over,
        over = receiving => over,
    };
    over.err()
        .unwrap_or_else(|| io::Error::new(io::ErrorKind::NotConnected, "nobody uses it"))
}

/// Returns whether the first bytes are those of a message of a channel (RFC 8656, section 12.4).
fn is_channel(first: u8) -> bool {
    matches!(first, 64..=79)
}

/// Adds a datagram to a stream. Over one, messages of a channel have a length of whole words (RFC 8656, section
/// 12.5), as those of STUN always have.
fn frame(datagram: &[u8], out: &mut BytesMut) {
    out.extend_from_slice(datagram);
    if datagram.first().copied().is_some_and(is_channel) {
        let padding = datagram.len().next_multiple_of(4) - datagram.len();
        out.extend_from_slice(&[0; 3][..padding]);
    }
}

/// Takes the next datagram off a stream, if it is whole.
fn next(bytes: &mut BytesMut) -> io::Result<Option<Bytes>> {
    let Some(&[first, _, high, low]) = bytes.first_chunk() else {
        return Ok(None);
    };
    let length = usize::from(u16::from_be_bytes([high, low]));
    let (length, padding) = match first {
        // STUN (RFC 8489, section 5).
        0..=63 => (20 + length, 0),
        first if is_channel(first) => (4 + length, length.next_multiple_of(4) - length),
        _ => {
            let why = format!("it sends what is neither STUN nor data of a channel: {first:#04x}");
            return Err(io::Error::new(io::ErrorKind::InvalidData, why));
        }
    };
    if bytes.len() < length + padding {
        return Ok(None);
    }
    let datagram = bytes.split_to(length).freeze();
    bytes.advance(padding);
    Ok(Some(datagram))
}

#[cfg(test)]
mod tests {
    use tokio::net::TcpListener;

    use super::*;

    /// Address that stands for the server.
    const SERVER: SocketAddr =
        SocketAddr::new(std::net::IpAddr::V4(std::net::Ipv4Addr::UNSPECIFIED), 1);

    /// Returns a tunnel to a server of this test, the server's end of it, and the received
    /// datagrams.
    async fn tunnel() -> (Tunnel, TcpStream, mpsc::Receiver<(SocketAddr, Bytes)>) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let server = Server {
            host: "127.0.0.1".into(),
            port: listener.local_addr().unwrap().port(),
            tls: false,
        };
        let (sender, came) = mpsc::channel(QUEUE);
        let from = "127.0.0.1:0".parse().unwrap();
        let tunnel = Tunnel::begin(
            (from, SERVER),
            server,
            TlsOptions::new(),
            sender,
            Vitals::new(),
        );
        (tunnel, listener.accept().await.unwrap().0, came)
    }

    /// Returns data of a channel that begins with a number.
    fn numbered(number: u32) -> Vec<u8> {
        let mut datagram = vec![0x40, 0, 4, 0];
        datagram.extend_from_slice(&number.to_be_bytes());
        datagram.resize(4 + 1024, 7);
        datagram
    }

    fn number(datagram: &[u8]) -> u32 {
        assert_eq!(datagram.len(), 4 + 1024);
        u32::from_be_bytes(*datagram[4..].first_chunk().unwrap())
    }

    #[tokio::test]
    async fn what_finds_no_room_is_lost_and_nothing_else() {
        const LAST: u32 = 1_000_000;
        let (tunnel, mut server, _came) = tunnel().await;
        // The server does not read: the buffers of the sockets are full at some time, then the queue.
        let mut sent = 0;
        while tunnel.out.capacity() > 0 {
            for _ in 0..16 {
                tunnel.send(&numbered(sent));
                sent += 1;
            }
            assert!(sent < LAST, "the queue has no end");
            tokio::task::yield_now().await;
        }
        let lost = sent;
        tunnel.send(&numbered(lost));
        let mut bytes = BytesMut::new();
        let mut heard = Vec::new();
        let mut again = false;
        while heard.last() != Some(&LAST) {
            assert_ne!(server.read_buf(&mut bytes).await.unwrap(), 0);
            while let Some(datagram) = next(&mut bytes).unwrap() {
                heard.push(number(&datagram));
            }
            if !again && tunnel.out.capacity() == QUEUE {
                again = true;
                tunnel.send(&numbered(LAST));
            }
        }
        assert!(heard.is_sorted(), "{heard:?}");
        assert!(heard.len() > QUEUE && !heard.contains(&lost), "{heard:?}");
    }

    #[tokio::test]
    async fn what_nobody_takes_stays_with_the_server() {
        const COUNT: u32 = 20_000;
        let (_tunnel, mut server, mut came) = tunnel().await;
        let sending = tokio::spawn(async move {
            for number in 0..COUNT {
                server.write_all(&numbered(number)).await.unwrap();
            }
            server
        });
        while came.len() < QUEUE {
            tokio::task::yield_now().await;
        }
        assert!(!sending.is_finished());
        for expected in 0..COUNT {
            let (server, datagram) = came.recv().await.unwrap();
            assert_eq!((server, number(&datagram)), (SERVER, expected));
        }
        sending.await.unwrap();
    }

    #[test]
    fn datagrams_come_out_of_a_stream_as_they_went_in() {
        let stun = [&[0, 1, 0, 8][..], &[7; 24]].concat();
        let data = |len: u8| [&[0x40, 0, 0, len][..], &vec![9; len.into()]].concat();
        let all = [stun.clone(), data(0), data(1), data(3), data(4), stun];
        let mut stream = BytesMut::new();
        for datagram in &all {
            frame(datagram, &mut stream);
        }
        let mut came = Vec::new();
        let mut bytes = BytesMut::new();
        for byte in stream {
            bytes.extend_from_slice(&[byte]);
            while let Some(datagram) = next(&mut bytes).unwrap() {
                came.push(datagram.to_vec());
            }
        }
        assert_eq!(came, all);
        assert!(bytes.is_empty());
    }

    #[test]
    fn what_is_no_turn_is_refused() {
        for first in [80, 128, 255] {
            let error = next(&mut BytesMut::from(&[first, 0, 0, 0][..])).unwrap_err();
            assert_eq!(error.kind(), io::ErrorKind::InvalidData);
        }
    }
}
