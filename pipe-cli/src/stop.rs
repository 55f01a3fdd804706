use std::future::Future;
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

use crate::exit::Exit;

/// Time limit for streams in progress to end, once the program was stopped.
pub(crate) const GRACE: Duration = Duration::from_secs(10);

/// A request to stop the program. Clones stand for the same.
///
/// The first Ctrl-C or SIGTERM requests it; the second ends the process at once.
#[derive(Clone, Debug)]
pub(crate) struct Stop {
    asked: CancellationToken,
    by_sigterm: Arc<AtomicBool>,
}

impl Stop {
    /// Handles the signals from now on.
    pub(crate) fn on_signals() -> io::Result<Self> {
        let stop = Self {
            asked: CancellationToken::new(),
            by_sigterm: Arc::default(),
        };
        let mut signals = Signals::new()?;
        let to_stop = stop.clone();
        tokio::spawn(async move {
            let by_sigterm = signals.next().await;
            to_stop.by_sigterm.store(by_sigterm, Ordering::Relaxed);
            to_stop.asked.cancel();
            tracing::info!("stopping; another signal ends at once");
            signals.next().await;
            crate::netcat::group::kill_all();
            std::process::exit(to_stop.exit() as i32);
        });
        Ok(stop)
    }

    /// Waits for the request. Safe to drop.
    pub(crate) async fn asked(&self) {
        self.asked.cancelled().await;
    }

    pub(crate) fn is_asked(&self) -> bool {
        self.asked.is_cancelled()
    }

    /// Returns the exit code of a command that was stopped before its end.
    pub(crate) fn exit(&self) -> Exit {
        if self.by_sigterm.load(Ordering::Relaxed) {
            Exit::Terminated
        } else {
            Exit::Interrupted
        }
    }

    /// Runs work to its end. Once the program is requested to stop, it has [`GRACE`] for that;
    /// `None` when it took longer.
    pub(crate) async fn grace<T>(&self, work: impl Future<Output = T>) -> Option<T> {
        let mut work = std::pin::pin!(work);
        tokio::select! {
            done = &mut work => Some(done),
            () = self.asked() => timeout(GRACE, work).await.ok(),
        }
    }
}

#[cfg(unix)]
struct Signals {
    interrupt: tokio::signal::unix::Signal,
    terminate: tokio::signal::unix::Signal,
    /// Taken so that a write past the limit of a file's size fails, and does not end the process.
    _file_size: tokio::signal::unix::Signal,
}

#[cfg(unix)]
impl Signals {
    fn new() -> io::Result<Self> {
        use tokio::signal::unix::{SignalKind, signal};
        /// The number of SIGXFSZ on Linux, macOS and the BSDs.
        const FILE_SIZE: i32 = 25;
        Ok(Self {
            interrupt: signal(SignalKind::interrupt())?,
            terminate: signal(SignalKind::terminate())?,
            _file_size: signal(SignalKind::from_raw(FILE_SIZE))?,
        })
    }

    /// Waits for a signal, and returns whether it was SIGTERM.
    async fn next(&mut self) -> bool {
        tokio::select! {
            _ = self.interrupt.recv() => false,
            _ = self.terminate.recv() => true,
        }
    }
}

#[cfg(not(unix))]
struct Signals;

#[cfg(not(unix))]
impl Signals {
    fn new() -> io::Result<Self> {
        Ok(Self)
    }

    async fn next(&mut self) -> bool {
        if tokio::signal::ctrl_c().await.is_err() {
            std::future::pending::<()>().await;
        }
        false
    }
}
