use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::{Buf, BytesMut};
use pipe_core::Result;
use tokio::io::AsyncRead;
use tokio::time::{Instant, Sleep, sleep};
use tokio_util::io::poll_read_buf;

use super::frame::{HEADER, Header};
use super::output::Output;

/// Size of a read while much arrives, in bytes.
const READ_LARGE: usize = 64 * 1024;

/// Size of a read otherwise, and of the buffer kept while nothing arrives, in bytes.
const READ_SMALL: usize = 2 * 1024;

/// Maximum number of consecutive reads before other tasks run: the bytes are still in the
/// processor's cache when their readers take them.
const READS: usize = 4;

/// Maximum number of frames processed before other tasks run: small ones cost the peer little.
const FRAMES: usize = 1024;

/// Time for which large buffers are kept after their last use.
const SHRINK_AFTER: Duration = Duration::from_millis(50);

/// Reads a byte stream and cuts it into frames, a bounded number in each turn of the driver.
pub(crate) struct Input<R> {
    reader: R,
    pub(crate) bytes: BytesMut,
    /// Size of the next read.
    read_size: usize,
    /// Bytes that have arrived, ever; a sign of life.
    pub(crate) arrived: u64,
    /// The peer's direction of the byte stream has ended.
    pub(crate) is_ended: bool,
    /// Frames and reads that are left of this turn.
    frames: usize,
    reads: usize,
    /// Much arrived since the timer was set.
    is_busy: bool,
    /// Runs while buffers are large.
    shrink_timer: Option<Pin<Box<Sleep>>>,
}

impl<R: AsyncRead + Unpin> Input<R> {
    pub(crate) fn new(reader: R) -> Self {
        Self {
            reader,
            bytes: BytesMut::new(),
            read_size: READ_SMALL,
            arrived: 0,
            is_ended: false,
            frames: FRAMES,
            reads: READS,
            is_busy: false,
            shrink_timer: None,
        }
    }

    /// Starts a turn of the driver.
    pub(crate) fn begin_turn(&mut self) {
        (self.frames, self.reads) = (FRAMES, READS);
    }

    /// Returns whether other tasks have to run before more is taken in.
    pub(crate) fn is_turn_over(&self) -> bool {
        self.frames == 0 || self.reads == 0
    }

    /// Reads from the byte stream. Ready with 0 at its end.
    ///
    /// Small reads until the peer has introduced itself keep a connection that does not cheap.
    pub(crate) fn poll_fill(
        &mut self,
        cx: &mut Context<'_>,
        may_grow: bool,
    ) -> Poll<io::Result<usize>> {
        self.bytes.reserve(self.read_size);
        let count = ready!(poll_read_buf(
            Pin::new(&mut self.reader),
            cx,
            &mut self.bytes
        ))?;
        self.reads = self.reads.saturating_sub(1);
        self.arrived += count as u64;
        self.is_busy |= count > READ_SMALL;
        if count >= self.read_size && may_grow {
            self.read_size = READ_LARGE;
        }
        Poll::Ready(Ok(count))
    }

    /// Takes the next header, if it has come and this turn has not taken too many.
    pub(crate) fn next_header(&mut self) -> Result<Option<Header>> {
        if self.frames == 0 {
            return Ok(None);
        }
        let Some(header) = self.bytes.first_chunk::<HEADER>() else {
            return Ok(None);
        };
        let header = Header::decode(*header)?;
        self.frames -= 1;
        self.bytes.advance(HEADER);
        Ok(Some(header))
    }

    /// Frees large buffers that have not been needed for a while.
    pub(crate) fn poll_shrink(&mut self, cx: &mut Context<'_>, output: &Output) {
        if self.bytes.capacity() <= READ_SMALL && !output.is_large() {
            self.shrink_timer = None;
            return;
        }
        let timer = self
            .shrink_timer
            .get_or_insert_with(|| Box::pin(sleep(SHRINK_AFTER)));
        while timer.as_mut().poll(cx).is_ready() {
            output.trim();
            if !std::mem::take(&mut self.is_busy) && self.bytes.is_empty() {
                self.bytes = BytesMut::new();
                self.read_size = READ_SMALL;
            }
            timer.as_mut().reset(Instant::now() + SHRINK_AFTER);
        }
    }
}
