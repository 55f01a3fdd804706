use std::collections::HashSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, UNIX_EPOCH};

use walkdir::WalkDir;

use super::file_error::FileError;
use super::message::FileRequest;
use super::rel_path::RelPath;
use crate::failure::{Failure, io_text};

/// Something to send.
#[derive(Clone, Debug)]
pub(crate) enum Item {
    File {
        request: FileRequest,
        on_disk: PathBuf,
    },
    /// A folder with nothing in it.
    Folder {
        path: RelPath,
        /// The permissions of the folders on the path, from the first one.
        folders: Vec<u32>,
    },
}

/// The files and folders to be sent.
#[derive(Debug, Default)]
pub(crate) struct Source {
    pub(crate) items: Vec<Item>,
    /// Paths that cannot be sent, and the reasons.
    pub(crate) problems: Vec<String>,
    /// Symbolic links in folders: they are not sent.
    pub(crate) links: Vec<PathBuf>,
}

impl Source {
    /// Collects files, and folders with all that is in them. Symbolic links in folders are left out.
    pub(crate) fn collect(paths: &[PathBuf]) -> Result<Self, Failure> {
        let mut source = Self::default();
        for path in paths {
            source.add(path);
        }
        let mut seen = HashSet::new();
        for item in &source.items {
            if !seen.insert(item.path()) {
                let why = format!("{}: two of the files given have this name", item.path());
                return Err(Failure::usage(why));
            }
        }
        Ok(source)
    }

    pub(crate) fn bytes(&self) -> u64 {
        let sizes = self.items.iter().map(|item| match item {
            Item::File { request, .. } => request.size,
            Item::Folder { .. } => 0,
        });
        sizes.sum()
    }

    fn add(&mut self, given: &Path) {
        // "." and ".." have a name of their own elsewhere.
        let name = match given.file_name() {
            Some(name) => Some(name.to_owned()),
            None => fs::canonicalize(given)
                .ok()
                .and_then(|real| Some(real.file_name()?.to_owned())),
        };
        let Some(name) = name else {
            let why = format!("{}: it has no name to send it under", given.display());
            self.problems.push(why);
            return;
        };
        let mut modes = Vec::new();
        for entry in WalkDir::new(given).sort_by_file_name() {
            let added = match &entry {
                Ok(entry) => {
                    let below = entry
                        .path()
                        .strip_prefix(given)
                        .unwrap_or_else(|_| entry.path());
                    // Joined to nothing, a path would get a slash at its end.
                    let path = if below.as_os_str().is_empty() {
                        PathBuf::from(&name)
                    } else {
                        Path::new(&name).join(below)
                    };
                    // A folder comes before its contents.
                    modes.truncate(entry.depth());
                    if let Ok(metadata) = fs::metadata(entry.path())
                        && metadata.is_dir()
                    {
                        modes.push(mode(&metadata).unwrap_or(0o777));
                    }
                    self.add_entry(
                        entry.path(),
                        &path,
                        entry.path_is_symlink() && entry.depth() > 0,
                        &modes,
                    )
                }
                Err(error) => Err(match error.io_error() {
                    Some(error) => FileError::new(io_text(error)),
                    None => FileError::new(error.to_string()),
                }),
            };
            if let Err(error) = added {
                let path = match &entry {
                    Ok(entry) => entry.path(),
                    Err(error) => error.path().unwrap_or(given),
                };
                self.problems.push(format!("{}: {error}", path.display()));
            }
        }
    }

    fn add_entry(
        &mut self,
        on_disk: &Path,
        path: &Path,
        link: bool,
        modes: &[u32],
    ) -> Result<(), FileError> {
        if link {
            self.links.push(on_disk.to_owned());
            return Ok(());
        }
        let metadata = fs::metadata(on_disk)?;
        if metadata.is_dir() {
            let path = RelPath::from_disk(path).map_err(FileError::new)?;
            if fs::read_dir(on_disk)?.next().is_none() {
                self.items.push(Item::Folder {
                    path,
                    folders: modes.to_vec(),
                });
            }
            return Ok(());
        }
        if !metadata.is_file() {
            return Err(FileError::new("neither a file nor a folder"));
        }
        let path = RelPath::from_disk(path).map_err(FileError::new)?;
        // Read access is checked before the first byte is sent.
        fs::File::open(on_disk)?;
        self.items.push(Item::File {
            request: FileRequest {
                folders: modes.to_vec(),
                ..describe(path, &metadata)
            },
            on_disk: on_disk.to_owned(),
        });
        Ok(())
    }
}

impl Item {
    pub(crate) fn path(&self) -> &RelPath {
        match self {
            Self::File { request, .. } => &request.path,
            Self::Folder { path, .. } => path,
        }
    }
}

/// Returns the description of a file for the receiver.
pub(crate) fn describe(path: RelPath, metadata: &fs::Metadata) -> FileRequest {
    let millis = |time: Duration| u64::try_from(time.as_millis()).ok();
    let (modified, modified_before) = match metadata.modified() {
        Ok(at) => match at.duration_since(UNIX_EPOCH) {
            Ok(since) => (millis(since), None),
            Err(before) => (None, millis(before.duration())),
        },
        Err(_) => (None, None),
    };
    FileRequest {
        path,
        size: metadata.len(),
        modified,
        modified_before,
        executable: is_executable(metadata),
        mode: mode(metadata),
        folders: Vec::new(),
    }
}

/// Returns the permissions, without those bits that make a program run as another user.
#[cfg(unix)]
fn mode(metadata: &fs::Metadata) -> Option<u32> {
    use std::os::unix::fs::PermissionsExt;
    Some(metadata.permissions().mode() & 0o777)
}

#[cfg(not(unix))]
fn mode(_: &fs::Metadata) -> Option<u32> {
    None
}

#[cfg(unix)]
fn is_executable(metadata: &fs::Metadata) -> bool {
    use std::os::unix::fs::PermissionsExt;
    metadata.permissions().mode() & 0o100 != 0
}

#[cfg(not(unix))]
fn is_executable(_: &fs::Metadata) -> bool {
    false
}
