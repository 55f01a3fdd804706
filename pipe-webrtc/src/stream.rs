use std::future::poll_fn;
use std::io::IoSlice;
use std::task::{Context, Poll, ready};

use bytes::{Bytes, BytesMut};
use pipe_core::backend::{Half, SessionIo, session_stream};
use pipe_core::{Error, ErrorKind, Result};
use tokio::io::ReadBuf;

use crate::engine::ChannelInfo;
use crate::shared::Shared;

session_stream! {
    /// A stream of a [`WebRtcConn`](crate::WebRtcConn).
    pub struct WebRtcStream of Shared {
        send: WebRtcSendStream,
        recv: WebRtcRecvStream,
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
        let half = &self.send.0;
        let shared = half.conn();
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
            half.poll(|state| state.poll_send_message(cx, &mut message, || shared.status.error()))
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
        let half = &self.recv.0;
        let shared = half.conn();
        let message =
            poll_fn(|cx| half.poll(|state| state.poll_message(cx, || shared.status.error())))
                .await?;
        half.stream.unlocked.room.notify_waiters();
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

impl SessionIo for Shared {
    fn poll_write(
        half: &Half<Self>,
        cx: &mut Context<'_>,
        bufs: &[IoSlice<'_>],
    ) -> Poll<Result<usize>> {
        let shared = half.conn();
        let windows = shared.peer_windows();
        half.poll(|state| state.poll_write(cx, bufs, windows, || shared.status.error()))
    }

    fn poll_read(
        half: &Half<Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<Result<()>> {
        let shared = half.conn();
        let read = ready!(half.poll(|state| state.poll_read(cx, buf, || shared.status.error())));
        half.stream.unlocked.room.notify_waiters();
        Poll::Ready(read)
    }

    fn poll_read_chunk(
        half: &Half<Self>,
        cx: &mut Context<'_>,
        max: usize,
    ) -> Poll<Result<Option<Bytes>>> {
        let shared = half.conn();
        let read =
            ready!(half.poll(|state| state.poll_read_chunk(cx, max, || shared.status.error())));
        half.stream.unlocked.room.notify_waiters();
        Poll::Ready(read.map(|chunk| chunk.map(BytesMut::freeze)))
    }
}
