use std::sync::atomic::{AtomicU64, Ordering};

use pipe_conformance::{Cabled, Fixture, Setup};
use pipe_core::{Addr, Config, Result};
use pipe_fifo::FifoTransport;
use tempfile::TempDir;

use crate::cable::lay;

// ANCHOR: fixture
/// FIFOs in a folder of their own.
pub(crate) struct Fifo {
    folder: TempDir,
    next: AtomicU64,
}

impl Fifo {
    pub(crate) fn new() -> Self {
        Self {
            folder: TempDir::new().expect("a folder for FIFOs"),
            next: AtomicU64::new(0),
        }
    }
}

impl Fixture for Fifo {
    type Transport = Cabled<FifoTransport>;

    fn name(&self) -> &str {
        "fifo"
    }

    fn setup(&self, config: Config) -> Result<Setup<Self::Transport>> {
        let transport = FifoTransport::new().with_config(config)?;
        Ok(Cabled::setup(transport))
    }

    fn setup_with_faults(&self, config: Config) -> Result<Setup<Self::Transport>> {
        let transport = FifoTransport::new().with_config(config)?;
        Ok(Cabled::setup_with_faults(transport, lay))
    }

    fn listen_addr(&self) -> Addr {
        let number = self.next.fetch_add(1, Ordering::Relaxed);
        let path = self.folder.path().join(number.to_string());
        let addr = format!("fifo://{}", path.display());
        addr.parse().expect("an address")
    }

    fn vacant_addr(&self) -> Addr {
        self.listen_addr()
    }
}
// ANCHOR_END: fixture
