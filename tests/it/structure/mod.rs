//! Files of a crate import each other in no circle.

mod circles;
mod imports;

use std::path::Path;

use crate::structure::circles::circles;
use crate::structure::imports::Crate;

#[test]
fn no_files_import_each_other_in_a_circle() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut found = Vec::new();
    let mut files = 0;
    for folder in std::fs::read_dir(root).expect("the workspace") {
        let folder = folder.expect("an entry").path();
        let manifest = std::fs::read_to_string(folder.join("Cargo.toml")).unwrap_or_default();
        if manifest.contains("[workspace]") {
            // A workspace of its own, whose files are those of these crates.
            continue;
        }
        let lib = ["src/lib.rs", "src/main.rs"].map(|file| folder.join(file));
        for entry in lib.into_iter().filter(|file| file.is_file()) {
            let of = Crate::read(&entry);
            files += of.files();
            found.extend(circles(&of.imports()));
        }
    }
    assert!(files > 100, "only {files} files were found");
    let lines = found
        .iter()
        .map(|circle| format!("  {}\n", circle.join(" -> ")));
    assert!(
        found.is_empty(),
        "files import each other:\n{}",
        lines.collect::<String>()
    );
}
