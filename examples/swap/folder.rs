//! [`Folder`]: a folder on disk that no path leads out of.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use tempfile::TempPath;
use walkdir::WalkDir;

use crate::message::Entry;
use crate::rel_path::RelPath;

/// What the name of a file begins with that is not complete yet. Lists leave such files out.
const PARTIAL: &str = ".swap-partial-";

/// A folder that a peer may use. Clones share it.
///
/// Paths are [`RelPath`]s, and a symbolic link that leads out of the folder is refused. That holds
/// against the peer, not against somebody here who moves folders and links about meanwhile.
#[derive(Clone)]
pub(crate) struct Folder {
    root: Arc<Path>,
}

impl Folder {
    /// The folder at `root`, which has to exist.
    pub(crate) fn new(root: &Path) -> io::Result<Self> {
        Ok(Self {
            root: root.canonicalize()?.into(),
        })
    }

    /// Where it lies on disk.
    pub(crate) fn root(&self) -> &Path {
        &self.root
    }

    /// Every file and folder in it, in order. Left out is what a [`RelPath`] cannot name, and what is
    /// neither file nor folder.
    pub(crate) async fn list(&self) -> io::Result<Vec<Entry>> {
        let folder = self.clone();
        blocking(move || folder.list_now()).await
    }

    /// Opens a file for reading, and tells its size.
    pub(crate) async fn open(&self, path: &RelPath) -> io::Result<(tokio::fs::File, u64)> {
        let (folder, path) = (self.clone(), path.clone());
        blocking(move || open_file(&folder.inside(&path.below(&folder.root))?)).await
    }

    /// Makes a folder, and those that it lies in, unless they exist.
    pub(crate) async fn make_folder(&self, path: &RelPath) -> io::Result<()> {
        let (folder, path) = (self.clone(), path.clone());
        blocking(move || folder.make_folder_now(&path.below(&folder.root))).await
    }

    /// Starts to write a file, in a folder that is made if need be. Nothing is at `path` until
    /// [`Partial::keep`].
    pub(crate) async fn create(&self, path: &RelPath) -> io::Result<Partial> {
        let (folder, path) = (self.clone(), path.clone());
        blocking(move || folder.create_now(path.below(&folder.root))).await
    }

    fn list_now(&self) -> io::Result<Vec<Entry>> {
        let mut entries = Vec::new();
        for entry in WalkDir::new(&self.root).min_depth(1).sort_by_file_name() {
            let entry = entry?;
            let name = entry
                .path()
                .strip_prefix(&self.root)
                .unwrap_or_else(|_| entry.path());
            let Ok(path) = RelPath::from_disk(name) else {
                continue;
            };
            let kind = entry.file_type();
            if kind.is_dir() {
                entries.push(Entry::Folder { path });
            } else if kind.is_file()
                && !entry
                    .file_name()
                    .as_encoded_bytes()
                    .starts_with(PARTIAL.as_bytes())
            {
                let size = entry.metadata()?.len();
                entries.push(Entry::File { path, size });
            }
        }
        Ok(entries)
    }

    fn make_folder_now(&self, path: &Path) -> io::Result<()> {
        // What exists already must not lead elsewhere, before anything is made in it.
        if let Some(existing) = path
            .ancestors()
            .find(|path| path.symlink_metadata().is_ok())
        {
            self.inside(existing)?;
        }
        fs::create_dir_all(path)
    }

    fn create_now(&self, path: PathBuf) -> io::Result<Partial> {
        let folder = path.parent().unwrap_or(&self.root);
        self.make_folder_now(folder)?;
        let file = tempfile::Builder::new()
            .prefix(PARTIAL)
            .tempfile_in(folder)?;
        let (file, partial) = file.into_parts();
        Ok(Partial {
            file: file.into(),
            partial,
            path,
        })
    }

    /// Follows symbolic links, and makes sure that what they lead to is in here.
    fn inside(&self, path: &Path) -> io::Result<PathBuf> {
        let real = path.canonicalize()?;
        if !real.starts_with(&self.root) {
            return Err(io::Error::new(
                io::ErrorKind::PermissionDenied,
                "a symbolic link leads out of the folder",
            ));
        }
        Ok(real)
    }
}

/// A file that is being written. Dropping it removes it.
pub(crate) struct Partial {
    /// Where to write.
    pub(crate) file: tokio::fs::File,
    partial: TempPath,
    path: PathBuf,
}

impl Partial {
    /// Puts the file in its place. It replaces a file that is there already.
    pub(crate) async fn keep(self) -> io::Result<()> {
        blocking(move || Ok(self.partial.persist(self.path)?)).await
    }
}

/// Opens a regular file for reading, and tells its size.
pub(crate) fn open_file(path: &Path) -> io::Result<(tokio::fs::File, u64)> {
    // Asked before it is opened: a named pipe would wait for a writer.
    let kind = fs::metadata(path)?;
    if kind.is_dir() {
        return Err(io::ErrorKind::IsADirectory.into());
    }
    if !kind.is_file() {
        return Err(io::Error::new(
            io::ErrorKind::InvalidInput,
            "not a regular file",
        ));
    }
    let file = fs::File::open(path)?;
    let size = file.metadata()?.len();
    Ok((file.into(), size))
}

/// Runs work that waits for the disk on a thread that may wait.
pub(crate) async fn blocking<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> T {
    match tokio::task::spawn_blocking(work).await {
        Ok(value) => value,
        Err(error) => std::panic::resume_unwind(error.into_panic()),
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    use super::*;

    fn path(text: &str) -> RelPath {
        RelPath::parse(text).unwrap()
    }

    async fn write(folder: &Folder, name: &str, bytes: &[u8]) -> io::Result<()> {
        let mut partial = folder.create(&path(name)).await?;
        partial.file.write_all(bytes).await?;
        partial.file.flush().await?;
        partial.keep().await
    }

    #[tokio::test]
    async fn what_is_written_is_listed_and_read() {
        let temp = tempfile::tempdir().unwrap();
        let folder = Folder::new(temp.path()).unwrap();
        write(&folder, "a/b", b"hello").await.unwrap();
        write(&folder, "a/b", b"hello again").await.unwrap();
        folder.make_folder(&path("c/d")).await.unwrap();
        let abandoned = folder.create(&path("a/e")).await.unwrap();

        let entries = folder.list().await.unwrap();
        assert_eq!(
            entries,
            [
                Entry::Folder { path: path("a") },
                Entry::File {
                    path: path("a/b"),
                    size: 11
                },
                Entry::Folder { path: path("c") },
                Entry::Folder { path: path("c/d") },
            ]
        );
        let (mut file, size) = folder.open(&path("a/b")).await.unwrap();
        let mut text = String::new();
        file.read_to_string(&mut text).await.unwrap();
        assert_eq!((size, &*text), (11, "hello again"));

        drop(abandoned);
        assert_eq!(fs::read_dir(temp.path().join("a")).unwrap().count(), 1);
    }

    #[tokio::test]
    async fn a_folder_and_a_missing_file_cannot_be_opened() {
        let temp = tempfile::tempdir().unwrap();
        let folder = Folder::new(temp.path()).unwrap();
        folder.make_folder(&path("a")).await.unwrap();
        let error = folder.open(&path("a")).await.unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::IsADirectory);
        let error = folder.open(&path("b")).await.unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::NotFound);
    }

    #[cfg(unix)]
    #[tokio::test]
    async fn a_link_out_of_the_folder_is_refused() {
        use std::os::unix::fs::symlink;

        let outside = tempfile::tempdir().unwrap();
        fs::write(outside.path().join("secret"), "x").unwrap();
        let temp = tempfile::tempdir().unwrap();
        let folder = Folder::new(temp.path()).unwrap();
        symlink(outside.path(), temp.path().join("out")).unwrap();
        symlink(outside.path().join("secret"), temp.path().join("secret")).unwrap();
        write(&folder, "real", b"inside").await.unwrap();
        symlink("real", temp.path().join("link")).unwrap();

        for name in ["out/secret", "secret"] {
            let error = folder.open(&path(name)).await.unwrap_err();
            assert_eq!(error.kind(), io::ErrorKind::PermissionDenied, "{name}");
        }
        assert!(write(&folder, "out/new", b"x").await.is_err());
        assert!(write(&folder, "out/deep/new", b"x").await.is_err());
        assert!(folder.make_folder(&path("out/deep")).await.is_err());
        assert_eq!(fs::read_dir(outside.path()).unwrap().count(), 1);
        assert!(folder.open(&path("link")).await.is_ok());

        // A file takes the place of a link, and does not go through it.
        write(&folder, "secret", b"mine").await.unwrap();
        assert_eq!(fs::read(outside.path().join("secret")).unwrap(), b"x");
    }
}
