//! The comparison at the end: every file, read again from disk.

use std::fs::File;
use std::io;
use std::path::Path;

use sha2::{Digest as _, Sha256};

use crate::body::Digest;
use crate::failure::{At, Failure};
use crate::folder::{Folder, blocking};
use crate::rel_path::RelPath;
use crate::source::SourceFile;

/// Whether the copy of a file in each of the folders has the bytes of its source.
pub(crate) async fn compare_file(file: SourceFile, copies: [Folder; 2]) -> Result<(), Failure> {
    blocking(move || {
        let expected = hash(&file.on_disk).at(file.on_disk.display())?;
        for folder in &copies {
            let copy = file.path.below(folder.root());
            if hash(&copy).at(copy.display())? != expected {
                let why = format!("differs from its source {}", file.on_disk.display());
                return Err(Failure::new(copy.display(), why));
            }
        }
        Ok(())
    })
    .await
}

/// Whether there is such a folder in each of the folders.
pub(crate) async fn compare_folder(path: RelPath, copies: [Folder; 2]) -> Result<(), Failure> {
    blocking(move || {
        for folder in &copies {
            let copy = path.below(folder.root());
            if !copy.is_dir() {
                return Err(Failure::new(copy.display(), "there is no such folder"));
            }
        }
        Ok(())
    })
    .await
}

fn hash(path: &Path) -> io::Result<Digest> {
    let mut hash = Sha256::new();
    io::copy(&mut File::open(path)?, &mut hash)?;
    Ok(hash.finalize().into())
}
