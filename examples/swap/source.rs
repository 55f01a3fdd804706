//! [`Source`]: the files and folders to send.

use std::collections::HashSet;
use std::path::{Path, PathBuf};

use walkdir::{DirEntry, WalkDir};

use crate::failure::{At, Failure};
use crate::folder::open_file;
use crate::rel_path::RelPath;
use crate::route::Limit;

/// How many problems of a kind are shown. The others are counted.
const MAX_SHOWN: usize = 10;

/// What to send. Collecting it opens every file once, so that one that cannot be read is known before
/// anything is sent.
#[derive(Clone, Default)]
pub(crate) struct Source {
    /// The files, in the order of the command line and then of their names.
    pub(crate) files: Vec<SourceFile>,
    /// The folders with nothing in them to send. The others come about with their files.
    pub(crate) folders: Vec<RelPath>,
    /// What should be sent and cannot be.
    pub(crate) unsent: Vec<Failure>,
    /// What is not sent because it is neither file nor folder, such as symbolic links.
    pub(crate) left_out: Vec<Failure>,
}

/// One file to send.
#[derive(Clone)]
pub(crate) struct SourceFile {
    /// Its name as it travels.
    pub(crate) path: RelPath,
    /// Where it is read.
    pub(crate) on_disk: PathBuf,
    /// Its size in bytes when it was looked at.
    pub(crate) size: u64,
}

impl Source {
    /// Collects files, and folders with everything in them, each under its own name.
    ///
    /// # Errors
    ///
    /// When a path does not exist, or two have the same name.
    pub(crate) fn collect(paths: &[PathBuf]) -> Result<Self, Failure> {
        let mut source = Self::default();
        for path in paths {
            source.add(path, |_| true)?;
        }
        source.finish()
    }

    /// Collects a folder of sources, without what was built from them and without their history.
    pub(crate) fn collect_project(path: &Path) -> Result<Self, Failure> {
        let mut source = Self::default();
        source.add(path, |entry| {
            !(entry.file_type().is_dir()
                && matches!(entry.file_name().to_str(), Some("target" | ".git")))
        })?;
        source.finish()
    }

    /// How many bytes its files have.
    pub(crate) fn bytes(&self) -> u64 {
        self.files.iter().map(|file| file.size).sum()
    }

    /// Whether there is nothing to send.
    pub(crate) fn is_empty(&self) -> bool {
        self.files.is_empty() && self.folders.is_empty()
    }

    /// The first files that fit into the limit, and as many folders.
    pub(crate) fn part(&self, limit: Limit) -> Self {
        let mut left = limit.bytes;
        let files = self.files.iter().filter(|file| {
            let fits = file.size <= left;
            if fits {
                left -= file.size;
            }
            fits
        });
        Self {
            files: files.take(limit.files).cloned().collect(),
            folders: self.folders.iter().take(limit.files).cloned().collect(),
            ..Self::default()
        }
    }

    /// Says what is not sent, and why.
    pub(crate) fn show_problems(&self) {
        show("left out", &self.left_out);
        show("cannot be sent", &self.unsent);
    }

    fn add(&mut self, given: &Path, wanted: impl Fn(&DirEntry) -> bool) -> Result<(), Failure> {
        let real = given.canonicalize().at(given.display())?;
        let Some(name) = real.file_name() else {
            return Err(Failure::new(
                given.display(),
                "it has no name to send it under",
            ));
        };
        for entry in WalkDir::new(&real)
            .sort_by_file_name()
            .into_iter()
            .filter_entry(wanted)
        {
            let entry = match entry {
                Ok(entry) => entry,
                Err(error) => {
                    self.unsent.push(walk_failure(given, &error));
                    continue;
                }
            };
            let below = entry
                .path()
                .strip_prefix(&real)
                .unwrap_or_else(|_| entry.path());
            // Shown as it was given, rather than with links followed.
            let shown = if below.as_os_str().is_empty() {
                given.to_owned()
            } else {
                given.join(below)
            };
            if let Err(failure) = self.add_entry(&entry, &Path::new(name).join(below)) {
                self.unsent.push(Failure::new(shown.display(), failure));
            }
        }
        Ok(())
    }

    fn add_entry(&mut self, entry: &DirEntry, name: &Path) -> Result<(), String> {
        let kind = entry.file_type();
        if !kind.is_dir() && !kind.is_file() {
            let what = if kind.is_symlink() {
                "a symbolic link"
            } else {
                "neither file nor folder"
            };
            self.left_out
                .push(Failure::new(entry.path().display(), what));
            return Ok(());
        }
        let path = RelPath::from_disk(name).map_err(|error| error.to_string())?;
        if kind.is_dir() {
            self.folders.push(path);
            return Ok(());
        }
        let (_, size) = open_file(entry.path()).map_err(|error| error.to_string())?;
        self.files.push(SourceFile {
            path,
            on_disk: entry.path().to_owned(),
            size,
        });
        Ok(())
    }

    /// Checks the names, and leaves out the folders that have something in them.
    fn finish(mut self) -> Result<Self, Failure> {
        let mut seen = HashSet::new();
        let mut filled = HashSet::new();
        let files = self.files.iter().map(|file| &file.path);
        for path in files.chain(&self.folders) {
            if !seen.insert(path.as_str()) {
                return Err(Failure::new(path, "two of the paths given have this name"));
            }
            filled.extend(path.parents().map(str::to_owned));
        }
        self.folders.retain(|path| !filled.contains(path.as_str()));
        Ok(self)
    }
}

fn show(what: &str, failures: &[Failure]) {
    for failure in failures.iter().take(MAX_SHOWN) {
        eprintln!("{what}: {failure}");
    }
    if let Some(more @ 1..) = failures.len().checked_sub(MAX_SHOWN) {
        eprintln!("{what}: and {more} more");
    }
}

fn walk_failure(given: &Path, error: &walkdir::Error) -> Failure {
    let path = error.path().unwrap_or(given).display();
    match error.io_error() {
        Some(why) => Failure::new(path, why),
        None => Failure::new(path, error),
    }
}
