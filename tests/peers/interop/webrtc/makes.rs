//! The stacks of other makes, what each can do, and how its program is run.

use std::path::PathBuf;
use std::sync::LazyLock;

use tokio::process::Command;

use crate::interop::Place;
use crate::interop::tools::{self, Missing, Program};
#[cfg(target_os = "linux")]
use crate::namespace::ADDR;

/// A stack of another make.
#[derive(Clone, Copy)]
pub(crate) struct Make {
    pub(crate) name: &'static str,
    pub(crate) program: Program,
    /// The largest message that it takes and sends, in bytes.
    pub(crate) largest: usize,
    /// Whether it sends messages without bytes.
    pub(crate) empty: bool,
    /// Whether it has channels whose ids both sides agreed on, as those of pings have.
    pub(crate) negotiated: bool,
    /// Whether it tells the ids of its channels.
    pub(crate) ids: bool,
    /// Where it finds an address.
    pub(crate) place: Place,
}

/// Every make that the scenarios run with.
pub(crate) const MAKES: &[Make] = &[
    LIBWEBRTC,
    make("webrtc::aiortc", aiortc, 64 * 1024),
    // It announces one byte more, and reads into a buffer of this size.
    make("webrtc::pion", pion, 65_535),
    CHROMIUM,
    make("webrtc::libdatachannel", libdatachannel, 256 * 1024),
    // It sends nothing where an empty message is to be sent.
    Make {
        empty: false,
        ..make("webrtc::werift", werift, 64 * 1024)
    },
    // For an empty message it sends nothing, and skips its sequence number, so that no other one of the stream arrives.
    Make {
        empty: false,
        ..make("webrtc::str0m", str0m, 256 * 1024)
    },
    // It looks for no address of loopback.
    #[cfg(target_os = "linux")]
    Make {
        negotiated: false,
        ids: false,
        place: Place::Namespace,
        ..make("webrtc::pion4", pion4, 65_535)
    },
    #[cfg(target_os = "linux")]
    Make {
        place: Place::Namespace,
        ..make("webrtc::firefox", firefox, 256 * 1024)
    },
];

const LIBWEBRTC: Make = make("webrtc::libwebrtc", libwebrtc, 256 * 1024);

pub(crate) const CHROMIUM: Make = make("webrtc::chromium", chromium, 256 * 1024);

const fn make(name: &'static str, program: Program, largest: usize) -> Make {
    Make {
        name,
        program,
        largest,
        empty: true,
        negotiated: true,
        ids: true,
        place: Place::Machine,
    }
}

/// The engine of the browsers.
fn libwebrtc() -> Result<Command, Missing> {
    in_node("libwebrtc")
}

fn libdatachannel() -> Result<Command, Missing> {
    in_node("libdatachannel")
}

fn werift() -> Result<Command, Missing> {
    in_node("werift")
}

/// The peer in Rust, which `ci/install-peers` builds.
fn str0m() -> Result<Command, Missing> {
    let folder = tools::installed("webrtc/str0m")?;
    Ok(Command::new(folder.join("str0m-peer")))
}

/// The current pion, as a process that one in JavaScript drives.
#[cfg(target_os = "linux")]
fn pion4() -> Result<Command, Missing> {
    if cfg!(not(target_arch = "x86_64")) {
        return Err(Missing {
            why: "no peer pion4: its program is for x86-64".to_owned(),
            excused: true,
        });
    }
    in_node("pion4")
}

/// The peer in JavaScript on this stack. Its program is copied once.
fn in_node(stack: &str) -> Result<Command, Missing> {
    static PROGRAM: LazyLock<Result<PathBuf, Missing>> = LazyLock::new(|| {
        let stacks = ["libwebrtc", "libdatachannel", "werift", "pion4"];
        for file in stacks.into_iter().chain(["negotiator", "channels"]) {
            tools::beside_modules("webrtc/js", &format!("{file}.mjs"))?;
        }
        tools::beside_modules("webrtc/js", "peer.mjs")
    });
    let mut command = Command::new(tools::node());
    command.arg(PROGRAM.clone()?).arg(stack);
    Ok(command)
}

/// The same engine in a page of a browser.
fn chromium() -> Result<Command, Missing> {
    page("channels", "shown")
}

/// A page that says names of multicast DNS instead of its addresses.
pub(super) fn hidden() -> Result<Command, Missing> {
    page("channels", "hidden")
}

/// A page of a browser, with the verbs of this file, whose addresses are shown or hidden.
pub(crate) fn page(verbs: &str, addresses: &str) -> Result<Command, Missing> {
    let browser = tools::program("chromium")?;
    let mut command = Command::new(tools::node());
    command
        .arg(tools::sources().join("webrtc/js/chromium.mjs"))
        .arg(browser)
        .args([verbs, addresses]);
    Ok(command)
}

/// The peer in Python.
fn aiortc() -> Result<Command, Missing> {
    let folder = tools::installed("webrtc/py")?;
    let mut command = Command::new(folder.join("venv/bin/python"));
    command.arg(tools::sources().join("webrtc/py/peer.py"));
    Ok(command)
}

/// The peer in Go, built once.
fn pion() -> Result<Command, Missing> {
    static PROGRAM: LazyLock<Result<PathBuf, Missing>> = LazyLock::new(|| {
        let packages = ["github.com/pion/webrtc", "github.com/pion/logging"];
        tools::build_go("webrtc/go", &packages)
    });
    PROGRAM.clone().map(Command::new)
}

/// Another engine, in a page of Firefox.
#[cfg(target_os = "linux")]
fn firefox() -> Result<Command, Missing> {
    firefox_page("channels")
}

/// A page of Firefox, with the verbs of this file.
#[cfg(target_os = "linux")]
pub(crate) fn firefox_page(verbs: &str) -> Result<Command, Missing> {
    let browser = tools::program("firefox-esr")?;
    let mut command = Command::new(tools::node());
    command
        .arg(tools::sources().join("webrtc/js/firefox.mjs"))
        .arg(browser)
        .args([verbs, ADDR]);
    Ok(command)
}
