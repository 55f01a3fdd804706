use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use futures::io::{AsyncRead, AsyncWrite};
use pipe_core::{Error, ErrorKind, Result};
use yamux::{Connection, ConnectionError, FrameDecodeError, Mode};

use crate::coalesce::Coalesce;
use crate::go_away::{GoAway, Resets};
use crate::muxer::{Muxer, MuxerStream};

/// How much one frame carries at most: larger ones delay other streams, smaller ones cost more.
const FRAME: usize = 16 * 1024;

/// The receive window that yamux gives to every stream.
pub(crate) const WINDOW: u32 = yamux::DEFAULT_CREDIT;

/// A yamux connection, as the [specification](https://github.com/hashicorp/yamux/blob/master/spec.md)
/// has it.
pub(crate) struct Yamux<T> {
    inner: Connection<Coalesce<T>>,
    given_up: GoAway,
    resets: Resets,
}

/// A yamux stream.
pub(crate) struct YamuxStream {
    inner: yamux::Stream,
    id: u64,
    resets: Resets,
}

impl<T> Yamux<T>
where
    T: tokio::io::AsyncRead + tokio::io::AsyncWrite + Unpin + Send + 'static,
{
    /// `max_streams` counts the streams of both sides; passing it would end the connection, so the
    /// owner keeps below.
    pub(crate) fn new(mut io: Coalesce<T>, mode: Mode, max_streams: usize) -> Self {
        let mut config = yamux::Config::default();
        config.set_max_connection_receive_window(None);
        config.set_max_num_streams(max_streams);
        // Windows stay as they are: growing ones hurt the latency of their siblings.
        config.set_max_connection_receive_window(Some(max_streams * WINDOW as usize));
        config.set_split_send_size(FRAME);
        Self {
            given_up: io.watch.seen(),
            resets: io.watch.resets(max_streams),
            inner: Connection::new(io, config, mode),
        }
    }
}

impl<T> Muxer for Yamux<T>
where
    T: tokio::io::AsyncRead + tokio::io::AsyncWrite + Unpin + Send + 'static,
{
    type Stream = YamuxStream;

    fn poll_open(&mut self, cx: &mut Context<'_>) -> Poll<Result<YamuxStream>> {
        self.inner
            .poll_new_outbound(cx)
            .map_ok(|stream| YamuxStream::new(stream, &self.resets))
            .map_err(error)
    }

    fn poll_accept(&mut self, cx: &mut Context<'_>) -> Poll<Result<Option<YamuxStream>>> {
        let next = self.inner.poll_next_inbound(cx);
        if let Some(code) = self.given_up.code() {
            return Poll::Ready(Err(broken(code)));
        }
        next.map(|next| {
            let stream = |stream| YamuxStream::new(stream, &self.resets);
            next.map(|next| next.map(stream).map_err(error)).transpose()
        })
    }

    fn poll_close(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.inner.poll_close(cx).map_err(io::Error::other)
    }
}

impl YamuxStream {
    fn new(inner: yamux::Stream, resets: &Resets) -> Self {
        // The number of a yamux stream can only be had as text.
        let id = inner.id().to_string().parse().unwrap_or_default();
        Self {
            inner,
            id,
            resets: resets.clone(),
        }
    }
}

impl MuxerStream for YamuxStream {
    fn id(&self) -> u64 {
        self.id
    }

    fn poll_announce(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        // An empty frame carries the flag that the next frame would have carried.
        ready!(Pin::new(&mut self.inner).poll_write(cx, &[]))?;
        Poll::Ready(Ok(()))
    }

    fn poll_read(&mut self, cx: &mut Context<'_>, buf: &mut [u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.inner).poll_read(cx, buf)
    }

    fn poll_write(&mut self, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.inner).poll_write(cx, buf)
    }

    fn poll_finish(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_close(cx)
    }

    fn is_cut(&self) -> bool {
        self.inner.is_closed()
    }

    fn reset(self) {
        if !self.is_cut() {
            self.resets.add(self.id as u32);
        }
        // The drop sends it.
    }
}

/// The error of a connection that yamux has given up with a GoAway.
fn broken(code: u32) -> Error {
    let what = match code {
        1 => "a window, a stream number or a flag was wrong",
        _ => "too many streams at once",
    };
    Error::new(
        ErrorKind::Protocol,
        format!("the peer broke the yamux protocol: {what}"),
    )
}

fn error(error: ConnectionError) -> Error {
    match error {
        ConnectionError::Io(error) | ConnectionError::Decode(FrameDecodeError::Io(error)) => {
            lost(error)
        }
        ConnectionError::Decode(error) => Error::with_source(
            ErrorKind::Protocol,
            format!("the peer broke the yamux protocol: {error}"),
            error,
        ),
        ConnectionError::Closed => Error::new(ErrorKind::Failed, "the peer ended the connection"),
        error => Error::with_source(ErrorKind::Protocol, error.to_string(), error),
    }
}

fn lost(error: io::Error) -> Error {
    // An error with words of its own, such as one of TLS, says more.
    let bare = error.get_ref().is_none();
    let why = if bare && error.kind() == io::ErrorKind::UnexpectedEof {
        "the byte stream ended in the middle of a frame".to_owned()
    } else {
        error.to_string()
    };
    Error::with_source(
        ErrorKind::Failed,
        format!("the connection is lost: {why}"),
        error,
    )
}
