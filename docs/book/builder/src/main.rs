//! Builds the book into `docs/book/html`, and checks that every link in it leads somewhere.
//!
//! It is mdBook without what only its command line needs, so that it compiles in less than a minute.

use std::collections::BTreeSet;
use std::error::Error;
use std::fs;
use std::path::{Component, Path, PathBuf};
use std::process::ExitCode;

use mdbook_driver::MDBook;
use mdbook_driver::book::{Book, BookItem, Chapter};
use mdbook_preprocessor::{Preprocessor, PreprocessorContext};

fn main() -> ExitCode {
    match build(&Path::new(env!("CARGO_MANIFEST_DIR")).join("..")) {
        Ok(pages) => {
            println!("docs/book/html has {pages} pages");
            ExitCode::SUCCESS
        }
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn build(root: &Path) -> Result<usize, Box<dyn Error>> {
    let root = root.canonicalize()?;
    let mut book = MDBook::load(&root)?;
    book.with_preprocessor(LinksOfIncludes);
    book.build()?;

    let html = root.join("html");
    let mut pages = Vec::new();
    find_pages(&html, &mut pages)?;
    let mut dead = BTreeSet::new();
    for page in &pages {
        // Every page stands in the one for printing, too, and there its links are anchors.
        if page.ends_with("print.html") {
            continue;
        }
        let text = fs::read_to_string(page)?;
        for target in targets(&text) {
            let file = target.split(['#', '?']).next().unwrap_or_default();
            if !file.is_empty() && !page.with_file_name(file).exists() {
                let page = page.strip_prefix(&html)?.display();
                dead.insert(format!("{page} links to {target}"));
            }
        }
    }
    if !dead.is_empty() {
        let dead = Vec::from_iter(dead).join("\n  ");
        return Err(format!("links that lead nowhere:\n  {dead}").into());
    }
    Ok(pages.len())
}

/// A chapter may be nothing but another file. The links in that file are relative to its own place.
struct LinksOfIncludes;

impl Preprocessor for LinksOfIncludes {
    fn name(&self) -> &str {
        "links-of-includes"
    }

    fn run(
        &self,
        context: &PreprocessorContext,
        mut book: Book,
    ) -> mdbook_driver::errors::Result<Book> {
        let source = context.root.join(&context.config.book.src);
        book.for_each_mut(|item| {
            if let BookItem::Chapter(chapter) = item {
                relink(&source, chapter);
            }
        });
        Ok(book)
    }
}

fn relink(source: &Path, chapter: &mut Chapter) {
    let Some(path) = &chapter.source_path else {
        return;
    };
    let folder = path.parent().unwrap_or(Path::new(""));
    let stub = fs::read_to_string(source.join(path)).unwrap_or_default();
    let included = stub.trim().strip_prefix("{{#include ");
    let Some(included) = included.and_then(|rest| rest.strip_suffix("}}")) else {
        return;
    };
    let included = plain(&source.join(folder).join(included));
    let docs = plain(&source.join("../.."));
    let mut parts = chapter.content.split("](");
    let mut content = parts.next().unwrap_or_default().to_owned();
    for part in parts {
        let (target, rest) = part.split_once(')').unwrap_or((part, ""));
        let (file, anchor) = target.split_at(target.find('#').unwrap_or(target.len()));
        let moved = if file.is_empty() || file.contains("://") {
            file.to_owned()
        } else {
            let file = plain(&included.with_file_name(file));
            // What is a file of the documentation may be a chapter of the book.
            let chapter = file.strip_prefix(&docs).map(|name| source.join(name));
            let there = match chapter {
                Ok(chapter) if chapter.is_file() => chapter,
                _ => file,
            };
            relative(&plain(&source.join(folder)), &there)
        };
        content += &format!("]({moved}{anchor}){rest}");
    }
    chapter.content = content;
}

/// The path without its dots.
fn plain(path: &Path) -> PathBuf {
    let mut plain = PathBuf::new();
    for part in path.components() {
        match part {
            Component::ParentDir => drop(plain.pop()),
            Component::CurDir => {}
            part => plain.push(part),
        }
    }
    plain
}

/// The way from a folder to a file.
fn relative(from: &Path, to: &Path) -> String {
    let mut base = from;
    let mut up = String::new();
    loop {
        if let Ok(rest) = to.strip_prefix(base) {
            return format!("{up}{}", rest.display());
        }
        up += "../";
        base = base.parent().unwrap_or(Path::new(""));
    }
}

fn find_pages(folder: &Path, pages: &mut Vec<PathBuf>) -> std::io::Result<()> {
    for entry in fs::read_dir(folder)? {
        let path = entry?.path();
        if path.is_dir() {
            find_pages(&path, pages)?;
        } else if path
            .extension()
            .is_some_and(|extension| extension == "html")
        {
            pages.push(path);
        }
    }
    Ok(())
}

/// The targets of the links of a page that are files.
fn targets(html: &str) -> Vec<&str> {
    let links = ["href=\"", "src=\""]
        .into_iter()
        .flat_map(|attribute| html.split(attribute).skip(1));
    links
        .filter_map(|rest| rest.split('"').next())
        .filter(|target| !target.contains(':') && !target.starts_with('/'))
        .collect()
}
