use std::io::{self, IoSlice};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker, ready};

use parking_lot::Mutex;
use pipe_core::backend::first_bytes;
use tokio::io::AsyncWrite;

use super::frame::Header;
use crate::turns::DriverWaker;

/// How much may wait to be sent, in bytes, before who writes to a stream waits.
const HIGH: usize = 128 * 1024;

/// How much may wait at most, in bytes, before nothing more is taken in from the peer: what it sends
/// can ask for answers, and it may not read them.
const TOO_MUCH: usize = 4 * HIGH;

/// From how many bytes on a frame goes straight to the byte stream when nothing is before it.
const DIRECT: usize = 8 * 1024;

/// How many pieces go straight to the byte stream at most, with the header. A body of more is copied.
const MAX_PIECES: usize = 16;

/// How large a buffer may be that is kept while nothing happens, in bytes.
const SMALL: usize = 2 * 1024;

/// What leaves: the frames of all streams, in the order in which they were put in.
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
    /// None while somebody writes, who calls the driver afterwards if there is more to do, and after
    /// the end.
    writer: Option<Writer>,
    /// Whether it takes several pieces at once.
    vectored: bool,
    /// What is being sent. Who writes has it with the writer.
    head: Vec<u8>,
    /// How much of it has been sent.
    sent: usize,
    /// How much of it somebody is about to write.
    flying: usize,
    /// What comes behind.
    tail: Vec<u8>,
    /// Something was written and may still be in buffers of the writer's own.
    unflushed: bool,
    /// Who waits for room.
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

    /// Writes a frame that has nothing before it; what is not taken is kept. An error is the driver's.
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
        // Nobody else has the head, and nothing was in it.
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

    /// Sends what waits. For the driver.
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

    /// Sends what waits, and ends the sending direction. For the driver.
    pub(crate) fn poll_shutdown(&self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        ready!(self.poll_flush(cx))?;
        // Nobody writes where nothing may be put in any more, but one who began before.
        let Some(mut writer) = self.queue.lock().writer.take() else {
            return Poll::Pending;
        };
        let done = Pin::new(&mut writer).poll_shutdown(cx);
        self.queue.lock().take_back(writer);
        done
    }

    /// Whether so much waits that nothing more is to be taken in from the peer.
    pub(crate) fn is_too_much(&self) -> bool {
        self.queue.lock().len() > TOO_MUCH
    }

    /// Whether large buffers are held.
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
    /// How many bytes wait.
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
