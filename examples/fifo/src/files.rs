use std::ffi::OsString;
use std::fs;
use std::io;
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};
use std::process;
use std::sync::atomic::{AtomicU32, Ordering};

use rustix::fs::{CWD, FileType, Mode, fstat, mknodat, stat};
use tokio::net::unix::pipe::{OpenOptions, Receiver, Sender};

use crate::call::Call;

/// Makes a FIFO that nobody but this user can open.
pub(crate) fn make_fifo(path: &Path) -> io::Result<()> {
    let mode = Mode::RUSR | Mode::WUSR;
    Ok(mknodat(CWD, path, FileType::Fifo, mode, 0)?)
}

pub(crate) fn open_receiver(path: &Path) -> io::Result<Receiver> {
    OpenOptions::new().open_receiver(path)
}

/// Fails with `ENXIO` where nobody has the FIFO open for reading.
pub(crate) fn open_sender(path: &Path) -> io::Result<Sender> {
    OpenOptions::new().open_sender(path)
}

/// Whether this is the file at the path.
pub(crate) fn is_at(file: impl AsFd, path: &Path) -> bool {
    match (fstat(file), stat(path)) {
        (Ok(file), Ok(there)) => (file.st_dev, file.st_ino) == (there.st_dev, there.st_ino),
        _ => false,
    }
}

// ANCHOR: pair
/// The two FIFOs of one connection, beside the listener's. Their files are removed with this.
#[derive(Debug)]
pub(crate) struct PairFiles {
    pub(crate) call: Call,
    /// From the dialer to the listener.
    pub(crate) up: PathBuf,
    /// From the listener to the dialer.
    pub(crate) down: PathBuf,
}

impl PairFiles {
    /// Makes them, by a number of their own.
    pub(crate) fn make(door: &Path) -> io::Result<Self> {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        loop {
            let next = NEXT.fetch_add(1, Ordering::Relaxed);
            let call = Call(u64::from(process::id()) << 32 | u64::from(next));
            let (up, down) = names(door, call);
            match make_fifo(&up) {
                // A process of the same number died before it could clean up.
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
                made => {
                    made?;
                    let files = Self { call, up, down };
                    make_fifo(&files.down)?;
                    return Ok(files);
                }
            }
        }
    }

    /// Those of a dialer.
    pub(crate) fn of(door: &Path, call: Call) -> Self {
        let (up, down) = names(door, call);
        Self { call, up, down }
    }
}

impl Drop for PairFiles {
    fn drop(&mut self) {
        // The other side may have been faster.
        let _ = (fs::remove_file(&self.up), fs::remove_file(&self.down));
    }
}
// ANCHOR_END: pair

fn names(door: &Path, call: Call) -> (PathBuf, PathBuf) {
    let name = |end: &str| {
        let mut name = OsString::from(door);
        name.push(format!(".{call}.{end}"));
        PathBuf::from(name)
    };
    (name("up"), name("down"))
}
