use std::collections::HashMap;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use tokio_util::sync::CancellationToken;

use super::file_error::FileError;
use super::rel_path::RelPath;

/// The folder to receive into, which no path leads out of. Clones share it.
///
/// A symbolic link that leads out of it is refused. That holds against the sender; somebody on this
/// machine, who may move folders about meanwhile, is trusted.
#[derive(Clone, Debug)]
pub(crate) struct Folder {
    root: Arc<Path>,
    /// Whether files that are there may be replaced.
    pub(crate) overwrite: bool,
    claims: Arc<Mutex<HashMap<RelPath, Arc<Holder>>>>,
}

/// Who receives a file at the moment.
#[derive(Debug, Default)]
struct Holder {
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
    /// The folder at `root`. It is made if the one around it is there.
    pub(crate) fn new(root: &Path, overwrite: bool) -> io::Result<Self> {
        match fs::create_dir(root) {
            Err(error) if error.kind() != io::ErrorKind::AlreadyExists => return Err(error),
            _ => {}
        }
        let root = root.canonicalize()?;
        if !root.is_dir() {
            return Err(io::ErrorKind::NotADirectory.into());
        }
        // Whether anything can be made in it is known before the first sender comes.
        check_writable(&root)?;
        Ok(Self {
            root: root.into(),
            overwrite,
            claims: Arc::default(),
        })
    }

    /// Makes sure that nobody else in this process writes the file. A sender whose connection broke may
    /// be back before this side has noticed the break: the newcomer goes first.
    pub(crate) async fn claim(&self, path: &RelPath) -> Claim {
        loop {
            let before = {
                let mut claims = self.claims.lock().unwrap_or_else(PoisonError::into_inner);
                match claims.get(path) {
                    Some(holder) => holder.clone(),
                    None => {
                        let holder = Arc::<Holder>::default();
                        claims.insert(path.clone(), holder.clone());
                        return Claim {
                            folder: self.clone(),
                            path: path.clone(),
                            holder,
                        };
                    }
                }
            };
            before.replaced.cancel();
            before.gone.cancelled().await;
        }
    }

    /// Where a path lies, once the folders that it lies in exist.
    pub(crate) fn place(&self, path: &RelPath) -> Result<PathBuf, FileError> {
        let place = path.below(&self.root);
        if let Some(parent) = place.parent() {
            self.make(parent)?;
        }
        Ok(place)
    }

    /// Makes a folder.
    pub(crate) fn make_folder(&self, path: &RelPath) -> Result<(), FileError> {
        self.make(&path.below(&self.root))
    }

    fn make(&self, folder: &Path) -> Result<(), FileError> {
        // What is there must not lead elsewhere, before anything is made in it.
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
        fs::create_dir_all(folder)?;
        Ok(())
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
    /// Waits until somebody else wants to write the file.
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
            let error = folder.place(&path(out)).unwrap_err();
            assert_eq!(error.to_string(), "a symbolic link leads out of the folder");
            assert!(folder.make_folder(&path(out)).is_err());
        }
        assert_eq!(fs::read_dir(outside.path()).unwrap().count(), 0);
        folder.place(&path("in/deep/a")).unwrap();
        assert!(inside.path().join("real/deep").is_dir());
        assert!(folder.place(&path("file/a")).is_err());
    }

    #[tokio::test]
    async fn a_newcomer_goes_first() {
        let temp = tempfile::tempdir().unwrap();
        let folder = Folder::new(temp.path(), false).unwrap();
        let (a, b) = (path("a"), path("b"));
        let old = folder.claim(&a).await;
        let other = folder.claim(&b).await;
        let (newcomer, ()) = tokio::join!(folder.claim(&a), async move {
            old.replaced().await;
            drop(old);
        });
        drop((newcomer, other));
        assert!(folder.claims.lock().unwrap().is_empty());
    }
}
