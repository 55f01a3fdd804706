//! Which files of a crate import which, as their text says it.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use crate::structure::circles::Graph;

/// The modules of a crate that are files, by their paths in it.
pub(crate) struct Crate {
    modules: BTreeMap<Vec<String>, Module>,
}

struct Module {
    file: String,
    /// Paths that are named in the file, but for those that it only passes on.
    named: Vec<Vec<String>>,
    /// What another module finds here by these names, and where that comes from.
    passed_on: BTreeMap<String, Vec<String>>,
}

impl Crate {
    /// Reads a crate that begins with this file.
    pub(crate) fn read(root: &Path) -> Self {
        let mut modules = BTreeMap::new();
        let folder = root.parent().expect("a folder");
        read(root, folder, Vec::new(), &mut modules);
        Self { modules }
    }

    pub(crate) fn files(&self) -> usize {
        self.modules.len()
    }

    /// Returns for each file from which others it takes something.
    pub(crate) fn imports(&self) -> Graph {
        let mut graph = Graph::new();
        for module in self.modules.values() {
            let others = module.named.iter().filter_map(|path| self.file_of(path, 0));
            let others: BTreeSet<_> = others.filter(|file| *file != module.file).collect();
            graph.insert(module.file.clone(), others);
        }
        graph
    }

    /// The file in which the item of a path is defined.
    fn file_of(&self, path: &[String], passed: usize) -> Option<String> {
        let len = (0..=path.len())
            .rev()
            .find(|len| self.modules.contains_key(&path[..*len]))?;
        let module = &self.modules[&path[..len]];
        let item = path.get(len)?;
        match module.passed_on.get(item) {
            Some(from) if passed < 8 => {
                let from: Vec<_> = from.iter().chain(&path[len + 1..]).cloned().collect();
                self.file_of(&from, passed + 1)
            }
            _ => Some(module.file.clone()),
        }
    }
}

fn read(
    file: &Path,
    folder: &Path,
    path: Vec<String>,
    modules: &mut BTreeMap<Vec<String>, Module>,
) {
    let text = std::fs::read_to_string(file).expect("a source file");
    let words = words(&text);
    let mut module = Module {
        file: shown(file),
        named: Vec::new(),
        passed_on: BTreeMap::new(),
    };
    let mut children = Vec::new();
    let mut begun_here = Vec::new();
    let mut at = 0;
    while at < words.len() {
        let rest = &words[at..];
        match rest[0].as_str() {
            "mod" if rest.get(2).is_some_and(|word| word == ";") => {
                children.push(rest[1].clone());
                at += 3;
            }
            "use" if rest.get(1).is_some_and(|word| word != "<") => {
                let end = rest
                    .iter()
                    .position(|word| word == ";")
                    .unwrap_or(rest.len());
                let shared = at > 0 && matches!(words[at - 1].as_str(), "pub" | ")");
                for (used, name) in tree(&rest[1..end], &path) {
                    if let Some(name) = name {
                        module.passed_on.insert(name, used.clone());
                    }
                    if !shared {
                        module.named.push(used);
                    }
                }
                at += end;
            }
            first if is_name(first) && rest.get(1).is_some_and(|word| word == "::") => {
                let mut len = 1;
                while rest.get(len).is_some_and(|word| word == "::")
                    && rest.get(len + 1).is_some_and(|word| is_name(word))
                {
                    len += 2;
                }
                match absolute(&rest[..len], &path) {
                    Some(named) => module.named.push(named),
                    None => begun_here.push(&rest[..len]),
                }
                at += len;
            }
            _ => at += 1,
        }
    }
    for named in begun_here {
        let mut names = named.iter().filter(|word| *word != "::");
        let Some(first) = names.next() else { continue };
        let begin = match module.passed_on.get(first) {
            Some(from) => from.clone(),
            None if children.contains(first) => path.iter().chain([first]).cloned().collect(),
            None => continue,
        };
        module
            .named
            .push(begin.into_iter().chain(names.cloned()).collect());
    }
    for child in children {
        let of_child: Vec<_> = path.iter().cloned().chain([child.clone()]).collect();
        let below = folder.join(&child);
        let beside = folder.join(format!("{child}.rs"));
        let file = if beside.is_file() {
            beside
        } else {
            below.join("mod.rs")
        };
        if file.is_file() {
            read(&file, &below, of_child, modules);
        }
    }
    modules.insert(path, module);
}

fn shown(file: &Path) -> String {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    file.strip_prefix(root)
        .unwrap_or(file)
        .display()
        .to_string()
}

/// The words of a source text without comments, literals and tests.
fn words(text: &str) -> Vec<String> {
    let text = text
        .split("#[cfg(test)]\nmod tests {")
        .next()
        .expect("a part");
    let mut words = Vec::new();
    let mut rest = text;
    while let Some(first) = rest.chars().next() {
        let len = if let Some(comment) = rest.strip_prefix("//") {
            2 + comment.find('\n').unwrap_or(comment.len())
        } else if first == '"' {
            literal(rest)
        } else if rest.starts_with("::") {
            words.push("::".to_owned());
            2
        } else if first.is_alphanumeric() || first == '_' {
            let is_in = |c: char| c.is_alphanumeric() || c == '_';
            let len = rest.find(|c| !is_in(c)).unwrap_or(rest.len());
            words.push(rest[..len].to_owned());
            len
        } else if rest.starts_with("'\"'") {
            3
        } else {
            if !first.is_whitespace() {
                words.push(first.to_string());
            }
            first.len_utf8()
        };
        rest = &rest[len..];
    }
    words
}

/// The length of a string literal.
fn literal(text: &str) -> usize {
    let mut escaped = false;
    for (at, c) in text.char_indices().skip(1) {
        match c {
            _ if escaped => escaped = false,
            '\\' => escaped = true,
            '"' => return at + 1,
            _ => {}
        }
    }
    text.len()
}

fn is_name(word: &str) -> bool {
    word.starts_with(|c: char| c.is_alphabetic() || c == '_')
}

/// The path in the crate of one that is named in a module; `None` if it is in no module of the crate.
fn absolute(words: &[String], module: &[String]) -> Option<Vec<String>> {
    let mut names = words.iter().filter(|word| *word != "::").peekable();
    let mut path = match names.next()?.as_str() {
        "crate" => Vec::new(),
        "self" => module.to_vec(),
        "super" => parent(module)?,
        _ => return None,
    };
    while names.peek().is_some_and(|name| *name == "super") {
        path = parent(&path)?;
        names.next();
    }
    path.extend(names.cloned());
    Some(path)
}

fn parent(module: &[String]) -> Option<Vec<String>> {
    Some(module.split_last()?.1.to_vec())
}

/// What a `use` takes, and by which name it is found here.
fn tree(words: &[String], module: &[String]) -> Vec<(Vec<String>, Option<String>)> {
    leaves(words)
        .into_iter()
        .filter_map(|leaf| {
            let renamed = leaf.iter().position(|word| word == "as");
            let path = &leaf[..renamed.unwrap_or(leaf.len())];
            let in_crate = absolute(path, module).or_else(|| {
                // A child of the module.
                let child = path.iter().filter(|word| *word != "::").cloned();
                is_child(path).then(|| module.iter().cloned().chain(child).collect())
            })?;
            let name = leaf.last().filter(|name| is_name(name)).cloned();
            Some((in_crate, name))
        })
        .collect()
}

/// Whether a path may begin with a module of the file: that of another crate resolves to the file itself.
fn is_child(path: &[String]) -> bool {
    path.len() > 1 && path.first().is_some_and(|word| is_name(word))
}

/// The paths of a tree of braces. `self` in braces is what stands before them.
fn leaves(words: &[String]) -> Vec<Vec<String>> {
    let Some(open) = words.iter().position(|word| word == "{") else {
        return vec![words.to_vec()];
    };
    let prefix = &words[..open];
    let close = words
        .iter()
        .rposition(|word| word == "}")
        .unwrap_or(words.len());
    let mut parts = vec![Vec::new()];
    let mut depth = 0;
    for word in &words[open + 1..close] {
        match word.as_str() {
            "{" => depth += 1,
            "}" => depth -= 1,
            "," if depth == 0 => {
                parts.push(Vec::new());
                continue;
            }
            _ => {}
        }
        parts.last_mut().expect("a part").push(word.clone());
    }
    let mut all = Vec::new();
    for part in parts.into_iter().filter(|part| !part.is_empty()) {
        for leaf in leaves(&part) {
            let leaf = if leaf == ["self"] {
                prefix[..prefix.len() - 1].to_vec()
            } else {
                prefix.iter().cloned().chain(leaf).collect()
            };
            all.push(leaf);
        }
    }
    all
}

#[test]
fn a_use_is_taken_apart() {
    let taken = tree(&words("crate::a::{self, b::{C, D as E}, *}"), &[]);
    let named: Vec<_> = taken
        .iter()
        .map(|(path, name)| (path.join("::"), name.as_deref()))
        .collect();
    let expected = [
        ("a", Some("a")),
        ("a::b::C", Some("C")),
        ("a::b::D", Some("E")),
        ("a::*", None),
    ];
    assert_eq!(named, expected.map(|(path, name)| (path.to_owned(), name)));
    let module = ["x".to_owned(), "y".to_owned()];
    let path = |text| absolute(&words(text), &module).map(|path| path.join("::"));
    assert_eq!(path("super::super::z").as_deref(), Some("z"));
    assert_eq!(path("self::z").as_deref(), Some("x::y::z"));
    assert_eq!(path("std::fmt"), None);
    assert_eq!(words("a // b::c\n\"d \\\" e\" f"), ["a", "f"]);
}
