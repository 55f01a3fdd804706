use std::fmt;
use std::path::{Component, Path, PathBuf};

use serde::{Deserialize, Serialize};

/// Maximum length of a path, in bytes.
const MAX_LEN: usize = 4096;

/// Suffix of the name of a partial file; the name begins with a dot.
pub(crate) const PART: &str = ".pipe.part";

/// A path below some folder, as it travels: relative, plain names divided by `/`.
///
/// It cannot name anything outside of the folder, unless a symbolic link in there does.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub(crate) struct RelPath(String);

impl RelPath {
    /// Checks a path.
    pub(crate) fn parse(text: &str) -> Result<Self, String> {
        let bad = |why: &str| Err(format!("the path {text:?} {why}"));
        if text.len() > MAX_LEN {
            return Err(format!(
                "a path has {} bytes, of {MAX_LEN} allowed",
                text.len()
            ));
        }
        if text.starts_with('/') {
            return bad("is absolute");
        }
        for name in text.split('/') {
            match name {
                "" => return bad("has an empty name in it"),
                "." | ".." => return bad("has . or .. in it"),
                _ if name.contains('\0') => return bad("has a zero byte in it"),
                _ if !is_plain(name) => return bad("has something in it that is no plain name"),
                _ if name.starts_with('.') && name.ends_with(PART) => {
                    return bad("is that of a file which is not whole");
                }
                _ => {}
            }
        }
        Ok(Self(text.to_owned()))
    }

    /// Returns the path of something on disk, given relative to its folder.
    pub(crate) fn from_disk(path: &Path) -> Result<Self, String> {
        let names: Option<Vec<_>> = path.iter().map(|name| name.to_str()).collect();
        match names {
            Some(names) => Self::parse(&names.join("/")),
            None => Err("its name is not UTF-8".to_owned()),
        }
    }

    pub(crate) fn as_str(&self) -> &str {
        &self.0
    }

    /// Returns its place in `folder`.
    pub(crate) fn below(&self, folder: &Path) -> PathBuf {
        let mut path = folder.to_owned();
        path.extend(self.0.split('/'));
        path
    }
}

/// Returns whether the system treats it as one plain name, and not, say, as a drive.
fn is_plain(name: &str) -> bool {
    let mut parts = Path::new(name).components();
    matches!((parts.next(), parts.next()), (Some(Component::Normal(part)), None) if part == name)
}

impl TryFrom<String> for RelPath {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        Self::parse(&text)
    }
}

impl From<RelPath> for String {
    fn from(path: RelPath) -> Self {
        path.0
    }
}

impl fmt::Display for RelPath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn plain_names_pass() {
        for text in [
            "a",
            "a/b.txt",
            "ä/日本",
            ".hidden",
            "a b/..c",
            "x.pipe.part",
        ] {
            let path = RelPath::parse(text).unwrap();
            let below = path.below(Path::new("folder"));
            let back = below.strip_prefix("folder").unwrap();
            assert_eq!(RelPath::from_disk(back).unwrap(), path);
        }
    }

    #[test]
    fn what_leads_elsewhere_is_refused_also_from_a_message() {
        for (text, why) in [
            ("", "has an empty name in it"),
            ("/etc/passwd", "is absolute"),
            ("..", "has . or .. in it"),
            ("a/../../b", "has . or .. in it"),
            ("a/./b", "has . or .. in it"),
            ("a//b", "has an empty name in it"),
            ("a/", "has an empty name in it"),
            ("a\0b", "has a zero byte in it"),
            ("a/.b.pipe.part", "is that of a file which is not whole"),
        ] {
            let shown = RelPath::parse(text).unwrap_err();
            assert_eq!(shown, format!("the path {text:?} {why}"));
            let json = serde_json::to_string(text).unwrap();
            let error = serde_json::from_str::<RelPath>(&json).unwrap_err();
            assert!(error.to_string().contains(why), "{error}");
        }
        assert!(RelPath::parse(&"a/".repeat(MAX_LEN)).is_err());
    }
}
