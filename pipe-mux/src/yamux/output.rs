use std::collections::VecDeque;
use std::io::{self, IoSlice};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker, ready};

use std::sync::atomic::{AtomicUsize, Ordering};

use parking_lot::Mutex;
use pipe_core::backend::{first_bytes, now};
use tokio::io::AsyncWrite;

use super::MAX_BODY;
use super::frame::Header;
use super::pace::{HIGH, Pace};
use crate::turns::DriverWaker;

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
    /// Maximum length of a body.
    max_body: AtomicUsize,
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
    /// Tasks that wait for room, and for how many bytes: the longest wait comes first.
    waiting: VecDeque<(Waker, usize)>,
    /// Tasks that were woken and have not come yet: others leave them the room.
    promised: Vec<(Waker, usize)>,
    /// Much was sent lately.
    busy: bool,
    /// How much may be queued.
    pace: Pace,
    error: Option<io::Error>,
    over: bool,
}

pub(crate) type Writer = Box<dyn AsyncWrite + Send + Unpin>;

impl Output {
    pub(crate) fn new(writer: Writer, driver: Arc<DriverWaker>) -> Self {
        Self {
            waker: Waker::from(driver.clone()),
            driver,
            max_body: AtomicUsize::new(MAX_BODY),
            queue: Mutex::new(Queue {
                vectored: writer.is_write_vectored(),
                writer: Some(writer),
                head: Vec::new(),
                sent: 0,
                flying: 0,
                tail: Vec::new(),
                unflushed: false,
                waiting: VecDeque::new(),
                promised: Vec::new(),
                busy: false,
                pace: Pace::new(),
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

    /// Returns how long a body is to be at most. Over a slow byte stream, frames of others would wait for a longer one.
    pub(crate) fn max_body(&self) -> usize {
        self.max_body.load(Ordering::Relaxed)
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
        queue.keep_promise(cx.waker());
        let before = queue.len() + queue.promised_bytes();
        let length = header.length as usize;
        if before == 0
            && length >= DIRECT
            && queue.vectored
            && !queue.unflushed
            && bufs.len() < MAX_PIECES
            && let Some(writer) = queue.writer.take()
        {
            drop(queue);
            self.write_directly(writer, header, bufs);
            return Poll::Ready(Ok(()));
        }
        if before > 0 && before + length > queue.pace.mark() {
            queue.wait(cx.waker(), length);
            let is_idle = queue.len() == 0;
            drop(queue);
            if is_idle {
                // Only room that others were promised is in its way, and they may not come.
                self.driver.rest();
            }
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
        self.on_sent(&mut queue, sent, sent < all || unflushed);
        // No other task has the head, and it was empty.
        for piece in pieces {
            let (gone, rest) = piece.split_at(piece.len().min(sent));
            sent -= gone.len();
            queue.head.extend_from_slice(rest);
        }
        let more = queue.len() > 0 || unflushed || queue.error.is_some();
        let woken = queue.let_in();
        let more = more || !queue.waiting.is_empty();
        drop(queue);
        if more {
            self.driver.notify();
        }
        woken.into_iter().for_each(Waker::wake);
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
                let mut woken = Vec::new();
                if !queue.waiting.is_empty() {
                    // Those that were woken may have lost interest: the next ones are woken a turn later.
                    if std::mem::take(&mut queue.promised).is_empty() {
                        woken = queue.let_in();
                    }
                    self.driver.rest();
                }
                drop(queue);
                woken.into_iter().for_each(Waker::wake);
                return Poll::Ready(Ok(()));
            }
            let head = std::mem::take(&mut queue.head);
            let mut sent = std::mem::take(&mut queue.sent);
            let before = sent;
            queue.flying = head.len() - sent;
            let unflushed = queue.unflushed;
            drop(queue);

            let done = poll_write_all(&mut writer, &head, &mut sent, unflushed, cx);

            let mut queue = self.queue.lock();
            queue.take_back(writer);
            queue.busy |= head.len() > SMALL;
            queue.flying = 0;
            self.on_sent(&mut queue, sent - before, done.is_pending());
            queue.head = head;
            queue.sent = sent;
            if sent == queue.head.len() {
                queue.head.clear();
                queue.sent = 0;
            }
            queue.unflushed = !done.is_ready();
            let woken = queue.let_in();
            drop(queue);
            woken.into_iter().for_each(Waker::wake);
            ready!(done)?;
        }
    }

    /// Takes in that the byte stream took so many bytes, and whether it left some.
    fn on_sent(&self, queue: &mut Queue, bytes: usize, is_blocked: bool) {
        queue.pace.on_sent(bytes, is_blocked, now());
        let max = queue.pace.mark().min(MAX_BODY);
        self.max_body.store(max, Ordering::Relaxed);
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
        queue.promised = Vec::new();
        (queue.head, queue.tail, queue.sent) = (Vec::new(), Vec::new(), 0);
        drop(queue);
        drop(writer);
        waiting.into_iter().for_each(|(waker, _)| waker.wake());
    }
}

impl Queue {
    /// Returns the number of queued bytes.
    fn len(&self) -> usize {
        self.head.len() - self.sent + self.flying + self.tail.len()
    }

    fn wait(&mut self, waker: &Waker, bytes: usize) {
        if !self.waiting.iter().any(|(known, _)| known.will_wake(waker)) {
            self.waiting.push_back((waker.clone(), bytes));
        }
    }

    /// Takes those out whose turn it is, if there is room for them again: no more than there is room for, so that none
    /// of them finds that another was faster each time.
    fn let_in(&mut self) -> Vec<Waker> {
        let mut woken = Vec::new();
        if self.len() > self.pace.mark() / 2 {
            return woken;
        }
        let mut length = self.len() + self.promised_bytes();
        while let Some((_, bytes)) = self.waiting.front()
            && (self.promised.is_empty() || length + bytes <= self.pace.mark())
        {
            length += bytes;
            let next = self.waiting.pop_front();
            woken.extend(next.iter().map(|(waker, _)| waker.clone()));
            self.promised.extend(next);
        }
        woken
    }

    /// Returns how much those that were woken have room for.
    fn promised_bytes(&self) -> usize {
        self.promised.iter().map(|(_, bytes)| bytes).sum()
    }

    /// Takes in that a task has come.
    fn keep_promise(&mut self, waker: &Waker) {
        let is_it = |(known, _): &(Waker, usize)| known.will_wake(waker);
        if let Some(place) = self.promised.iter().position(is_it) {
            self.promised.swap_remove(place);
        }
    }

    fn take_back(&mut self, writer: Writer) {
        if !self.over {
            self.writer = Some(writer);
        }
    }
}

/// Writes the rest of `bytes`. A byte stream gets more once it has let go of what it took before: what it keeps
/// would be a second queue, in front of everything that is written next.
fn poll_write_all(
    writer: &mut Writer,
    bytes: &[u8],
    sent: &mut usize,
    unflushed: bool,
    cx: &mut Context<'_>,
) -> Poll<io::Result<()>> {
    if unflushed {
        ready!(Pin::new(&mut *writer).poll_flush(cx))?;
    }
    while *sent < bytes.len() {
        match ready!(Pin::new(&mut *writer).poll_write(cx, &bytes[*sent..]))? {
            0 => return Poll::Ready(Err(io::ErrorKind::WriteZero.into())),
            count => *sent += count,
        }
        ready!(Pin::new(&mut *writer).poll_flush(cx))?;
    }
    Poll::Ready(Ok(()))
}

#[cfg(test)]
mod tests;
