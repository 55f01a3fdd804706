//! The memory scenarios, in the program that counts.

use std::io;
use std::path::Path;
use std::process::{Command, Stdio};

use pipe_bench::Comparison;

/// What they are called together.
pub(crate) const NAME: &str = "idle streams and connections";

const PROGRAM: &str = "pipe-bench-memory";

/// Runs the program that counts, and reads what it found out.
///
/// It is expected beside this program. Under `cargo run`, which builds one program only, it is built
/// here.
pub(crate) fn measure(subject: &str, rounds: usize) -> io::Result<Vec<Comparison>> {
    if let Some(cargo) = std::env::var_os("CARGO") {
        build(Path::new(&cargo))?;
    }
    let name = format!("{PROGRAM}{}", std::env::consts::EXE_SUFFIX);
    let program = std::env::current_exe()?.with_file_name(name);
    let output = Command::new(&program)
        .arg(subject)
        .args(["--rounds", &rounds.to_string()])
        .stderr(Stdio::inherit())
        .output()
        .map_err(|error| {
            failure(&format!(
                "{}: {error}; `cargo build -p pipe-bench` builds it",
                program.display()
            ))
        })?;
    if !output.status.success() {
        return Err(failure(&format!(
            "{}: {}",
            program.display(),
            output.status
        )));
    }
    Ok(serde_json::from_slice(&output.stdout)?)
}

fn build(cargo: &Path) -> io::Result<()> {
    let mut build = Command::new(cargo);
    build
        .args([
            "build",
            "--quiet",
            "--package",
            "pipe-bench",
            "--bin",
            PROGRAM,
        ])
        .current_dir(env!("CARGO_MANIFEST_DIR"));
    if cfg!(feature = "rivals") {
        build.args(["--features", "rivals"]);
    }
    if !cfg!(debug_assertions) {
        build.arg("--release");
    }
    // What `cargo run` has told this program of its package is no news for others: build scripts that look
    // at it, as that of ring does, would build their crates anew, and once more at the next run.
    for (name, _) in std::env::vars_os() {
        if is_of_package(&name.to_string_lossy()) {
            build.env_remove(name);
        }
    }
    let status = build.status()?;
    if !status.success() {
        return Err(failure(&format!("building {PROGRAM}: {status}")));
    }
    Ok(())
}

/// Whether cargo sets this variable for the programs that it runs, from their packages.
fn is_of_package(variable: &str) -> bool {
    [
        "CARGO_PKG_",
        "CARGO_MANIFEST_",
        "CARGO_BIN_",
        "CARGO_CRATE_",
    ]
    .iter()
    .any(|prefix| variable.starts_with(prefix))
}

fn failure(message: &str) -> io::Error {
    io::Error::other(message.to_owned())
}
