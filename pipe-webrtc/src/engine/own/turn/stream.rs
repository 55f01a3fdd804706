use std::io;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use pipe_core::Addr;
use pipe_net::TcpDialer;
use pipe_tls::TlsOptions;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::sync::mpsc;
use tokio::task::AbortHandle;
use tokio::time::timeout;
use tokio_rustls::TlsConnector;

use super::framing::{frame, next};
use crate::engine::own::server::{ServerAddr, ServerTransport};

/// Maximum number of messages that wait to be written. Further ones are lost, as by a router.
const QUEUE: usize = 256;

/// Maximum number of messages of one write.
const TOGETHER: usize = 64;

/// Time limit of connecting.
const CONNECT: Duration = Duration::from_secs(10);

/// A stream to a TURN server, over TCP or TLS, and the task that carries its messages. Dropping it closes the
/// stream.
#[derive(Debug)]
pub(crate) struct TurnStream {
    out: mpsc::Sender<Bytes>,
    task: AbortHandle,
}

/// How a [`TurnStream`] is made.
#[derive(Debug)]
pub(crate) struct Connecting {
    /// The address of this machine that it leaves from.
    pub(crate) from: IpAddr,
    pub(crate) server: ServerAddr,
    /// The address of the server, if its name is not to be looked up.
    pub(crate) at: Option<SocketAddr>,
    pub(crate) tls: TlsOptions,
    pub(crate) dialer: TcpDialer,
}

/// What has come over a [`TurnStream`].
#[derive(Debug)]
pub(crate) enum StreamInput {
    /// A message of the server.
    Message(Bytes),
    /// The stream is over, or was not made. Nothing follows.
    Over(io::Error),
}

impl TurnStream {
    /// Begins to connect to a server. What comes goes to `received`, with `key`; the stream waits while there is no room.
    pub(crate) fn connect<K: Copy + Send + Sync + 'static>(
        how: Connecting,
        key: K,
        received: mpsc::Sender<(K, StreamInput)>,
    ) -> Self {
        let (out, to_send) = mpsc::channel(QUEUE);
        let task = tokio::spawn(async move {
            let error = match timeout(CONNECT, connect(&how)).await {
                Ok(Ok(stream)) => carry(stream, to_send, key, &received).await,
                Ok(Err(error)) => error,
                Err(_) => {
                    let why = format!("no connection within {CONNECT:?}");
                    io::Error::new(io::ErrorKind::TimedOut, why)
                }
            };
            tracing::debug!(server = %how.server, %error, "the stream to a TURN server is over");
            // The receiver is gone while a connection is being closed.
            let _ = received.send((key, StreamInput::Over(error))).await;
        });
        Self {
            out,
            task: task.abort_handle(),
        }
    }

    /// Sends a message to the server, without its padding. It waits while the stream is being made, and is
    /// lost without room.
    pub(crate) fn send(&self, message: Bytes) {
        let _ = self.out.try_send(message);
    }
}

impl Drop for TurnStream {
    fn drop(&mut self) {
        self.task.abort();
    }
}

trait Duplex: AsyncRead + AsyncWrite + Unpin + Send {}

impl<T: AsyncRead + AsyncWrite + Unpin + Send> Duplex for T {}

async fn connect(how: &Connecting) -> io::Result<Box<dyn Duplex>> {
    let stream = connect_tcp(how).await?;
    stream.set_nodelay(true)?;
    if how.server.transport != ServerTransport::Tls {
        return Ok(Box::new(stream));
    }
    let config = how.tls.client_config(None, &[]).map_err(io::Error::other)?;
    let name = pipe_tls::server_name(&how.server.host).map_err(io::Error::other)?;
    let connecting = TlsConnector::from(config).connect(name, stream);
    Ok(Box::new(connecting.await?))
}

/// Connects over the interface that the settings have chosen.
async fn connect_tcp(how: &Connecting) -> io::Result<TcpStream> {
    let to = match how.at {
        Some(at) => at.into(),
        None => how.server.host_port(),
    };
    let addr = Addr::parse(&format!("{}://{to}", how.server.scheme()))?;
    let dialer = how.dialer.clone();
    let dialer = dialer.with_local_addr(SocketAddr::new(how.from, 0));
    Ok(dialer.connect(&addr, &to).await?.socket)
}

/// Carries messages both ways. Returns why that has ended.
async fn carry<K: Copy>(
    stream: Box<dyn Duplex>,
    mut to_send: mpsc::Receiver<Bytes>,
    key: K,
    received: &mpsc::Sender<(K, StreamInput)>,
) -> io::Error {
    let (mut read, mut write) = tokio::io::split(stream);
    let sending = async {
        let (mut messages, mut bytes) = (Vec::new(), BytesMut::new());
        while to_send.recv_many(&mut messages, TOGETHER).await > 0 {
            for message in messages.drain(..) {
                frame(&message, &mut bytes);
            }
            write.write_all_buf(&mut bytes).await?;
            write.flush().await?;
        }
        Ok(())
    };
    let receiving = async {
        let mut bytes = BytesMut::new();
        loop {
            while let Some(message) = next(&mut bytes)? {
                let input = StreamInput::Message(message);
                if received.send((key, input)).await.is_err() {
                    return Ok(());
                }
            }
            if read.read_buf(&mut bytes).await? == 0 {
                let why = "the server has closed the stream";
                return Err(io::Error::new(io::ErrorKind::UnexpectedEof, why));
            }
        }
    };
    let over: io::Result<()> = tokio::select! {
        over = sending => over,
        over = receiving => over,
    };
    over.err().unwrap_or_else(|| {
        let why = "it is not used any longer";
        io::Error::new(io::ErrorKind::NotConnected, why)
    })
}

#[cfg(test)]
mod tests {
    use tokio::net::TcpListener;

    use super::*;

    type Received = mpsc::Receiver<(u8, StreamInput)>;

    fn connecting(server: &str, dialer: TcpDialer) -> Connecting {
        Connecting {
            from: "127.0.0.1".parse().unwrap(),
            server: server.parse().unwrap(),
            at: None,
            tls: TlsOptions::new(),
            dialer,
        }
    }

    #[tokio::test]
    async fn a_proxy_connects_to_a_server_by_its_name() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let proxy = format!("http://{}", listener.local_addr().unwrap());
        let dialer = TcpDialer::new().with_proxy(proxy.parse().unwrap());
        let (sender, mut received) = mpsc::channel(1);
        let how = connecting("turn:name.invalid:7?transport=tcp", dialer);
        let stream = TurnStream::connect(how, (), sender);
        let (mut proxy, from) = listener.accept().await.unwrap();
        assert_eq!(from.ip().to_string(), "127.0.0.1");
        let mut asked = Vec::new();
        while !asked.ends_with(b"\r\n\r\n") {
            asked.push(proxy.read_u8().await.unwrap());
        }
        assert!(asked.starts_with(b"CONNECT name.invalid:7 HTTP/1.1\r\n"));
        let granted = b"HTTP/1.1 200 Fine\r\n\r\n";
        proxy
            .write_all(&[granted, &numbered(1)[..]].concat())
            .await
            .unwrap();
        let ((), input) = received.recv().await.unwrap();
        assert!(matches!(input, StreamInput::Message(message) if number(&message) == 1));
        stream.send(numbered(2).into());
        let mut sent = vec![0; numbered(2).len()];
        proxy.read_exact(&mut sent).await.unwrap();
        assert_eq!(number(&sent), 2);
    }

    /// Returns a stream to a server of this test, the server's end of it, and what comes.
    async fn stream(room: usize) -> (TurnStream, TcpStream, Received) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let server = format!("turn:127.0.0.1:{port}?transport=tcp");
        let (sender, received) = mpsc::channel(room);
        let stream = TurnStream::connect(connecting(&server, TcpDialer::new()), 7, sender);
        (stream, listener.accept().await.unwrap().0, received)
    }

    /// Returns data of a channel that begins with a number.
    fn numbered(number: u32) -> Vec<u8> {
        let mut message = vec![0x40, 0, 4, 0];
        message.extend_from_slice(&number.to_be_bytes());
        message.resize(4 + 1024, 7);
        message
    }

    fn number(message: &[u8]) -> u32 {
        assert_eq!(message.len(), 4 + 1024);
        u32::from_be_bytes(*message[4..].first_chunk().unwrap())
    }

    #[tokio::test]
    async fn messages_without_room_are_lost_and_no_others() {
        const LAST: u32 = 1_000_000;
        let (stream, mut server, _received) = stream(1).await;
        // The server does not read: the buffers of the sockets are full at some time, then the queue.
        let mut sent = 0;
        while stream.out.capacity() > 0 {
            for _ in 0..16 {
                stream.send(numbered(sent).into());
                sent += 1;
            }
            assert!(sent < LAST, "the queue has no end");
            tokio::task::yield_now().await;
        }
        let lost = sent;
        stream.send(numbered(lost).into());
        let (mut bytes, mut read) = (BytesMut::new(), Vec::new());
        let mut again = false;
        while read.last() != Some(&LAST) {
            assert_ne!(server.read_buf(&mut bytes).await.unwrap(), 0);
            while let Some(message) = next(&mut bytes).unwrap() {
                read.push(number(&message));
            }
            if !again && stream.out.capacity() == QUEUE {
                again = true;
                stream.send(numbered(LAST).into());
            }
        }
        assert!(read.is_sorted(), "{read:?}");
        assert!(read.len() > QUEUE && !read.contains(&lost), "{read:?}");
    }

    #[tokio::test]
    async fn what_is_not_taken_stays_with_the_server() {
        const COUNT: u32 = 20_000;
        let (_stream, mut server, mut received) = stream(16).await;
        let sending = tokio::spawn(async move {
            for number in 0..COUNT {
                server.write_all(&numbered(number)).await.unwrap();
            }
            server
        });
        while received.len() < 16 {
            tokio::task::yield_now().await;
        }
        assert!(!sending.is_finished());
        for expected in 0..COUNT {
            match received.recv().await.unwrap() {
                (7, StreamInput::Message(message)) => assert_eq!(number(&message), expected),
                other => panic!("{other:?}"),
            }
        }
        sending.await.unwrap();
    }

    #[tokio::test]
    async fn the_end_of_a_stream_is_reported_once() {
        let (stream, server, mut received) = stream(1).await;
        drop(server);
        let (key, input) = received.recv().await.unwrap();
        assert_eq!(key, 7);
        match input {
            StreamInput::Over(error) => {
                assert_eq!(error.kind(), io::ErrorKind::UnexpectedEof);
            }
            other => panic!("{other:?}"),
        }
        assert!(received.recv().await.is_none());
        stream.send(numbered(1).into());
    }

    #[tokio::test]
    async fn a_server_that_is_not_there_is_an_error() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        drop(listener);
        for host in ["127.0.0.1".to_owned(), "[::1]".to_owned()] {
            let server = format!("turn:{host}:{port}?transport=tcp");
            let (sender, mut received) = mpsc::channel(1);
            let how = connecting(&server, TcpDialer::new());
            let _stream = TurnStream::connect(how, (), sender);
            let ((), input) = received.recv().await.unwrap();
            assert!(matches!(input, StreamInput::Over(_)), "{input:?}");
        }
    }
}
