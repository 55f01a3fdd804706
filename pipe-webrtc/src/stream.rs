use std::future::poll_fn;
use std::io::{self, IoSlice};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use bytes::{Bytes, BytesMut};
use pipe_core::backend::{RecvState, SendState, joined_stream};
use pipe_core::{Error, ErrorKind, RecvStream, Result, SendStream};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::task::coop::poll_proceed;

use crate::engine::ChannelInfo;
use crate::handle::Handle;
use crate::shared::Shared;
use crate::stream_core::StreamCore;

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
    stream: Arc<StreamCore>,
    handle: Arc<Handle>,
}

impl End {
    fn shared(&self) -> &Shared {
        &self.handle.0
    }
}

impl WebRtcStream {
    pub(crate) fn new(stream: Arc<StreamCore>, handle: Arc<Handle>) -> Self {
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
        self.send.0.stream.state.lock().info()
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
        let End { stream, .. } = &self.send.0;
        let shared = self.send.0.shared();
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
            let mut state = stream.state.lock();
            state.poll_send_message(cx, &mut message, || shared.status.error())
        })
        .await?;
        shared.announce(stream);
        Ok(())
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
        let End { stream, .. } = &self.recv.0;
        let shared = self.recv.0.shared();
        let message = poll_fn(|cx| {
            let mut state = stream.state.lock();
            state.poll_message(cx, || shared.status.error())
        })
        .await?;
        stream.room.notify_waiters();
        shared.settle(stream);
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
        let End { stream, .. } = &self.0;
        let shared = self.0.shared();
        let written = {
            let mut state = stream.state.lock();
            ready!(state.poll_write(cx, bufs, shared.peer_windows(), || shared.status.error()))
        };
        coop.made_progress();
        if written.is_ok() {
            shared.announce(stream);
        }
        Poll::Ready(written.map_err(Into::into))
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    /// Returns at once: written bytes are in flight already.
    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        let End { stream, .. } = &self.0;
        let shared = self.0.shared();
        let shut = stream.state.lock().shutdown(|| shared.status.error());
        if shut? {
            shared.settle(stream);
        } else {
            shared.release_send(stream);
        }
        Poll::Ready(Ok(()))
    }
}

impl SendStream for WebRtcSendStream {
    fn id(&self) -> u64 {
        self.0.stream.id
    }

    fn reset(&mut self, code: u32) {
        let (shared, stream) = (self.0.shared(), &self.0.stream);
        shared.cut_send(stream, SendState::Reset(code), code);
        shared.release_send(stream);
    }

    async fn stopped(&mut self) -> Result<Option<u32>> {
        poll_fn(|cx| {
            let mut state = self.0.stream.state.lock();
            match state.send {
                SendState::Stopped { code, .. } => return Poll::Ready(Ok(Some(code))),
                SendState::Shut if state.taken || state.peer_done => return Poll::Ready(Ok(None)),
                send => {
                    let ended = self.0.shared().status.error();
                    if let Some(error) = send.shutdown_error(ended.clone()).or(ended) {
                        return Poll::Ready(Err(error));
                    }
                }
            }
            state.writer = Some(cx.waker().clone());
            Poll::Pending
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
        let End { stream, .. } = &self.0;
        let shared = self.0.shared();
        let (read, done) = {
            let mut state = stream.state.lock();
            let read = ready!(state.poll_read(cx, buf, || shared.status.error()));
            (read, !state.done && state.is_done())
        };
        coop.made_progress();
        read?;
        stream.room.notify_waiters();
        if done {
            shared.settle(stream);
        } else {
            shared.announce(stream);
        }
        Poll::Ready(Ok(()))
    }
}

impl RecvStream for WebRtcRecvStream {
    fn id(&self) -> u64 {
        self.0.stream.id
    }

    fn stop(&mut self, code: u32) {
        let (shared, stream) = (self.0.shared(), &self.0.stream);
        shared.cut_recv(stream, RecvState::Stopped(code), code);
        shared.release_recv(stream);
    }
}

impl Drop for WebRtcRecvStream {
    fn drop(&mut self) {
        RecvStream::stop(self, 0);
    }
}
