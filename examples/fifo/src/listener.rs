use std::fs;
use std::future::poll_fn;
use std::io;
use std::path::{Path, PathBuf};
use std::task::{Context, Poll, ready};

use parking_lot::Mutex;
use rustix::fs::{FlockOperation, flock};
use rustix::io::Errno;
use tokio::net::unix::pipe::{Receiver, Sender};

use crate::call::{Call, Calls};
use crate::files::{is_at, make_fifo, open_receiver, open_sender};
use crate::stream::FifoStream;

/// How often a path may change under our hands before listening there is given up.
const ATTEMPTS: usize = 16;

// ANCHOR: listener
/// A FIFO that dialers write their calls into.
///
/// Its lock (flock(2)) belongs to the one who listens, and goes with its process. So a FIFO that a
/// process has left behind is found unlocked, and is used again.
#[derive(Debug)]
pub struct FifoListener {
    path: PathBuf,
    recv: Receiver,
    /// Without a writer the FIFO would read as ended whenever the last dialer is done.
    _send: Sender,
    calls: Mutex<Calls>,
}
// ANCHOR_END: listener

impl FifoListener {
    // ANCHOR: bind
    /// Listens at the path.
    pub fn bind(path: &Path) -> io::Result<Self> {
        for _ in 0..ATTEMPTS {
            match make_fifo(path) {
                Err(error) if error.kind() != io::ErrorKind::AlreadyExists => return Err(error),
                _ => {}
            }
            let recv = match open_receiver(path) {
                // The listener that had it has closed it in this moment.
                Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
                opened => opened?,
            };
            match flock(&recv, FlockOperation::NonBlockingLockExclusive) {
                Err(Errno::WOULDBLOCK) => return Err(io::ErrorKind::AddrInUse.into()),
                locked => locked?,
            }
            // It is ours, and nobody else removes it, if it is still the one at the path.
            if is_at(&recv, path) {
                return Ok(Self {
                    path: path.into(),
                    recv,
                    _send: open_sender(path)?,
                    calls: Mutex::default(),
                });
            }
        }
        Err(io::ErrorKind::AddrInUse.into())
    }
    // ANCHOR_END: bind

    // ANCHOR: poll_accept
    /// The next call.
    pub fn poll_accept(&self, cx: &mut Context<'_>) -> Poll<io::Result<Call>> {
        let mut calls = self.calls.lock();
        let mut buf = [0; 1024];
        loop {
            if let Some(call) = calls.next() {
                return Poll::Ready(Ok(call));
            }
            ready!(self.recv.poll_read_ready(cx))?;
            match self.recv.try_read(&mut buf) {
                Ok(len) => calls.take_in(&buf[..len]),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                Err(error) => return Poll::Ready(Err(error)),
            }
        }
    }
    // ANCHOR_END: poll_accept

    /// The byte stream of the next call. Dialers that are gone by then are passed over.
    pub async fn accept(&self) -> io::Result<FifoStream> {
        loop {
            let call = poll_fn(|cx| self.poll_accept(cx)).await?;
            if let Ok(stream) = FifoStream::answer(&self.path, call).await {
                return Ok(stream);
            }
        }
    }
}

// ANCHOR: drop
impl Drop for FifoListener {
    fn drop(&mut self) {
        // While it is locked. Somebody may have put something else in its place by force.
        if is_at(&self.recv, &self.path) {
            let _ = fs::remove_file(&self.path);
        }
    }
}
// ANCHOR_END: drop
