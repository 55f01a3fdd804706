use std::io::IoSlice;
use std::task::{Context, Poll, ready};

use bytes::{Buf, BytesMut};
use pipe_core::backend::proto::codec::binary;
use pipe_core::backend::proto::{Frame, Violation};
use pipe_core::{Error, ErrorKind, Result};

use crate::yamux::frame::{ACK, DATA, SYN, WINDOW_UPDATE};
use crate::yamux::{CONTROL, Header, Limits, MAX_BODY, Output, WINDOW, broken};

/// Maximum number of bytes of frames taken from the session ahead of the peer's credit. Frames left
/// there are merged.
const MAX_QUEUED: usize = 4 * 1024;

/// The stream that carries the control channel. The driver alone uses it.
pub(crate) struct ControlStream {
    /// Flag of the next frame: SYN, ACK, or none.
    flag: u16,
    /// Number of bytes that the peer accepts further.
    credit: u32,
    /// Number of bytes that the peer may send further.
    window: u32,
    /// Bytes that came and that no window update has returned.
    unreturned: u32,
    /// Frames that the peer sent, as far as they are not whole.
    input: BytesMut,
    /// Frames to send.
    output: BytesMut,
}

impl ControlStream {
    /// Creates the stream as the side that opens it, or that accepts it.
    pub(crate) fn new(is_client: bool, limits: &Limits) -> Self {
        Self {
            flag: if is_client { SYN } else { ACK },
            credit: WINDOW,
            window: limits.window,
            unreturned: 0,
            input: BytesMut::new(),
            output: BytesMut::new(),
        }
    }

    /// Returns whether frames may be [pushed](Self::push).
    pub(crate) fn has_room(&self) -> bool {
        self.output.len() < MAX_QUEUED
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.output.is_empty()
    }

    /// Queues a frame.
    pub(crate) fn push(&mut self, frame: &Frame) {
        binary::encode(frame, &mut self.output);
    }

    /// Sends as much as the peer's credit allows. Pending without credit.
    pub(crate) fn poll_flush(
        &mut self,
        cx: &mut Context<'_>,
        limits: &Limits,
        output: &Output,
    ) -> Poll<Result<()>> {
        while !self.output.is_empty() {
            if self.credit == 0 {
                return Poll::Pending;
            }
            if self.flag != 0 && limits.window > WINDOW {
                let header = self.header(WINDOW_UPDATE, limits.window - WINDOW);
                output.push(header);
            }
            let count = self.output.len().min(self.credit as usize).min(MAX_BODY);
            let flags = self.flag;
            let header = Header {
                flags,
                ..self.header(DATA, count as u32)
            };
            let sent = output.poll_data(header, &[IoSlice::new(&self.output)], cx);
            if !sent.is_ready() {
                self.flag = flags;
            }
            ready!(sent).map_err(|error| {
                let why = format!("the control channel is lost: {error}");
                Error::with_source(ErrorKind::Failed, why, error)
            })?;
            self.credit -= count as u32;
            self.output.advance(count);
        }
        Poll::Ready(Ok(()))
    }

    fn header(&mut self, kind: u8, length: u32) -> Header {
        Header {
            kind,
            flags: std::mem::take(&mut self.flag),
            stream: CONTROL,
            length,
        }
    }

    /// Adds to the peer's credit.
    pub(crate) fn add_credit(&mut self, room: u32) -> Result<()> {
        self.credit = self.credit.checked_add(room).ok_or_else(|| {
            let most = u32::MAX;
            broken(&format!(
                "a window of more than {most} bytes of the control channel"
            ))
        })?;
        Ok(())
    }

    /// Notes that a data frame of so many bytes begins.
    pub(crate) fn begin_frame(&mut self, length: u32) -> Result<()> {
        let room = self.window;
        self.window = room.checked_sub(length).ok_or_else(|| {
            broken(&format!(
                "flow control: {length} bytes of the control channel, which has room for {room}"
            ))
        })?;
        Ok(())
    }

    /// Takes `count` bytes from the input.
    pub(crate) fn take_bytes(
        &mut self,
        input: &mut BytesMut,
        count: usize,
        limits: &Limits,
        output: &Output,
    ) {
        self.input.extend_from_slice(&input[..count]);
        input.advance(count);
        self.unreturned += count as u32;
        if self.unreturned >= limits.window / 2 {
            let room = std::mem::take(&mut self.unreturned);
            self.window += room;
            let header = self.header(WINDOW_UPDATE, room);
            output.push(header);
        }
    }

    /// Drops what the peer sent behind the end.
    pub(crate) fn discard_input(&mut self) {
        self.input = BytesMut::new();
    }

    /// Takes out the next frame that the peer sent, once it is whole.
    pub(crate) fn next_frame(&mut self) -> Result<Option<Frame>, Violation> {
        let frame = binary::decode(&mut self.input)?;
        if frame.is_none() && self.input.is_empty() && self.input.capacity() > MAX_QUEUED {
            // Left by many frames at once.
            self.input = BytesMut::new();
        }
        Ok(frame)
    }
}
