use std::fs::{self, File};
use std::io::{self, Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};
use std::time::{Duration, UNIX_EPOCH};

use sha2::{Digest, Sha256};
use tokio::io::{AsyncSeekExt, AsyncWriteExt};
use tokio::sync::OwnedSemaphorePermit;

use super::file_error::FileError;
use super::folder::Folder;
use super::message::FileRequest;
use super::rel_path::PART;
use crate::failure::io_text;

/// Maximum length of a name on the usual file systems, in bytes.
const MAX_NAME: usize = 255;

/// Size of a read, in bytes.
const CHUNK: usize = 256 * 1024;

/// A file that is being received: beside its place under another name, until it is whole.
#[derive(Debug)]
pub(crate) struct Part {
    file: tokio::fs::File,
    hash: Sha256,
    offset: u64,
    part: PathBuf,
    place: PathBuf,
    request: FileRequest,
    overwrite: bool,
    umask: u32,
}

/// The existing state of a file to be received.
#[derive(Debug)]
pub(crate) enum Found {
    /// A part of it, perhaps nothing.
    Part(Box<Part>),
    /// A file of the same size under its name, with this SHA-256.
    Whole(String),
}

impl Part {
    /// Finds the existing part of a file. It takes as long as it takes to hash that.
    ///
    /// A part that the sender may not learn of counts as missing: the transfer begins with nothing
    /// then, and compares in the end.
    pub(crate) async fn find(
        folder: Folder,
        request: FileRequest,
        may_know: bool,
        hashing: OwnedSemaphorePermit,
    ) -> Result<Found, FileError> {
        blocking(move || {
            let found = Self::find_now(&folder, request, may_know);
            drop(hashing);
            found
        })
        .await
    }

    fn find_now(folder: &Folder, request: FileRequest, may_know: bool) -> Result<Found, FileError> {
        let place = folder.place(&request.path, &request.folders)?;
        match place.symlink_metadata() {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(error.into()),
            Ok(there) if there.is_dir() => {
                return Err(FileError::new("a folder of this name is there"));
            }
            Ok(there) if there.is_file() && there.len() == request.size => {
                if !may_know {
                    return Ok(Found::Part(
                        Self::open(folder, place, request, false)?.into(),
                    ));
                }
                let (hash, _) = hash(&mut File::open(&place)?, u64::MAX)?;
                return Ok(Found::Whole(hex(hash)));
            }
            Ok(_) => replaceable(folder)?,
        }
        Ok(Found::Part(
            Self::open(folder, place, request, may_know)?.into(),
        ))
    }

    /// Begins anew, although there is a file of the same size under the name: it is another one.
    pub(crate) async fn replace(folder: Folder, request: FileRequest) -> Result<Self, FileError> {
        blocking(move || {
            replaceable(&folder)?;
            let place = folder.place(&request.path, &request.folders)?;
            Self::open(&folder, place, request, true)
        })
        .await
    }

    fn open(
        folder: &Folder,
        place: PathBuf,
        request: FileRequest,
        keep: bool,
    ) -> Result<Self, FileError> {
        let part = part_of(&place);
        let mut options = File::options();
        options.read(true).write(true).create(true).truncate(false);
        no_links(&mut options);
        for_the_owner(&mut options);
        let mut file = options.open(&part)?;
        lock(&file)?;
        if !keep || file.metadata()?.len() > request.size {
            file.set_len(0)?;
        }
        let (hash, offset) = hash(&mut file, u64::MAX)?;
        Ok(Self {
            file: file.into(),
            hash,
            offset,
            part,
            place,
            request,
            overwrite: folder.overwrite,
            umask: folder.umask,
        })
    }

    /// Returns how many bytes are here.
    pub(crate) fn offset(&self) -> u64 {
        self.offset
    }

    /// Returns the SHA-256 of the bytes that are here.
    pub(crate) fn sha256(&self) -> String {
        hex(self.hash.clone())
    }

    /// Goes on from here, which is where it stands, or 0.
    pub(crate) async fn go_on_from(&mut self, offset: u64) -> Result<(), FileError> {
        if offset == self.offset {
            return Ok(());
        }
        if offset != 0 {
            let why = format!(
                "it goes on from {offset}, but {} bytes are here",
                self.offset
            );
            return Err(FileError::new(why));
        }
        self.file.set_len(0).await?;
        self.file.seek(SeekFrom::Start(0)).await?;
        self.hash = Sha256::new();
        self.offset = 0;
        Ok(())
    }

    /// Adds bytes at the end.
    pub(crate) async fn write(&mut self, bytes: &[u8]) -> Result<(), FileError> {
        let left = self.request.size.saturating_sub(self.offset);
        if bytes.len() as u64 > left {
            return Err(FileError::new("more bytes came than it has"));
        }
        self.file.write_all(bytes).await?;
        self.hash.update(bytes);
        self.offset += bytes.len() as u64;
        Ok(())
    }

    /// Puts the file in its place, if it has this SHA-256. Everything is on disk then. Returns a
    /// remark about it, if there is one.
    pub(crate) async fn keep(mut self, sha256: &str) -> Result<Option<String>, FileError> {
        // Errors of writes that were under way come out here.
        self.file.flush().await?;
        let own = self.sha256();
        if own != sha256 {
            drop(self.file);
            let _ = tokio::fs::remove_file(&self.part).await;
            let why = format!("what has arrived has the SHA-256 {own} and should have {sha256}");
            return Err(FileError::new(why));
        }
        let file = self.file.into_std().await;
        let (part, place, request) = (self.part, self.place, self.request);
        let (overwrite, umask, came) = (self.overwrite, self.umask, own);
        blocking(move || {
            if !overwrite && place.symlink_metadata().is_ok() {
                // It was not listed, or has been created meanwhile.
                let alike = place.symlink_metadata()?.is_file()
                    && hex(hash(&mut File::open(&place)?, u64::MAX)?.0) == came;
                let _ = fs::remove_file(&part);
                return if alike { Ok(None) } else { Err(occupied()) };
            }
            set_mode(&file, &request, umask)?;
            let kept = set_time(&file, &request);
            file.sync_all()?;
            fs::rename(&part, &place)?;
            sync_folder(&place)?;
            // A time that the system cannot have is no reason to refuse the file.
            Ok(kept
                .err()
                .map(|error| format!("its time cannot be kept: {}", io_text(&error))))
        })
        .await
    }
}

/// Returns the first bytes of a file hashed, and how many they are.
pub(crate) fn hash(file: &mut (impl Read + Seek), limit: u64) -> io::Result<(Sha256, u64)> {
    file.seek(SeekFrom::Start(0))?;
    let (mut hash, mut done) = (Sha256::new(), 0);
    let mut buffer = vec![0; CHUNK];
    while done < limit {
        let want = usize::try_from(limit - done).map_or(CHUNK, |left| left.min(CHUNK));
        let read = match file.read(&mut buffer[..want]) {
            Ok(0) => break,
            Ok(read) => read,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            Err(error) => return Err(error),
        };
        hash.update(&buffer[..read]);
        done += read as u64;
    }
    Ok((hash, done))
}

/// Formats a hash in hexadecimal digits.
pub(crate) fn hex(hash: Sha256) -> String {
    hash.finalize()
        .iter()
        .map(|byte| format!("{byte:02x}"))
        .collect()
}

/// Runs work that waits for the disk on a thread that may wait.
pub(crate) async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, FileError> + Send + 'static,
) -> Result<T, FileError> {
    tokio::task::spawn_blocking(work)
        .await
        .unwrap_or_else(|error| Err(FileError::new(error.to_string())))
}

fn replaceable(folder: &Folder) -> Result<(), FileError> {
    if folder.overwrite {
        return Ok(());
    }
    Err(occupied())
}

fn occupied() -> FileError {
    FileError::new("another file of this name is there (`pipe receive --overwrite` replaces it)")
}

/// Hides the received part from other users.
#[cfg(unix)]
fn for_the_owner(options: &mut fs::OpenOptions) {
    use std::os::unix::fs::OpenOptionsExt;
    options.mode(0o600);
}

#[cfg(not(unix))]
fn for_the_owner(_: &mut fs::OpenOptions) {}

/// Sets the modification time of a file. Without one from the sender it stays as it is.
fn set_time(file: &File, request: &FileRequest) -> io::Result<()> {
    let at = match (request.modified, request.modified_before) {
        (Some(since), _) => UNIX_EPOCH.checked_add(Duration::from_millis(since)),
        (None, Some(before)) => UNIX_EPOCH.checked_sub(Duration::from_millis(before)),
        (None, None) => return Ok(()),
    };
    let at = at.ok_or_else(|| io::Error::other("this system has no such time"))?;
    file.set_modified(at)
}

/// Returns the name of a partial file.
fn part_of(place: &Path) -> PathBuf {
    let name = place.file_name().unwrap_or_default().to_string_lossy();
    let part = format!(".{name}{PART}");
    if part.len() <= MAX_NAME {
        return place.with_file_name(part);
    }
    // The name fits its place, but not with the prefix and suffix.
    let hash = hex(Sha256::new_with_prefix(name.as_bytes()));
    place.with_file_name(format!(".{hash}{PART}"))
}

/// Keeps an open from following a symbolic link, and from waiting for the other end of a named pipe.
#[cfg(unix)]
fn no_links(options: &mut fs::OpenOptions) {
    use rustix::fs::OFlags;
    use std::os::unix::fs::OpenOptionsExt;
    options.custom_flags((OFlags::NOFOLLOW | OFlags::NONBLOCK).bits().cast_signed());
}

#[cfg(not(unix))]
fn no_links(_: &mut fs::OpenOptions) {}

/// Makes sure that no other process receives the same file. The lock goes with the process.
///
/// A write of a connection that broke may still be on its way to the disk, and holds the lock until it is
/// there: that takes a moment.
#[cfg(unix)]
fn lock(file: &File) -> Result<(), FileError> {
    use rustix::fs::{FlockOperation, flock};
    const PAUSE: Duration = Duration::from_millis(20);
    for _ in 0..100 {
        match flock(file, FlockOperation::NonBlockingLockExclusive) {
            Err(rustix::io::Errno::WOULDBLOCK) => std::thread::sleep(PAUSE),
            locked => return Ok(locked.map_err(io::Error::from)?),
        }
    }
    Err(FileError::new("another `pipe receive` is receiving it"))
}

#[cfg(not(unix))]
fn lock(_: &File) -> Result<(), FileError> {
    Ok(())
}

/// Gives a file the permissions that it had, without those that the umask takes. None of them ever makes
/// a program run as another user.
#[cfg(unix)]
fn set_mode(file: &File, request: &FileRequest, umask: u32) -> io::Result<()> {
    use std::os::unix::fs::PermissionsExt;
    let mode = match request.mode {
        Some(mode) => mode & 0o777,
        None if request.executable => 0o777,
        None => 0o666,
    };
    file.set_permissions(fs::Permissions::from_mode(mode & !umask))
}

#[cfg(not(unix))]
fn set_mode(_: &File, _: &FileRequest, _: u32) -> io::Result<()> {
    Ok(())
}

/// Makes the new name of a file last.
#[cfg(unix)]
fn sync_folder(place: &Path) -> io::Result<()> {
    match place.parent() {
        Some(folder) => File::open(folder)?.sync_all(),
        None => Ok(()),
    }
}

#[cfg(not(unix))]
fn sync_folder(_: &Path) -> io::Result<()> {
    Ok(())
}
