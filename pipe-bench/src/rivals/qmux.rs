//! The `qmux` crate. Its windows do not grow, so they are as large as bulk can use.

use std::future::Future;
use std::io;
use std::pin::{Pin, pin};
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use qmux::{Config, RecvStream, SendStream, Session, Version};
use tokio::io::{AsyncRead, AsyncWrite, Join, ReadBuf, join};
use tokio::net::TcpStream;
use web_transport_trait::{RecvStream as _, SendStream as _, Session as _};

use super::rival::{CONN_WINDOW, Rival, STREAMS_AT_ONCE, WINDOW};
use crate::{Acceptor, Opener};

pub(super) struct Qmux;

#[derive(Clone)]
pub(crate) struct QmuxEnd(Session);

impl Rival for Qmux {
    type Opener = QmuxEnd;
    type Acceptor = QmuxEnd;

    async fn over(near: TcpStream, far: TcpStream) -> io::Result<(QmuxEnd, QmuxEnd)> {
        let mut config = Config::new(Version::QMux02);
        config.max_streams_bidi = STREAMS_AT_ONCE.into();
        config.max_data = CONN_WINDOW.into();
        config.max_stream_data_bidi_local = WINDOW.into();
        config.max_stream_data_bidi_remote = WINDOW.into();
        let carrier =
            |socket| qmux::transport::Stream::new(socket, config.version, config.max_record_size);
        let near = Session::connect(carrier(near), config.clone());
        let far = Session::accept(carrier(far), config.clone());
        let (near, far) = tokio::try_join!(near, far).map_err(io::Error::other)?;
        Ok((QmuxEnd(near), QmuxEnd(far)))
    }
}

impl Opener for QmuxEnd {
    type Stream = Join<Reader, Writer>;

    async fn open(&self) -> io::Result<Self::Stream> {
        Ok(stream(self.0.open_bi().await.map_err(io::Error::other)?))
    }
}

impl Acceptor for QmuxEnd {
    type Stream = Join<Reader, Writer>;

    async fn accept(&mut self) -> Option<Self::Stream> {
        Some(stream(self.0.accept_bi().await.ok()?))
    }
}

fn stream((send, recv): (SendStream, RecvStream)) -> Join<Reader, Writer> {
    join(Reader(recv), Writer::Idle(Some(send)))
}

/// The crate reads by futures, which lose nothing when they are dropped.
pub(crate) struct Reader(RecvStream);

impl AsyncRead for Reader {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let target = buf.initialize_unfilled();
        // What wakes the task is registered in the channel, which outlives the future.
        let read = ready!(pin!(self.0.read(target)).poll(cx)).map_err(io::Error::other)?;
        buf.advance(read.unwrap_or(0));
        Poll::Ready(Ok(()))
    }
}

/// A write under way, with the stream that it gives back.
type Writing = Pin<Box<dyn Future<Output = (SendStream, io::Result<usize>)> + Send>>;

/// The crate writes by futures. One that has to wait keeps its place in a queue, so it is kept.
pub(crate) enum Writer {
    /// With the stream, which is only gone within a call.
    Idle(Option<SendStream>),
    Writing(Writing),
}

impl AsyncWrite for Writer {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        if let Self::Idle(send) = &mut *self {
            let mut stream = send.take().ok_or(io::ErrorKind::BrokenPipe)?;
            let mut rest = buf;
            let written = pin!(stream.write_buf(&mut rest)).poll(cx);
            let count = buf.len() - rest.len();
            if written.is_ready() || count > 0 {
                *send = Some(stream);
                return match written {
                    Poll::Ready(Err(error)) => Poll::Ready(Err(io::Error::other(error))),
                    _ => Poll::Ready(Ok(count)),
                };
            }
            let bytes = Bytes::copy_from_slice(buf);
            let writing = async move {
                let written = stream.write(&bytes).await.map_err(io::Error::other);
                (stream, written)
            };
            *self = Self::Writing(Box::pin(writing));
        }
        let Self::Writing(writing) = &mut *self else {
            return Poll::Ready(Err(io::ErrorKind::BrokenPipe.into()));
        };
        let (stream, written) = ready!(writing.as_mut().poll(cx));
        *self = Self::Idle(Some(stream));
        Poll::Ready(written)
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if let Self::Writing(writing) = &mut *self {
            let (stream, written) = ready!(writing.as_mut().poll(cx));
            *self = Self::Idle(Some(stream));
            written?;
        }
        let Self::Idle(Some(stream)) = &mut *self else {
            return Poll::Ready(Err(io::ErrorKind::BrokenPipe.into()));
        };
        Poll::Ready(stream.finish().map_err(io::Error::other))
    }
}
