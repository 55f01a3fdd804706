use std::fs::{self, File, Metadata, OpenOptions};
use std::io;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use rustix::fs::{FlockOperation, OFlags, flock};
use rustix::io::Errno;

/// Maximum number of times that a lock file may be removed while it is being opened.
const ATTEMPTS: usize = 100;

/// The right to make and remove the socket file at a path.
///
/// It is an advisory lock (flock(2)) on an empty file beside the socket, which a listener holds as
/// long as it lives. Its holder is the only listener of this crate on the path, so a socket file
/// found there is one that its listener left behind, or a foreign one. The system releases the lock
/// when its process dies.
///
/// The lock file is removed at the end, by its holder, so that it is never the file that another
/// one holds. A process that had opened it before that gets a lock on a removed file; it detects
/// that the file has another identity by now, and starts again.
#[derive(Debug)]
pub(crate) struct PathLock {
    path: PathBuf,
    file: File,
}

/// Why a lock could not be had.
#[derive(Debug)]
pub(crate) enum NoLock {
    /// A listener holds it.
    Held,
    /// Something else than a lock is at its path.
    Foreign,
    /// The system reports an error.
    Io(io::Error),
}

/// The identity of a file, independent of its name.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct FileId {
    device: u64,
    inode: u64,
}

impl FileId {
    pub(crate) fn of(file: &Metadata) -> Self {
        Self {
            device: file.dev(),
            inode: file.ino(),
        }
    }

    /// Returns the identity of the file at this path now, which may be a link.
    pub(crate) fn at(path: &Path) -> io::Result<Self> {
        fs::symlink_metadata(path).map(|file| Self::of(&file))
    }
}

impl PathLock {
    /// Returns the path of the lock for this path: `.lock` follows it.
    pub(crate) fn path_for(socket: &Path) -> PathBuf {
        let mut path = socket.as_os_str().to_owned();
        path.push(".lock");
        path.into()
    }

    /// Takes the lock for the socket at this path. Never waits.
    pub(crate) fn take(socket: &Path) -> Result<Self, NoLock> {
        let path = Self::path_for(socket);
        for _ in 0..ATTEMPTS {
            let file = OpenOptions::new()
                .read(true)
                .write(true)
                .create(true)
                .truncate(false)
                .mode(0o600)
                .custom_flags(OFlags::NOFOLLOW.bits().cast_signed())
                .open(&path)
                .map_err(NoLock::Io)?;
            match flock(&file, FlockOperation::NonBlockingLockExclusive) {
                Ok(()) => {}
                Err(Errno::WOULDBLOCK) => return Err(NoLock::Held),
                Err(error) => return Err(NoLock::Io(error.into())),
            }
            let locked = file.metadata().map_err(NoLock::Io)?;
            if !locked.is_file() || locked.len() > 0 {
                return Err(NoLock::Foreign);
            }
            match FileId::at(&path) {
                Ok(there) if there == FileId::of(&locked) => return Ok(Self { path, file }),
                Ok(_) => {}
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                Err(error) => return Err(NoLock::Io(error)),
            }
        }
        Err(NoLock::Held)
    }
}

impl Drop for PathLock {
    fn drop(&mut self) {
        let ours = self.file.metadata().map(|file| FileId::of(&file));
        let (Ok(ours), Ok(there)) = (ours, FileId::at(&self.path)) else {
            return;
        };
        if ours == there
            && let Err(error) = fs::remove_file(&self.path)
        {
            tracing::warn!(path = %self.path.display(), %error, "could not remove a lock file");
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};
    use std::thread;

    use super::*;

    #[test]
    fn a_lock_has_one_holder_and_leaves_nothing_behind() {
        let folder = tempfile::tempdir().unwrap();
        let socket = folder.path().join("socket");
        let lock = PathLock::take(&socket).unwrap();
        assert!(matches!(PathLock::take(&socket), Err(NoLock::Held)));
        drop(lock);
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 0);
        drop(PathLock::take(&socket).unwrap());
    }

    #[test]
    fn a_lock_that_was_left_behind_is_taken_over() {
        let folder = tempfile::tempdir().unwrap();
        let socket = folder.path().join("socket");
        File::create(PathLock::path_for(&socket)).unwrap();
        drop(PathLock::take(&socket).unwrap());
        assert!(!PathLock::path_for(&socket).exists());
    }

    #[test]
    fn what_is_no_lock_stays() {
        let folder = tempfile::tempdir().unwrap();
        let socket = folder.path().join("socket");
        let path = PathLock::path_for(&socket);
        fs::write(&path, "mine").unwrap();
        assert!(matches!(PathLock::take(&socket), Err(NoLock::Foreign)));
        assert_eq!(fs::read(&path).unwrap(), b"mine");

        fs::remove_file(&path).unwrap();
        std::os::unix::fs::symlink("elsewhere", &path).unwrap();
        assert!(matches!(PathLock::take(&socket), Err(NoLock::Io(_))));
        assert!(!folder.path().join("elsewhere").exists());
    }

    #[test]
    fn a_lock_whose_file_was_replaced_leaves_the_new_one() {
        let folder = tempfile::tempdir().unwrap();
        let socket = folder.path().join("socket");
        let lock = PathLock::take(&socket).unwrap();
        fs::remove_file(PathLock::path_for(&socket)).unwrap();
        let other = PathLock::take(&socket).unwrap();
        drop(lock);
        assert!(PathLock::path_for(&socket).exists());
        drop(other);
    }

    #[test]
    fn many_who_come_and_go_never_hold_it_together() {
        const ROUNDS: usize = 300;
        let folder = tempfile::tempdir().unwrap();
        let socket = folder.path().join("socket");
        let (holders, taken) = (AtomicUsize::new(0), AtomicUsize::new(0));
        thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| {
                    while taken.load(Ordering::SeqCst) < ROUNDS {
                        match PathLock::take(&socket) {
                            Ok(lock) => {
                                assert_eq!(holders.fetch_add(1, Ordering::SeqCst), 0);
                                taken.fetch_add(1, Ordering::SeqCst);
                                thread::yield_now();
                                holders.fetch_sub(1, Ordering::SeqCst);
                                drop(lock);
                            }
                            Err(NoLock::Held) => thread::yield_now(),
                            Err(error) => panic!("{error:?}"),
                        }
                    }
                });
            }
        });
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 0);
    }
}
