use std::io;

use bytes::{Buf, BytesMut};
use pipe_core::{Error, ErrorKind, Result};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};

use super::Signaling;
use super::message::{MAX_SIGNAL_LEN, Signal};
use crate::error::protocol;

/// Signalling over a byte stream: each message is its length (4 bytes, in network byte order) and its
/// JSON text.
#[derive(Debug)]
pub struct StreamSignaling<S> {
    stream: S,
    received: BytesMut,
}

impl<S> StreamSignaling<S> {
    /// Signals over this stream.
    pub fn new(stream: S) -> Self {
        Self {
            stream,
            received: BytesMut::new(),
        }
    }

    /// Returns the next message, if it is here as a whole.
    fn take(&mut self) -> Result<Option<Signal>> {
        let Some(length) = self.received.first_chunk::<4>() else {
            return Ok(None);
        };
        let length = u32::from_be_bytes(*length) as usize;
        if length > MAX_SIGNAL_LEN {
            return Err(protocol(format_args!(
                "a signal of {length} bytes, where {MAX_SIGNAL_LEN} are allowed"
            )));
        }
        if self.received.len() < 4 + length {
            return Ok(None);
        }
        self.received.advance(4);
        let json = self.received.split_to(length);
        Signal::from_json(&json).map(Some)
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin + Send + 'static> Signaling for StreamSignaling<S> {
    async fn send(&mut self, signal: Signal) -> Result<()> {
        let json = signal.to_json()?;
        let mut frame = Vec::with_capacity(4 + json.len());
        frame.extend((json.len() as u32).to_be_bytes());
        frame.extend(json.as_bytes());
        self.stream.write_all(&frame).await.map_err(lost)?;
        self.stream.flush().await.map_err(lost)?;
        Ok(())
    }

    async fn receive(&mut self) -> Result<Option<Signal>> {
        loop {
            if let Some(signal) = self.take()? {
                return Ok(Some(signal));
            }
            if self
                .stream
                .read_buf(&mut self.received)
                .await
                .map_err(lost)?
                == 0
            {
                if self.received.is_empty() {
                    return Ok(None);
                }
                return Err(protocol("the signalling ends within a message"));
            }
        }
    }
}

/// Returns the error for the loss of the signalling: a peer that resets its stream has given the
/// connection up, as a listener does that displaces it.
fn lost(error: io::Error) -> Error {
    let error = Error::from(error);
    let (kind, what) = match error.kind() {
        ErrorKind::Reset => (ErrorKind::Refused, "was aborted by the peer"),
        kind => (kind, "was lost"),
    };
    Error::with_source(kind, format!("the signalling {what}: {error}"), error)
}

#[cfg(test)]
mod tests {
    use futures::FutureExt;
    use tokio::io::duplex;

    use super::*;

    #[tokio::test]
    async fn a_message_has_its_length_before_its_text() {
        let (here, mut there) = duplex(1024);
        let mut here = StreamSignaling::new(here);
        here.send(Signal::Restart).await.unwrap();
        drop(here);
        let mut bytes = Vec::new();
        there.read_to_end(&mut bytes).await.unwrap();
        assert_eq!(bytes, b"\0\0\0\x12{\"type\":\"restart\"}");
    }

    #[tokio::test]
    async fn messages_arrive_whole_through_a_narrow_pipe() {
        let (here, there) = duplex(7);
        let (mut here, mut there) = (StreamSignaling::new(here), StreamSignaling::new(there));
        let offer = Signal::offer("v=0\r\n".repeat(100), None);
        let (sent, received) = tokio::join!(here.send(offer.clone()), there.receive());
        sent.unwrap();
        assert_eq!(received.unwrap(), Some(offer));
        drop(here);
        assert_eq!(there.receive().await.unwrap(), None);
    }

    #[tokio::test]
    async fn a_receive_that_is_given_up_loses_nothing() {
        let (mut here, there) = duplex(1024);
        let mut there = StreamSignaling::new(there);
        let json = Signal::Restart.to_json().unwrap();
        here.write_all(&(json.len() as u32).to_be_bytes())
            .await
            .unwrap();
        assert!(there.receive().now_or_never().is_none());
        here.write_all(json.as_bytes()).await.unwrap();
        assert_eq!(there.receive().await.unwrap(), Some(Signal::Restart));
    }

    #[tokio::test]
    async fn a_huge_length_is_refused_without_waiting_for_the_message() {
        let (mut here, there) = duplex(1024);
        let mut there = StreamSignaling::new(there);
        here.write_all(&u32::MAX.to_be_bytes()).await.unwrap();
        let error = there.receive().await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Protocol);
    }

    #[tokio::test]
    async fn an_end_within_a_message_is_an_error() {
        let (mut here, there) = duplex(1024);
        let mut there = StreamSignaling::new(there);
        here.write_all(&[0, 0, 0, 9, b'{']).await.unwrap();
        drop(here);
        let error = there.receive().await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Protocol);
    }
}
