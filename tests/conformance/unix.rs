use std::sync::atomic::{AtomicU64, Ordering};

use pipe_conformance::{Cabled, Fixture, Setup};
use pipe_core::{Addr, Config, Result};
use pipewerks::unix::UnixTransport;
use tempfile::TempDir;

use crate::cable::lay_unix;

/// Unix sockets, by files in a folder of their own.
pub(crate) struct Unix {
    folder: TempDir,
    next: AtomicU64,
}

impl Unix {
    pub(crate) fn new() -> Self {
        Self {
            folder: TempDir::new().expect("a folder for sockets"),
            next: AtomicU64::new(0),
        }
    }

    fn fresh_path(&self) -> Addr {
        let number = self.next.fetch_add(1, Ordering::Relaxed);
        let path = self.folder.path().join(number.to_string());
        let addr = format!("unix://{}", path.display());
        addr.parse().expect("an address")
    }
}

impl Fixture for Unix {
    type Transport = Cabled<UnixTransport>;

    fn name(&self) -> &str {
        "unix"
    }

    fn setup(&self, config: Config) -> Result<Setup<Self::Transport>> {
        let transport = UnixTransport::new().with_config(config)?;
        Ok(Cabled::setup(transport))
    }

    fn setup_with_faults(&self, config: Config) -> Result<Setup<Self::Transport>> {
        let transport = UnixTransport::new().with_config(config)?;
        Ok(Cabled::setup_with_faults(transport, lay_unix))
    }

    fn listen_addr(&self) -> Addr {
        self.fresh_path()
    }

    fn open_addr(&self) -> Addr {
        if cfg!(target_os = "linux") {
            "unix:///@".parse().expect("an address")
        } else {
            self.fresh_path()
        }
    }

    fn vacant_addr(&self) -> Addr {
        self.fresh_path()
    }

    #[cfg(not(any(target_os = "linux", target_os = "android")))]
    fn lacks(&self) -> Vec<(pipe_conformance::Capability, &'static str)> {
        let why = "a dialer's socket has no name here";
        vec![(pipe_conformance::Capability::MirroredAddrs, why)]
    }
}
