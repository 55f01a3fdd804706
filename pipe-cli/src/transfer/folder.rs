use std::collections::HashMap;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use pipewerks::{BoxConn, Conn, ErrorKind};
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

use super::file_error::FileError;
use super::rel_path::RelPath;
use super::transfers::Owner;

/// Time limit for the answer of a file's sender when another one sends the same file.
const PROBE: Duration = Duration::from_secs(3);

/// The folder to receive into, which no path leads out of. Clones share it.
///
/// A symbolic link that leads out of it is refused. That holds against the sender; processes on
/// this machine, which may move folders meanwhile, are trusted.
#[derive(Clone, Debug)]
pub(crate) struct Folder {
    root: Arc<Path>,
    /// Whether existing files may be replaced.
    pub(crate) overwrite: bool,
    claims: Arc<Mutex<HashMap<RelPath, Arc<Holder>>>>,
    /// The permissions that new files and folders do not get.
    pub(crate) umask: u32,
}

/// The current receiver of a file.
#[derive(Debug)]
struct Holder {
    owner: Owner,
    conn: BoxConn,
    replaced: CancellationToken,
    gone: CancellationToken,
}

/// The right to write a file. Dropping it gives it back.
#[derive(Debug)]
pub(crate) struct Claim {
    folder: Folder,
    path: RelPath,
    holder: Arc<Holder>,
}

impl Folder {
    /// Returns the folder at `root`. It is made if the one around it is there.
    pub(crate) fn new(root: &Path, overwrite: bool) -> io::Result<Self> {
        match fs::create_dir(root) {
            Err(error) if error.kind() != io::ErrorKind::AlreadyExists => return Err(error),
            _ => {}
        }
        let root = root.canonicalize()?;
        if !root.is_dir() {
            return Err(io::ErrorKind::NotADirectory.into());
        }
        // Write access is checked before the first sender comes.
        check_writable(&root)?;
        Ok(Self {
            root: root.into(),
            overwrite,
            claims: Arc::default(),
            umask: umask(),
        })
    }

    /// Makes sure that nothing else in this process writes the file. A sender whose connection broke may
    /// be back before this side has noticed the break: it takes the place of its own former connection, and
    /// that of another sender only if this one does not answer.
    pub(crate) async fn claim(
        &self,
        path: &RelPath,
        owner: &Owner,
        conn: &BoxConn,
    ) -> Result<Claim, FileError> {
        loop {
            let before = {
                let mut claims = self.claims.lock().unwrap_or_else(PoisonError::into_inner);
                match claims.get(path) {
                    Some(holder) => holder.clone(),
                    None => {
                        let holder = Arc::new(Holder {
                            owner: owner.clone(),
                            conn: conn.clone(),
                            replaced: CancellationToken::new(),
                            gone: CancellationToken::new(),
                        });
                        claims.insert(path.clone(), holder.clone());
                        return Ok(Claim {
                            folder: self.clone(),
                            path: path.clone(),
                            holder,
                        });
                    }
                }
            };
            if before.owner != *owner {
                let answers = tokio::select! {
                    () = before.gone.cancelled() => false,
                    answers = answers(&before.conn) => answers,
                };
                if answers {
                    return Err(FileError::new("another sender is sending it at the moment"));
                }
            }
            before.replaced.cancel();
            before.gone.cancelled().await;
        }
    }

    /// Returns the place of a path, and makes the folders that it lies in.
    pub(crate) fn place(&self, path: &RelPath, modes: &[u32]) -> Result<PathBuf, FileError> {
        let place = path.below(&self.root);
        if let Some(parent) = place.parent() {
            self.make(parent, modes)?;
        }
        Ok(place)
    }

    /// Makes a folder.
    pub(crate) fn make_folder(&self, path: &RelPath, modes: &[u32]) -> Result<(), FileError> {
        self.make(&path.below(&self.root), modes)
    }

    fn make(&self, folder: &Path, modes: &[u32]) -> Result<(), FileError> {
        // Existing parts must not lead elsewhere, before anything is made in it.
        let there = folder
            .ancestors()
            .find(|path| path.symlink_metadata().is_ok());
        if let Some(there) = there {
            let real = there.canonicalize()?;
            if !real.starts_with(&self.root) {
                return Err(FileError::new("a symbolic link leads out of the folder"));
            }
            if !real.is_dir() {
                return Err(FileError::new("a file is in the way of its folder"));
            }
        }
        let mut path = self.root.to_path_buf();
        let names = folder
            .strip_prefix(&self.root)
            .unwrap_or_else(|_| Path::new(""));
        for (place, name) in names.iter().enumerate() {
            path.push(name);
            match make_one(&path, modes.get(place).copied()) {
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
                made => made?,
            }
        }
        Ok(())
    }
}

/// Makes a folder with these permissions, of which the umask takes some, and in which files can be made.
#[cfg(unix)]
fn make_one(path: &Path, mode: Option<u32>) -> io::Result<()> {
    use std::os::unix::fs::DirBuilderExt;
    let mode = mode.map_or(0o777, |mode| mode & 0o777 | 0o700);
    fs::DirBuilder::new().mode(mode).create(path)
}

#[cfg(not(unix))]
fn make_one(path: &Path, _: Option<u32>) -> io::Result<()> {
    fs::create_dir(path)
}

/// Returns the umask, which can only be read by setting it. It happens before any file is made.
#[cfg(unix)]
fn umask() -> u32 {
    use rustix::fs::Mode;
    let mask = rustix::process::umask(Mode::from_raw_mode(0o077));
    rustix::process::umask(mask);
    mask.bits() & 0o777
}

#[cfg(not(unix))]
fn umask() -> u32 {
    0
}

/// Returns whether the peer of a connection is still there.
pub(super) async fn answers(conn: &BoxConn) -> bool {
    match timeout(PROBE, conn.ping()).await {
        // A foreign peer cannot be pinged, and counts until its connection ends.
        Ok(Err(error)) => error.kind() == ErrorKind::Unsupported,
        Ok(Ok(_)) => true,
        Err(_) => false,
    }
}

#[cfg(unix)]
fn check_writable(root: &Path) -> io::Result<()> {
    Ok(rustix::fs::access(root, rustix::fs::Access::WRITE_OK)?)
}

#[cfg(not(unix))]
fn check_writable(_: &Path) -> io::Result<()> {
    Ok(())
}

impl Claim {
    /// Waits until another sender claims the file.
    pub(crate) async fn replaced(&self) {
        self.holder.replaced.cancelled().await;
    }
}

impl Drop for Claim {
    fn drop(&mut self) {
        let mut claims = self
            .folder
            .claims
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        claims.remove(&self.path);
        self.holder.gone.cancel();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn path(text: &str) -> RelPath {
        RelPath::parse(text).unwrap()
    }

    #[cfg(unix)]
    #[test]
    fn links_that_lead_out_are_refused() {
        use std::os::unix::fs::symlink;
        let (inside, outside) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        symlink(outside.path(), inside.path().join("out")).unwrap();
        fs::create_dir(inside.path().join("real")).unwrap();
        symlink("real", inside.path().join("in")).unwrap();
        fs::write(inside.path().join("file"), "").unwrap();
        let folder = Folder::new(inside.path(), false).unwrap();

        for out in ["out/a", "out/deep/a"] {
            let error = folder.place(&path(out), &[]).unwrap_err();
            assert_eq!(error.to_string(), "a symbolic link leads out of the folder");
            assert!(folder.make_folder(&path(out), &[]).is_err());
        }
        assert_eq!(fs::read_dir(outside.path()).unwrap().count(), 0);
        folder.place(&path("in/deep/a"), &[]).unwrap();
        assert!(inside.path().join("real/deep").is_dir());
        assert!(folder.place(&path("file/a"), &[]).is_err());
    }

    #[tokio::test]
    async fn a_sender_takes_its_own_place_and_that_of_one_that_is_gone() {
        use pipewerks::Listener;
        let listener = pipewerks::listen("inproc://").await.unwrap();
        let dialed = pipewerks::dial(listener.local_addr()).await.unwrap();
        let conn = listener.accept().await.unwrap();
        let (one, two) = (Owner::Conn(1), Owner::Conn(2));
        let temp = tempfile::tempdir().unwrap();
        let folder = Folder::new(temp.path(), false).unwrap();
        let (a, b) = (path("a"), path("b"));
        let old = folder.claim(&a, &one, &conn).await.unwrap();
        let other = folder.claim(&b, &two, &conn).await.unwrap();
        let refused = folder.claim(&a, &two, &conn).await.unwrap_err();
        assert!(refused.why.contains("another sender"), "{refused}");
        let (newcomer, ()) = tokio::join!(folder.claim(&a, &one, &conn), async move {
            old.replaced().await;
            drop(old);
        });
        dialed.close(0, "");
        conn.closed().await;
        let mine = newcomer.unwrap();
        let (stranger, ()) = tokio::join!(folder.claim(&a, &two, &conn), async move {
            mine.replaced().await;
            drop(mine);
        });
        drop((stranger.unwrap(), other));
        assert!(folder.claims.lock().unwrap().is_empty());
    }
}
