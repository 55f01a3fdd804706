//! The control channel of a connection: the frames of its session as bytes.

use std::sync::Arc;

use bytes::BytesMut;
use pipe_proto::codec::binary;
use pipe_proto::{Frame, Stream, StreamFrame};
use tokio::time::Instant;

use super::conn_core::{Binding, ConnCore};
use crate::Result;
use crate::backend::{SessionConn, now, protocol};

/// Frames are taken from the session while fewer bytes wait to be sent. Those that stay there are merged.
const MAX_OUTPUT: usize = 4 * 1024;

impl<B: Binding> ConnCore<B> {
    /// Takes in what came over the control channel, as far as its frames are whole.
    ///
    /// # Errors
    ///
    /// [`Handshake`](crate::ErrorKind::Handshake) or [`Protocol`](crate::ErrorKind::Protocol), which the connection has
    /// to [end](Self::end) with.
    pub fn on_input(self: &Arc<Self>, input: &mut BytesMut) -> Result<()> {
        let mut opened = Vec::new();
        let mut state = self.state.lock();
        state.session.on_heard(now());
        // Nothing counts behind a close.
        while !state.session.is_ended() {
            let frame = binary::decode(input).map_err(|error| state.session.blame(error))?;
            match frame {
                None => break,
                Some(Frame::Stream {
                    id,
                    frame: StreamFrame::Open,
                }) => {
                    let stream = self.stream_of(Stream::remote(id), None);
                    state.session.accept(&stream)?;
                    opened.push(stream);
                }
                Some(frame) => state.session.handle_frame(frame, now())?,
            }
        }
        self.settle(state);
        for stream in opened {
            B::on_stream(self, &stream);
            // A queue that is closed belongs to a connection that is ending.
            let _ = self.backlog.push(stream);
        }
        self.opened.notify_waiters();
        Ok(())
    }

    /// Appends what is to be sent over the control channel. Returns when [`on_timeout`](Self::on_timeout) is due.
    ///
    /// # Errors
    ///
    /// [`Protocol`](crate::ErrorKind::Protocol) where the peer reads too little of it.
    pub fn poll_output(&self, output: &mut BytesMut) -> Result<Instant> {
        let mut state = self.state.lock();
        if state.session.is_flooded() {
            return Err(protocol("it does not read its control channel"));
        }
        while output.len() < MAX_OUTPUT
            && let Some(frame) = state.session.poll_frame()
        {
            binary::encode(&frame, output);
        }
        let deadline = state.session.poll_timeout();
        self.settle_events(state);
        // After the end there is none.
        let later = || Instant::now() + self.config.failed_after;
        Ok(deadline.map_or_else(later, Instant::from_std))
    }

    /// Waits until there may be something to send, or the connection has ended.
    ///
    /// # Cancel safety
    ///
    /// Safe to drop.
    pub async fn has_output(&self) {
        self.work.notified().await;
    }

    /// Acts on the deadlines that have passed.
    pub fn on_timeout(&self) {
        let mut state = self.state.lock();
        state.session.handle_timeout(now());
        self.settle(state);
    }

    /// Returns whether the peer has said hello.
    pub fn is_greeted(&self) -> bool {
        self.state.lock().session.peer().is_some()
    }
}
