//! What the compiler does not see of the book: that its chapters, links, includes and code blocks are what
//! they claim to be.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

/// The languages of code blocks that nobody runs.
const PLAIN: [&str; 3] = ["toml", "text", "diff"];

fn source() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("src")
}

fn read(path: &Path) -> String {
    fs::read_to_string(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// The chapters in the order of the summary.
fn chapters() -> Vec<PathBuf> {
    let summary = source().join("SUMMARY.md");
    let links = links(&read(&summary));
    assert!(links.len() > 10, "the summary has lost its chapters");
    links.iter().map(|link| source().join(link)).collect()
}

/// The targets of the links in a text, without those in code.
fn links(text: &str) -> Vec<String> {
    let mut links = Vec::new();
    for (line, code) in lines(text) {
        if code.is_some() || line.starts_with("    ") {
            continue;
        }
        let prose: String = line.split('`').step_by(2).collect();
        // A link whose text is code leaves its brackets behind.
        for part in prose.split("](").skip(1) {
            let target = part.split(')').next().unwrap_or_default();
            links.push(target.to_owned());
        }
    }
    links
}

/// The lines of a text, each with the language of its code block if it is in one.
fn lines(text: &str) -> Vec<(&str, Option<&str>)> {
    let mut block = None;
    let mut lines = Vec::new();
    for line in text.lines() {
        if let Some(info) = line.strip_prefix("```") {
            block = if block.is_none() { Some(info) } else { None };
            continue;
        }
        lines.push((line, block));
    }
    assert_eq!(block, None, "a code block has no end");
    lines
}

/// The READMEs of the crates with their names.
fn readmes() -> Vec<(String, PathBuf)> {
    let root = source().join("../../..");
    let entries = fs::read_dir(root).unwrap();
    let folders = entries.map(|entry| entry.unwrap());
    let named = folders.map(|folder| {
        let name = folder.file_name().into_string().unwrap();
        (name, folder.path().join("README.md"))
    });
    named
        .filter(|(name, path)| name.starts_with("pipe-") && path.is_file())
        .collect()
}

/// The code blocks: what stands behind the fence, and the lines.
fn blocks(text: &str) -> Vec<(String, String)> {
    let mut blocks: Vec<(String, String)> = Vec::new();
    let mut inside = false;
    for line in text.lines() {
        if let Some(info) = line.strip_prefix("```") {
            inside = !inside;
            if inside {
                blocks.push((info.to_owned(), String::new()));
            }
        } else if inside && let Some((_, code)) = blocks.last_mut() {
            *code += line;
            code.push('\n');
        }
    }
    blocks
}

/// The file and the anchor of an include.
fn include(text: &str) -> Option<(&str, Option<&str>)> {
    let target = text
        .trim()
        .strip_prefix("{{#include ")?
        .strip_suffix("}}")?;
    Some(match target.rsplit_once(':') {
        Some((path, anchor)) => (path, Some(anchor)),
        None => (target, None),
    })
}

/// The file that a chapter shows, with its text: its own, or another one that it consists of.
fn shown(chapter: &Path) -> (PathBuf, String) {
    let text = read(chapter);
    match include(&text) {
        Some((path, None)) => {
            let path = chapter.with_file_name(path);
            let text = read(&path);
            (path, text)
        }
        _ => (chapter.to_owned(), text),
    }
}

/// The anchors that a text's headings have, as mdBook and GitHub make them.
fn anchors(text: &str) -> BTreeSet<String> {
    let heads = lines(text).into_iter().filter(|(_, code)| code.is_none());
    let heads = heads.filter_map(|(line, _)| line.strip_prefix('#'));
    heads
        .map(|head| {
            let head = head.trim_start_matches('#').trim().to_lowercase();
            let kept = head
                .chars()
                .filter(|c| c.is_alphanumeric() || " -_".contains(*c));
            kept.collect::<String>().replace(' ', "-")
        })
        .collect()
}

#[test]
fn every_file_is_a_chapter() {
    let mut chapters: BTreeSet<PathBuf> = chapters().into_iter().collect();
    for folder in [source(), source().join("adr")] {
        for entry in fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_file() && !path.ends_with("SUMMARY.md") {
                let name = path.display();
                assert!(chapters.remove(&path), "{name} is not in the summary");
            }
        }
    }
    assert_eq!(chapters, BTreeSet::new(), "the summary has more");
}

#[test]
fn every_decision_is_in_the_book() {
    let decisions = source().join("../../adr");
    for entry in fs::read_dir(decisions).unwrap() {
        let name = entry.unwrap().file_name();
        let chapter = source().join("adr").join(&name);
        assert!(
            name == "README.md" || chapter.is_file(),
            "{name:?} is not in the summary"
        );
    }
}

#[test]
fn every_link_leads_somewhere() {
    let mut seen = 0;
    for chapter in chapters() {
        let (path, text) = shown(&chapter);
        for link in links(&text) {
            if link.contains("://") {
                continue;
            }
            seen += 1;
            let (file, anchor) = link.split_once('#').unwrap_or((&link, ""));
            let target = match file {
                "" => path.clone(),
                file => path.with_file_name(file),
            };
            let place = format!("{} links to {link}", path.display());
            assert!(target.exists(), "{place}, which does not exist");
            if !anchor.is_empty() {
                let anchors = anchors(&read(&target));
                assert!(anchors.contains(anchor), "{place}; there are {anchors:?}");
            }
        }
    }
    assert!(seen > 50, "only {seen} links were found");
}

#[test]
fn every_include_has_something_to_include() {
    let mut seen = 0;
    for chapter in chapters() {
        let text = read(&chapter);
        for line in text.lines().filter(|line| line.contains("{{#")) {
            let place = format!("{}: {line}", chapter.display());
            let Some((path, anchor)) = include(line) else {
                panic!("{place} is no include");
            };
            let text = read(&chapter.with_file_name(path));
            if let Some(anchor) = anchor {
                for mark in [format!("ANCHOR: {anchor}"), format!("ANCHOR_END: {anchor}")] {
                    let found = text
                        .lines()
                        .filter(|line| line.trim_end_matches("-->").trim_end().ends_with(&mark));
                    assert_eq!(found.count(), 1, "{place}: {mark}");
                }
            }
            seen += 1;
        }
    }
    assert!(seen > 30, "only {seen} includes were found");
}

#[test]
fn the_rust_of_every_readme_is_run_somewhere() {
    let doctests = read(&source().with_file_name("lib.rs"));
    let readmes = readmes();
    assert!(readmes.len() >= 10, "only {readmes:?} were found");
    for (name, path) in readmes {
        for (info, code) in blocks(&read(&path)) {
            let listed = doctests.contains(&format!("{name}/README.md"));
            // It tests its own.
            let own = name == "pipe-conformance";
            let tested = info != "rust" || listed || own;
            assert!(
                tested,
                "{name}/README.md is not tested: add it to lib.rs\n{code}"
            );
        }
    }
}

/// Rust is compiled and run as a documentation test (`lib.rs`), or included from where it is; commands are
/// run by the test `book` of pipe-cli.
#[test]
fn every_code_block_is_run_somewhere() {
    let doctests = read(&source().with_file_name("lib.rs"));
    let mut kinds = BTreeSet::new();
    for chapter in chapters() {
        let name = chapter
            .strip_prefix(source())
            .unwrap()
            .display()
            .to_string();
        for (info, code) in blocks(&read(&chapter)) {
            let place = format!("{name}, ```{info}:\n{code}");
            match info.as_str() {
                "rust" => {
                    let listed = doctests.contains(&format!("\"src/{name}\""));
                    assert!(listed, "{place}is not tested: add the chapter to lib.rs");
                }
                "rs" => {
                    let included = code.lines().all(|line| include(line).is_some());
                    assert!(included, "{place}is neither included nor tested");
                }
                "sh listen" | "sh dial" => {}
                "sh" => {
                    let cargo = code.lines().all(|line| line.starts_with("cargo "));
                    assert!(cargo, "{place}has commands that nobody runs");
                }
                other => assert!(PLAIN.contains(&other), "{place}is of an unknown language"),
            }
            kinds.insert(info);
        }
    }
    for kind in ["rust", "rs", "sh listen", "sh dial"] {
        assert!(kinds.contains(kind), "there is no block of {kind}");
    }
}
