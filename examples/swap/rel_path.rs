//! [`RelPath`]: the name of a file as it travels.

use std::fmt;
use std::path::{Component, Path, PathBuf};

/// How long a path may be, in bytes.
pub(crate) const MAX_PATH_LEN: usize = 4096;

/// A path below some folder: relative, its parts plain names divided by `/`.
///
/// It names nothing outside the folder that it is joined to, unless a symbolic link in there does.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct RelPath(String);

impl RelPath {
    /// Checks a path that came from elsewhere.
    pub(crate) fn parse(text: &str) -> Result<Self, BadPath> {
        let bad = |why: &str| BadPath(format!("bad path {text:?}: {why}"));
        if text.len() > MAX_PATH_LEN {
            return Err(BadPath(format!(
                "bad path: it is {} bytes long, and {MAX_PATH_LEN} are allowed",
                text.len()
            )));
        }
        if text.is_empty() {
            return Err(bad("it is empty"));
        }
        if text.starts_with('/') {
            return Err(bad("it is absolute"));
        }
        for part in text.split('/') {
            match part {
                "" => return Err(bad("it has an empty part")),
                "." | ".." => return Err(bad("it has a part that is . or ..")),
                _ if part.contains('\0') => return Err(bad("it has a zero byte in it")),
                // What else a system gives a meaning to, such as drives.
                _ if !is_plain_name(part) => {
                    return Err(bad("it has a part that is no plain name"));
                }
                _ => {}
            }
        }
        Ok(Self(text.to_owned()))
    }

    /// The path of something on disk, given relative to its folder.
    pub(crate) fn from_disk(path: &Path) -> Result<Self, BadPath> {
        let mut parts = Vec::new();
        for part in path.components() {
            let Some(part) = part.as_os_str().to_str() else {
                return Err(BadPath("its name is not UTF-8".to_owned()));
            };
            parts.push(part);
        }
        Self::parse(&parts.join("/"))
    }

    /// The path as text.
    pub(crate) fn as_str(&self) -> &str {
        &self.0
    }

    /// The paths of the folders that it lies in, the innermost first.
    pub(crate) fn parents(&self) -> impl Iterator<Item = &str> {
        self.0.rmatch_indices('/').map(|(at, _)| &self.0[..at])
    }

    /// Where it lies in `folder`.
    pub(crate) fn below(&self, folder: &Path) -> PathBuf {
        let mut path = folder.to_owned();
        path.extend(self.0.split('/'));
        path
    }
}

fn is_plain_name(part: &str) -> bool {
    let mut components = Path::new(part).components();
    matches!(
        (components.next(), components.next()),
        (Some(Component::Normal(name)), None) if name == part
    )
}

impl fmt::Display for RelPath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Why a path is not a [`RelPath`].
#[derive(Debug)]
pub(crate) struct BadPath(String);

impl fmt::Display for BadPath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for BadPath {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn plain_relative_paths_pass() {
        for text in ["a", "a/b.txt", "ä/日本/…", ".hidden", "a b/..c"] {
            let path = RelPath::parse(text).unwrap();
            assert_eq!(path.as_str(), text);
            let folder = Path::new("folder");
            let back = path.below(folder);
            let back = back.strip_prefix(folder).unwrap();
            assert_eq!(RelPath::from_disk(back).unwrap(), path);
        }
        let path = RelPath::parse("a/b/c").unwrap();
        assert_eq!(path.parents().collect::<Vec<_>>(), ["a/b", "a"]);
    }

    #[test]
    fn what_could_leave_the_folder_is_refused() {
        for (text, why) in [
            ("", "it is empty"),
            ("/etc/passwd", "it is absolute"),
            ("..", "it has a part that is . or .."),
            ("a/../../b", "it has a part that is . or .."),
            ("a/./b", "it has a part that is . or .."),
            ("a//b", "it has an empty part"),
            ("a/", "it has an empty part"),
            ("a\0b", "it has a zero byte in it"),
        ] {
            let shown = RelPath::parse(text).unwrap_err().to_string();
            assert_eq!(shown, format!("bad path {text:?}: {why}"));
        }
        assert!(RelPath::parse(&"a/".repeat(MAX_PATH_LEN)).is_err());
    }

    #[cfg(unix)]
    #[test]
    fn a_name_that_is_not_utf_8_is_refused() {
        use std::ffi::OsStr;
        use std::os::unix::ffi::OsStrExt;

        let error = RelPath::from_disk(Path::new(OsStr::from_bytes(b"a/\xff"))).unwrap_err();
        assert_eq!(error.to_string(), "its name is not UTF-8");
    }
}
