//! Standard input and output that another process may have made non-blocking.
//!
//! Whether a descriptor blocks is a property of the open file, which is shared with every process that has
//! inherited it. So it is not changed here: a read or write that would block waits until it would not.

use std::future::Future;
use std::io;
use std::pin::{Pin, pin};
use std::task::{Context, Poll, ready};

use tokio::io::AsyncWrite;
use tokio::task::{JoinError, JoinHandle, spawn_blocking};

use crate::pump::CHUNK;

/// Standard input. A read that is dropped is taken up by the next one, so that nothing is lost.
#[derive(Debug, Default)]
pub(crate) struct Input {
    reading: Option<JoinHandle<io::Result<Vec<u8>>>>,
}

impl Input {
    /// Returns the next bytes; none at the end. Safe to drop.
    pub(crate) async fn read(&mut self) -> io::Result<Vec<u8>> {
        let reading = self.reading.get_or_insert_with(|| {
            spawn_blocking(|| {
                let mut bytes = vec![0; CHUNK];
                let read = read_now(&mut bytes)?;
                bytes.truncate(read);
                Ok(bytes)
            })
        });
        let read = reading.await;
        self.reading = None;
        read.unwrap_or_else(|error| Err(ended(error)))
    }
}

/// Standard output. An error of a write comes with the next one, or with a flush.
#[derive(Debug, Default)]
pub(crate) struct Output {
    writing: Option<JoinHandle<io::Result<()>>>,
}

impl Output {
    fn poll_written(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let Some(writing) = &mut self.writing else {
            return Poll::Ready(Ok(()));
        };
        let written = ready!(pin!(writing).poll(cx));
        self.writing = None;
        Poll::Ready(written.unwrap_or_else(|error| Err(ended(error))))
    }
}

impl AsyncWrite for Output {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        ready!(self.poll_written(cx))?;
        let length = bytes.len().min(CHUNK);
        let own = bytes[..length].to_vec();
        self.writing = Some(spawn_blocking(move || write_stdout(&own)));
        Poll::Ready(Ok(length))
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.poll_written(cx)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.poll_flush(cx)
    }
}

fn ended(error: JoinError) -> io::Error {
    io::Error::other(error)
}

/// Writes everything to standard output.
pub(crate) fn write_stdout(bytes: &[u8]) -> io::Result<()> {
    write_now(io::stdout(), bytes)
}

/// Writes everything to standard error.
pub(crate) fn write_stderr(bytes: &[u8]) -> io::Result<()> {
    write_now(io::stderr(), bytes)
}

#[cfg(unix)]
fn read_now(bytes: &mut [u8]) -> io::Result<usize> {
    use rustix::io::Errno;
    let input = io::stdin();
    loop {
        match rustix::io::read(&input, &mut *bytes) {
            Ok(read) => return Ok(read),
            Err(Errno::INTR) => {}
            Err(Errno::WOULDBLOCK) => wait(&input, rustix::event::PollFlags::IN)?,
            // A closed one yields no bytes.
            Err(Errno::BADF) => return Ok(0),
            Err(error) => return Err(error.into()),
        }
    }
}

#[cfg(unix)]
fn write_now(to: impl std::os::fd::AsFd, mut bytes: &[u8]) -> io::Result<()> {
    use rustix::io::Errno;
    while !bytes.is_empty() {
        match rustix::io::write(&to, bytes) {
            Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
            Ok(written) => bytes = &bytes[written..],
            Err(Errno::INTR) => {}
            Err(Errno::WOULDBLOCK) => wait(&to, rustix::event::PollFlags::OUT)?,
            Err(error) => return Err(error.into()),
        }
    }
    Ok(())
}

/// Waits until a descriptor is ready, or broken, which the next attempt reports.
#[cfg(unix)]
fn wait(fd: &impl std::os::fd::AsFd, flags: rustix::event::PollFlags) -> io::Result<()> {
    let mut fds = [rustix::event::PollFd::new(fd, flags)];
    match rustix::event::poll(&mut fds, None) {
        Err(error) if error != rustix::io::Errno::INTR => Err(error.into()),
        _ => Ok(()),
    }
}

#[cfg(not(unix))]
fn read_now(bytes: &mut [u8]) -> io::Result<usize> {
    io::Read::read(&mut io::stdin(), bytes)
}

#[cfg(not(unix))]
fn write_now(mut to: impl io::Write, bytes: &[u8]) -> io::Result<()> {
    to.write_all(bytes)?;
    to.flush()
}
