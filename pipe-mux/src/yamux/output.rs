use std::io::{self, IoSlice};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker, ready};

use parking_lot::Mutex;
use pipe_core::backend::first_bytes;
use tokio::io::AsyncWrite;

use super::frame::Header;
use crate::turns::DriverWaker;

/// High watermark of the queue, in bytes: above it, writers to streams wait.
const HIGH: usize = 128 * 1024;

/// Maximum length of the queue, in bytes, before reading from the peer stops: its frames can
/// require answers, which it may not read.
const TOO_MUCH: usize = 4 * HIGH;

/// From how many bytes on a frame goes straight to the byte stream when nothing is before it.
const DIRECT: usize = 8 * 1024;

/// Maximum number of pieces of one vectored write, with the header. A body of more is copied.
const MAX_PIECES: usize = 16;

/// Maximum capacity of a buffer kept while idle, in bytes.
const SMALL: usize = 2 * 1024;

/// Output queue of the connection: the frames of all streams, in the order in which they were put
/// in.
///
/// Small ones gather and leave together when the driver's turn ends. A large one that finds nothing
/// before it is written where it lies, by the task that wrote it.
pub(crate) struct Output {
    queue: Mutex<Queue>,
    driver: Arc<DriverWaker>,
    /// Wakes the driver when the byte stream takes more.
    waker: Waker,
}

struct Queue {
    /// Absent while a task writes, which calls the driver afterwards if work is left, and after the
    /// end.
    writer: Option<Writer>,
    /// Whether the writer supports vectored writes.
    vectored: bool,
    /// Buffer being written. A writing task takes it out of the queue together with `writer`.
    head: Vec<u8>,
    /// Number of bytes of `head` that have been sent.
    sent: usize,
    /// Number of bytes of `head` that a task is writing.
    flying: usize,
    /// Bytes queued behind `head`.
    tail: Vec<u8>,
    /// Something was written and may still be in buffers of the writer's own.
    unflushed: bool,
    /// Tasks that wait for room.
    waiting: Vec<Waker>,
    /// Much was sent lately.
    busy: bool,
    error: Option<io::Error>,
    over: bool,
}

pub(crate) type Writer = Box<dyn AsyncWrite + Send + Unpin>;

impl Output {
    pub(crate) fn new(writer: Writer, driver: Arc<DriverWaker>) -> Self {
        Self {
            waker: Waker::from(driver.clone()),
            driver,
            queue: Mutex::new(Queue {
                vectored: writer.is_write_vectored(),
                writer: Some(writer),
                head: Vec::new(),
                sent: 0,
                flying: 0,
                tail: Vec::new(),
                unflushed: false,
                waiting: Vec::new(),
                busy: false,
                error: None,
                over: false,
            }),
        }
    }

    /// Puts in a frame without a body. It never waits.
    pub(crate) fn push(&self, header: Header) {
        let mut queue = self.queue.lock();
        if queue.over {
            return;
        }
        queue.tail.extend_from_slice(&header.encode());
        drop(queue);
        self.driver.notify();
    }

    /// Puts in a frame with its body, which is the first `header.length` bytes of `bufs`. Where much waits, it waits
    /// for room.
    pub(crate) fn poll_data(
        &self,
        header: Header,
        bufs: &[IoSlice<'_>],
        cx: &mut Context<'_>,
    ) -> Poll<io::Result<()>> {
        let mut queue = self.queue.lock();
        if queue.over {
            return Poll::Ready(Err(io::ErrorKind::BrokenPipe.into()));
        }
        let before = queue.len();
        let length = header.length as usize;
        if before == 0
            && length >= DIRECT
            && queue.vectored
            && bufs.len() < MAX_PIECES
            && let Some(writer) = queue.writer.take()
        {
            drop(queue);
            self.write_directly(writer, header, bufs);
            return Poll::Ready(Ok(()));
        }
        if before > 0 && before + length > HIGH {
            queue.wait(cx.waker());
            return Poll::Pending;
        }
        queue.tail.extend_from_slice(&header.encode());
        for piece in first_bytes(bufs, length) {
            queue.tail.extend_from_slice(piece);
        }
        drop(queue);
        self.driver.notify();
        Poll::Ready(Ok(()))
    }

    /// Writes a frame straight to the byte stream; the unwritten rest is queued. Errors are left to
    /// the driver.
    fn write_directly(&self, mut writer: Writer, header: Header, bufs: &[IoSlice<'_>]) {
        let length = header.length as usize;
        let header = header.encode();
        let cx = &mut Context::from_waker(&self.waker);
        let mut pieces = [IoSlice::new(&header); MAX_PIECES];
        for (piece, body) in pieces[1..].iter_mut().zip(first_bytes(bufs, length)) {
            *piece = IoSlice::new(body);
        }
        let pieces = &pieces[..=bufs.len()];
        let mut written = Pin::new(&mut writer).poll_write_vectored(cx, pieces);
        if let Poll::Ready(Ok(0)) = written {
            written = Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
        }
        let all = header.len() + length;
        let mut unflushed = true;
        if let Poll::Ready(Ok(count)) = written
            && count == all
        {
            match Pin::new(&mut writer).poll_flush(cx) {
                Poll::Ready(Ok(())) => unflushed = false,
                Poll::Ready(Err(error)) => written = Poll::Ready(Err(error)),
                Poll::Pending => {}
            }
        }
        let mut queue = self.queue.lock();
        queue.take_back(writer);
        queue.unflushed |= unflushed;
        queue.busy = true;
        let mut sent = match written {
            Poll::Ready(Ok(count)) => count,
            Poll::Ready(Err(error)) => {
                queue.error = Some(error);
                all
            }
            Poll::Pending => 0,
        };
        // No other task has the head, and it was empty.
        for piece in pieces {
            let (gone, rest) = piece.split_at(piece.len().min(sent));
            sent -= gone.len();
            queue.head.extend_from_slice(rest);
        }
        let more = queue.len() > 0 || unflushed || queue.error.is_some();
        let waiting = queue.let_in();
        drop(queue);
        if more {
            self.driver.notify();
        }
        waiting.into_iter().for_each(Waker::wake);
    }

    /// Sends the queued frames. For the driver.
    pub(crate) fn poll_flush(&self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        loop {
            let mut queue = self.queue.lock();
            if let Some(error) = queue.error.take() {
                return Poll::Ready(Err(error));
            }
            let Some(mut writer) = queue.writer.take() else {
                return if queue.over {
                    Poll::Ready(Err(io::ErrorKind::BrokenPipe.into()))
                } else {
                    Poll::Pending
                };
            };
            if queue.head.is_empty() {
                let Queue { head, tail, .. } = &mut *queue;
                std::mem::swap(head, tail);
            }
            if queue.head.is_empty() && !queue.unflushed {
                queue.writer = Some(writer);
                return Poll::Ready(Ok(()));
            }
            let head = std::mem::take(&mut queue.head);
            let mut sent = std::mem::take(&mut queue.sent);
            queue.flying = head.len() - sent;
            drop(queue);

            let done = poll_write_all(&mut writer, &head, &mut sent, cx);

            let mut queue = self.queue.lock();
            queue.take_back(writer);
            queue.busy |= head.len() > SMALL;
            queue.flying = 0;
            queue.head = head;
            queue.sent = sent;
            if sent == queue.head.len() {
                queue.head.clear();
                queue.sent = 0;
            }
            queue.unflushed = !done.is_ready();
            let waiting = queue.let_in();
            drop(queue);
            waiting.into_iter().for_each(Waker::wake);
            ready!(done)?;
        }
    }

    /// Sends the queued frames, and ends the sending direction. For the driver.
    pub(crate) fn poll_shutdown(&self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        ready!(self.poll_flush(cx))?;
        // No task writes after the queue has closed, except one that began before.
        let Some(mut writer) = self.queue.lock().writer.take() else {
            return Poll::Pending;
        };
        let done = Pin::new(&mut writer).poll_shutdown(cx);
        self.queue.lock().take_back(writer);
        done
    }

    /// Returns whether the queue is so long that reading from the peer has to stop.
    pub(crate) fn is_too_much(&self) -> bool {
        self.queue.lock().len() > TOO_MUCH
    }

    /// Returns whether large buffers are held.
    pub(crate) fn is_large(&self) -> bool {
        let queue = self.queue.lock();
        queue.head.capacity() > SMALL || queue.tail.capacity() > SMALL
    }

    /// Frees large buffers, unless they were needed since this was last called.
    pub(crate) fn trim(&self) {
        let mut queue = self.queue.lock();
        if std::mem::take(&mut queue.busy) || queue.len() > 0 {
            return;
        }
        (queue.head, queue.tail) = (Vec::new(), Vec::new());
    }

    /// Lets go of the byte stream. Nothing leaves from now on.
    pub(crate) fn end(&self) {
        let mut queue = self.queue.lock();
        queue.over = true;
        let writer = queue.writer.take();
        let waiting = std::mem::take(&mut queue.waiting);
        (queue.head, queue.tail, queue.sent) = (Vec::new(), Vec::new(), 0);
        drop(queue);
        drop(writer);
        waiting.into_iter().for_each(Waker::wake);
    }
}

impl Queue {
    /// Returns the number of queued bytes.
    fn len(&self) -> usize {
        self.head.len() - self.sent + self.flying + self.tail.len()
    }

    fn wait(&mut self, waker: &Waker) {
        if !self.waiting.iter().any(|known| known.will_wake(waker)) {
            self.waiting.push(waker.clone());
        }
    }

    /// Takes those that wait, if there is room for them again.
    fn let_in(&mut self) -> Vec<Waker> {
        if self.len() <= HIGH / 2 {
            std::mem::take(&mut self.waiting)
        } else {
            Vec::new()
        }
    }

    fn take_back(&mut self, writer: Writer) {
        if !self.over {
            self.writer = Some(writer);
        }
    }
}

fn poll_write_all(
    writer: &mut Writer,
    bytes: &[u8],
    sent: &mut usize,
    cx: &mut Context<'_>,
) -> Poll<io::Result<()>> {
    while *sent < bytes.len() {
        match ready!(Pin::new(&mut *writer).poll_write(cx, &bytes[*sent..]))? {
            0 => return Poll::Ready(Err(io::ErrorKind::WriteZero.into())),
            count => *sent += count,
        }
    }
    Pin::new(writer).poll_flush(cx)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::yamux::frame::{DATA, HEADER};

    /// Takes bytes up to a limit.
    #[derive(Clone, Default)]
    struct Sink(Arc<Mutex<Taken>>);

    #[derive(Default)]
    struct Taken {
        bytes: Vec<u8>,
        limit: usize,
        writes: usize,
    }

    impl AsyncWrite for Sink {
        fn poll_write(
            self: Pin<&mut Self>,
            cx: &mut Context<'_>,
            buf: &[u8],
        ) -> Poll<io::Result<usize>> {
            self.poll_write_vectored(cx, &[IoSlice::new(buf)])
        }

        fn poll_write_vectored(
            self: Pin<&mut Self>,
            _: &mut Context<'_>,
            bufs: &[IoSlice<'_>],
        ) -> Poll<io::Result<usize>> {
            let mut taken = self.0.lock();
            let before = taken.bytes.len();
            let room = taken.limit - before;
            for piece in first_bytes(bufs, room) {
                taken.bytes.extend_from_slice(piece);
            }
            taken.writes += 1;
            match taken.bytes.len() - before {
                0 => Poll::Pending,
                count => Poll::Ready(Ok(count)),
            }
        }

        fn is_write_vectored(&self) -> bool {
            true
        }

        fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
            Poll::Ready(Ok(()))
        }

        fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
            Poll::Ready(Ok(()))
        }
    }

    /// Sends the first `length` bytes of the buffers as one frame over a byte stream that takes `limit` bytes at first,
    /// and then the rest. Returns the frame, its bytes, and how many were sent at once in how many writes.
    fn send(bufs: &[Vec<u8>], length: usize, limit: usize) -> (Vec<u8>, Vec<u8>, usize, usize) {
        let sink = Sink::default();
        sink.0.lock().limit = limit;
        let output = Output::new(Box::new(sink.clone()), DriverWaker::new());
        let header = Header {
            kind: DATA,
            flags: 0,
            stream: 3,
            length: length as u32,
        };
        let slices: Vec<_> = bufs.iter().map(|buf| IoSlice::new(buf)).collect();
        let cx = &mut Context::from_waker(Waker::noop());
        assert!(matches!(
            output.poll_data(header, &slices, cx),
            Poll::Ready(Ok(()))
        ));
        let (at_once, writes) = {
            let mut taken = sink.0.lock();
            taken.limit = usize::MAX;
            (taken.bytes.len(), taken.writes)
        };
        assert!(matches!(output.poll_flush(cx), Poll::Ready(Ok(()))));
        let mut frame = header.encode().to_vec();
        frame.extend_from_slice(&bufs.concat()[..length]);
        let taken = std::mem::take(&mut sink.0.lock().bytes);
        (frame, taken, at_once, writes)
    }

    fn bufs(lens: &[usize]) -> Vec<Vec<u8>> {
        let lens = lens.iter().enumerate();
        lens.map(|(i, &len)| vec![i as u8 + 1; len]).collect()
    }

    #[test]
    fn small_buffers_wait_and_leave_as_one_frame() {
        let (frame, taken, at_once, _) = send(&bufs(&[3, 0, 500, 40]), 520, usize::MAX);
        assert_eq!(taken, frame);
        assert_eq!(at_once, 0);
    }

    #[test]
    fn large_buffers_go_straight_to_the_byte_stream_in_one_write() {
        let length = DIRECT + 1000;
        let (frame, taken, at_once, writes) =
            send(&bufs(&[3, DIRECT, 0, 2000]), length, usize::MAX);
        assert_eq!(taken, frame);
        assert_eq!((at_once, writes), (HEADER + length, 1));
    }

    #[test]
    fn what_the_byte_stream_does_not_take_at_once_follows() {
        let lens = [3, DIRECT, 0, 100];
        let length = lens.iter().sum::<usize>();
        for limit in [
            0,
            1,
            HEADER,
            HEADER + 2,
            HEADER + 3,
            HEADER + 500,
            HEADER + length - 1,
        ] {
            let (frame, taken, at_once, _) = send(&bufs(&lens), length, limit);
            assert_eq!(at_once, limit);
            assert_eq!(taken, frame, "after {limit} bytes");
        }
    }

    #[test]
    fn more_buffers_than_go_straight_leave_as_one_frame() {
        let lens = [DIRECT; MAX_PIECES];
        for (count, is_direct) in [(MAX_PIECES - 1, true), (MAX_PIECES, false)] {
            let length = count * DIRECT;
            let (frame, taken, at_once, _) = send(&bufs(&lens[..count]), length, usize::MAX);
            assert_eq!(taken, frame);
            assert_eq!(at_once > 0, is_direct);
        }
    }
}
