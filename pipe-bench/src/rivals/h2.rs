//! The `h2` crate: streams as the two bodies of a request and its response, as programs carry streams of bytes over
//! HTTP/2. Its windows do not grow, so they are as large as bulk can use.

use std::future::Future;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use h2::client::{ResponseFuture, SendRequest};
use h2::{RecvStream, SendStream};
use http::{Request, Response};
use tokio::io::{AsyncRead, AsyncWrite, Join, ReadBuf, join};
use tokio::net::TcpStream;
use tokio::sync::mpsc;

use super::rival::{CONN_WINDOW, FRAME, Rival, STREAMS_AT_ONCE, WINDOW};
use crate::{Acceptor, Opener};

/// How much of a stream may wait to be sent, in bytes.
const SEND_BUFFER: usize = 1024 * 1024;

pub(super) struct H2;

#[derive(Clone)]
pub(crate) struct H2Opener(SendRequest<Bytes>);

pub(crate) struct H2Acceptor(mpsc::Receiver<Join<Reader, Writer>>);

impl Rival for H2 {
    type Opener = H2Opener;
    type Acceptor = H2Acceptor;

    async fn over(near: TcpStream, far: TcpStream) -> io::Result<(H2Opener, H2Acceptor)> {
        let mut client = h2::client::Builder::new();
        client
            .initial_window_size(WINDOW)
            .initial_connection_window_size(CONN_WINDOW)
            .max_frame_size(FRAME)
            .max_send_buffer_size(SEND_BUFFER);
        let mut server = h2::server::Builder::new();
        server
            .initial_window_size(WINDOW)
            .initial_connection_window_size(CONN_WINDOW)
            .max_frame_size(FRAME)
            .max_send_buffer_size(SEND_BUFFER)
            .max_concurrent_streams(STREAMS_AT_ONCE);
        let (near, far) =
            tokio::try_join!(client.handshake(near), server.handshake::<_, Bytes>(far))
                .map_err(io::Error::other)?;
        let ((requests, near), mut far) = (near, far);
        let (accepts, accepted) = mpsc::channel(STREAMS_AT_ONCE as usize);
        // Both end with the handles of the connection.
        tokio::spawn(near);
        tokio::spawn(async move {
            while let Some(Ok((request, mut respond))) = far.accept().await {
                let Ok(send) = respond.send_response(Response::new(()), false) else {
                    continue;
                };
                let reader = Reader::new(Body::Here(request.into_body()));
                // The other end drops what no one accepts.
                let _ = accepts.try_send(join(reader, Writer(send)));
            }
        });
        Ok((H2Opener(requests), H2Acceptor(accepted)))
    }
}

impl Opener for H2Opener {
    type Stream = Join<Reader, Writer>;

    async fn open(&self) -> io::Result<Self::Stream> {
        let mut requests = self.0.clone().ready().await.map_err(io::Error::other)?;
        let mut request = Request::new(());
        *request.method_mut() = http::Method::POST;
        *request.uri_mut() = http::Uri::from_static("http://localhost/");
        let sent = requests.send_request(request, false);
        let (response, send) = sent.map_err(io::Error::other)?;
        Ok(join(Reader::new(Body::After(response)), Writer(send)))
    }
}

impl Acceptor for H2Acceptor {
    type Stream = Join<Reader, Writer>;

    async fn accept(&mut self) -> Option<Self::Stream> {
        self.0.recv().await
    }
}

/// The bytes that come.
pub(crate) struct Reader {
    body: Body,
    /// What is not read yet of the last frame.
    rest: Bytes,
}

enum Body {
    /// It comes after the head of the response.
    After(ResponseFuture),
    Here(RecvStream),
}

impl Reader {
    fn new(body: Body) -> Self {
        let rest = Bytes::new();
        Self { body, rest }
    }
}

impl AsyncRead for Reader {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let Self { body, rest } = &mut *self;
        while rest.is_empty() {
            match body {
                Body::After(response) => {
                    let response = ready!(Pin::new(response).poll(cx)).map_err(io::Error::other)?;
                    *body = Body::Here(response.into_body());
                }
                Body::Here(bytes) => match ready!(bytes.poll_data(cx)) {
                    Some(data) => *rest = data.map_err(io::Error::other)?,
                    None => return Poll::Ready(Ok(())),
                },
            }
        }
        let len = rest.len().min(buf.remaining());
        buf.put_slice(&rest.split_to(len));
        if let Body::Here(bytes) = body {
            let released = bytes.flow_control().release_capacity(len);
            released.map_err(io::Error::other)?;
        }
        Poll::Ready(Ok(()))
    }
}

/// The bytes that go.
pub(crate) struct Writer(SendStream<Bytes>);

impl AsyncWrite for Writer {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        let send = &mut self.0;
        if buf.is_empty() {
            return Poll::Ready(Ok(0));
        }
        send.reserve_capacity(buf.len());
        while send.capacity() == 0 {
            match ready!(send.poll_capacity(cx)) {
                Some(capacity) => capacity.map_err(io::Error::other)?,
                None => return Poll::Ready(Err(io::ErrorKind::BrokenPipe.into())),
            };
        }
        let len = send.capacity().min(buf.len());
        let sent = send.send_data(Bytes::copy_from_slice(&buf[..len]), false);
        Poll::Ready(sent.map(|()| len).map_err(io::Error::other))
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        let ended = self.0.send_data(Bytes::new(), true);
        Poll::Ready(ended.map_err(io::Error::other))
    }
}
