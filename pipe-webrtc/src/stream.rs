use std::future::poll_fn;
use std::io::{self, IoSlice};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use bytes::{Bytes, BytesMut};
use pipe_core::backend::proto::{SendHalf, Stream};
use pipe_core::backend::{joined_stream, send_error};
use pipe_core::{Error, ErrorKind, RecvStream, Result, SendStream};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::task::coop::poll_proceed;

use crate::engine::ChannelInfo;
use crate::handle::Handle;
use crate::shared::Shared;
use crate::stream_core::{StreamRef, StreamState};

joined_stream! {
    /// A stream of a [`WebRtcConn`](crate::WebRtcConn).
    pub struct WebRtcStream {
        send: WebRtcSendStream,
        recv: WebRtcRecvStream,
    }
}

/// The sending direction of a [`WebRtcStream`].
pub struct WebRtcSendStream(End);

/// The receiving direction of a [`WebRtcStream`].
pub struct WebRtcRecvStream(End);

struct End {
    stream: StreamRef,
    handle: Arc<Handle>,
}

impl End {
    fn shared(&self) -> &Shared {
        &self.handle.0
    }

    /// Polls the stream, and does what follows.
    fn poll<T>(&self, act: impl FnOnce(&mut StreamState) -> Poll<T>) -> Poll<T> {
        let mut state = self.stream.lock();
        let done = act(&mut state);
        let needs_session = done.is_ready() && state.needs_session();
        drop(state);
        if needs_session {
            self.shared().update(&self.stream);
        }
        done
    }
}

impl WebRtcStream {
    pub(crate) fn new(stream: StreamRef, handle: Arc<Handle>) -> Self {
        let end = End {
            stream: stream.clone(),
            handle: handle.clone(),
        };
        Self {
            send: WebRtcSendStream(end),
            recv: WebRtcRecvStream(End { stream, handle }),
        }
    }
}

/// A message of a plain data channel.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Message {
    /// Bytes.
    Binary(Bytes),
    /// Text.
    Text(String),
}

impl WebRtcStream {
    /// Returns the parameters of the plain data channel, on a connection of
    /// [`Wire::Raw`](crate::Wire::Raw).
    pub fn channel_info(&self) -> Option<ChannelInfo> {
        self.send.0.stream.lock().info()
    }

    /// Sends a whole message on a plain data channel.
    ///
    /// # Errors
    ///
    /// [`Unsupported`](ErrorKind::Unsupported) on a stream that is no plain channel;
    /// [`LimitReached`](ErrorKind::LimitReached) for a message that the peer would not take; and those
    /// of a write.
    ///
    /// # Cancel safety
    ///
    /// A message is sent as a whole or not at all.
    pub async fn send_message(&mut self, message: Message) -> Result<()> {
        let end = &self.send.0;
        let shared = end.shared();
        let (bytes, text) = match message {
            Message::Binary(bytes) => (BytesMut::from(bytes), false),
            Message::Text(text) => (BytesMut::from(text.as_bytes()), true),
        };
        let (length, most) = (bytes.len(), shared.largest_message());
        if length > most {
            let why = format!("a message of {length} bytes, where the peer takes {most}");
            return Err(Error::new(ErrorKind::LimitReached, why));
        }
        let mut message = Some((bytes, text));
        poll_fn(|cx| {
            end.poll(|state| state.poll_send_message(cx, &mut message, || shared.status.error()))
        })
        .await
    }

    /// Waits for the next whole message on a plain data channel; `None` once the peer has closed it.
    ///
    /// # Errors
    ///
    /// Those of a read. Text that is not UTF-8 is [`Protocol`](ErrorKind::Protocol).
    ///
    /// # Cancel safety
    ///
    /// No message is lost.
    pub async fn receive_message(&mut self) -> Result<Option<Message>> {
        let end = &self.recv.0;
        let shared = end.shared();
        let message =
            poll_fn(|cx| end.poll(|state| state.poll_message(cx, || shared.status.error())))
                .await?;
        end.stream.room.notify_waiters();
        Ok(match message {
            None => None,
            Some((bytes, false)) => Some(Message::Binary(bytes.freeze())),
            Some((bytes, true)) => match String::from_utf8(bytes.into()) {
                Ok(text) => Some(Message::Text(text)),
                Err(_) => return Err(crate::error::protocol("text that is not UTF-8")),
            },
        })
    }
}

impl AsyncWrite for WebRtcSendStream {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        self.poll_write_vectored(cx, &[IoSlice::new(buf)])
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let coop = ready!(poll_proceed(cx));
        let shared = self.0.shared();
        let windows = shared.peer_windows();
        let written = ready!(
            self.0
                .poll(|state| state.poll_write(cx, bufs, windows, || shared.status.error()))
        );
        coop.made_progress();
        Poll::Ready(written.map_err(Into::into))
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    /// Returns at once: written bytes are in flight already.
    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let End { stream, .. } = &self.0;
        let shared = self.0.shared();
        let Err(error) = shared.change(stream, Stream::shutdown) else {
            return Poll::Ready(Ok(()));
        };
        match send_error(error, shared.status.error()) {
            Some(error) => Poll::Ready(Err(error.into())),
            None => stream.lock().pend_write(cx),
        }
    }
}

impl SendStream for WebRtcSendStream {
    fn id(&self) -> u64 {
        self.0.stream.id
    }

    fn reset(&mut self, code: u32) {
        let shared = self.0.shared();
        shared.change(&self.0.stream, |stream| stream.reset(code));
    }

    async fn stopped(&mut self) -> Result<Option<u32>> {
        poll_fn(|cx| {
            let mut state = self.0.stream.lock();
            match state.proto.send() {
                SendHalf::Stopped { code, .. } | SendHalf::ShutThenStopped { code } => {
                    return Poll::Ready(Ok(Some(code)));
                }
                SendHalf::Shut { confirmed: true } => return Poll::Ready(Ok(None)),
                send => {
                    let ended = self.0.shared().status.error();
                    let cut = send.check_shutdown().err();
                    let cut = cut.and_then(|error| send_error(error, ended.clone()));
                    if let Some(error) = cut.or(ended) {
                        return Poll::Ready(Err(error));
                    }
                }
            }
            state.pend_write(cx)
        })
        .await
    }
}

impl Drop for WebRtcSendStream {
    fn drop(&mut self) {
        SendStream::reset(self, 0);
    }
}

impl AsyncRead for WebRtcRecvStream {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if buf.remaining() == 0 {
            return Poll::Ready(Ok(()));
        }
        let coop = ready!(poll_proceed(cx));
        let shared = self.0.shared();
        let read = ready!(
            self.0
                .poll(|state| state.poll_read(cx, buf, || shared.status.error()))
        );
        coop.made_progress();
        self.0.stream.room.notify_waiters();
        Poll::Ready(read.map_err(Into::into))
    }
}

impl RecvStream for WebRtcRecvStream {
    fn id(&self) -> u64 {
        self.0.stream.id
    }

    fn stop(&mut self, code: u32) {
        let shared = self.0.shared();
        shared.change(&self.0.stream, |stream| stream.stop(code));
    }

    fn poll_read_chunk(&mut self, cx: &mut Context<'_>, max: usize) -> Poll<Result<Option<Bytes>>> {
        if max == 0 {
            return Poll::Ready(Ok(Some(Bytes::new())));
        }
        let coop = ready!(poll_proceed(cx));
        let shared = self.0.shared();
        let read = ready!(
            self.0
                .poll(|state| state.poll_read_chunk(cx, max, || shared.status.error()))
        );
        coop.made_progress();
        self.0.stream.room.notify_waiters();
        Poll::Ready(read.map(|chunk| chunk.map(BytesMut::freeze)))
    }
}

impl Drop for WebRtcRecvStream {
    fn drop(&mut self) {
        RecvStream::stop(self, 0);
    }
}
