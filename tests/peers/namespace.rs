//! A network namespace: a network that this machine has beside its own. It takes root and iproute2.

use std::fs::File;
use std::io::Write;
use std::os::fd::AsFd;
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Mutex, PoisonError};

use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};
use tokio::runtime::{Builder, Runtime};

/// The address of the interface of [`Namespace::with_interface`].
pub(crate) const ADDR: &str = "10.77.0.1";

/// A network namespace, which is removed when this is dropped.
pub(crate) struct Namespace {
    name: String,
}

impl Namespace {
    /// A new one with this in its name, or why there is none.
    pub(crate) fn new(name: &str) -> Result<Self, String> {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        // Who makes the first namespace of the machine prepares the folder for all.
        static MAKING: Mutex<()> = Mutex::new(());
        let _turn = MAKING.lock().unwrap_or_else(PoisonError::into_inner);
        let number = COUNT.fetch_add(1, Ordering::Relaxed);
        let name = format!("pipe-{}-{number}-{name}", std::process::id());
        ip(&["netns", "add", &name])?;
        Ok(Self { name })
    }

    /// One that has loopback, and an interface with a route to everywhere, at whose other end nothing is.
    pub(crate) fn with_interface(name: &str) -> Result<Self, String> {
        let namespace = Self::new(name)?;
        let addr = format!("{ADDR}/24");
        namespace.ip(&["link", "set", "lo", "up"])?;
        namespace.ip(&[
            "link", "add", "out0", "type", "veth", "peer", "name", "end0",
        ])?;
        namespace.ip(&["addr", "add", &addr, "dev", "out0"])?;
        namespace.ip(&["link", "set", "out0", "up"])?;
        namespace.ip(&["link", "set", "end0", "up"])?;
        namespace.ip(&["route", "add", "default", "via", "10.77.0.2", "dev", "out0"])?;
        Ok(namespace)
    }

    pub(crate) fn name(&self) -> &str {
        &self.name
    }

    /// Runs ip(8) in it.
    pub(crate) fn ip(&self, args: &[&str]) -> Result<(), String> {
        ip(&[&["-n", &self.name], args].concat())
    }

    /// Runs nft(8) in it, with these rules.
    pub(crate) fn nft(&self, rules: &str) -> Result<(), String> {
        let child = Command::new("ip")
            .args(["netns", "exec", &self.name, "nft", "-f", "-"])
            .stdin(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn();
        let mut child = child.map_err(|error| format!("nft: {error}"))?;
        let mut input = child.stdin.take().expect("its input");
        // Where it has ended at once, its output says why.
        let _ = input.write_all(rules.as_bytes());
        drop(input);
        done("nft", child.wait_with_output())
    }

    /// Lets packets pass from one interface to another (ip_forward), which the whole namespace does then.
    pub(crate) fn forward(&self) -> Result<(), String> {
        self.inside(|| std::fs::write("/proc/sys/net/ipv4/ip_forward", "1"))?
            .map_err(|error| format!("ip_forward: {error}"))
    }

    /// Runs something in a thread that is in the namespace, as are those that it starts.
    pub(crate) fn inside<T, F>(&self, work: F) -> Result<T, String>
    where
        T: Send + 'static,
        F: FnOnce() -> T + Send + 'static,
    {
        let place = File::open(Path::new("/run/netns").join(&self.name));
        let place = place.map_err(|error| format!("{}: {error}", self.name))?;
        let inside = std::thread::spawn(move || {
            move_into_link_name_space(place.as_fd(), Some(LinkNameSpaceType::Network))
                .map_err(|error| error.to_string())?;
            Ok(work())
        });
        match inside.join() {
            Ok(ran) => ran,
            Err(panic) => std::panic::resume_unwind(panic),
        }
    }

    /// Returns a runtime whose tasks are in the namespace.
    pub(crate) fn runtime(&self) -> Result<Runtime, String> {
        let build = || {
            Builder::new_multi_thread()
                .worker_threads(1)
                .enable_all()
                .build()
        };
        self.inside(build)?.map_err(|error| error.to_string())
    }
}

impl Drop for Namespace {
    fn drop(&mut self) {
        if let Err(error) = ip(&["netns", "delete", &self.name]) {
            eprintln!("a network namespace is left behind: {error}");
        }
    }
}

/// Runs ip(8) of iproute2.
fn ip(args: &[&str]) -> Result<(), String> {
    let shown = args.join(" ");
    done(
        &format!("ip {shown}"),
        Command::new("ip").args(args).output(),
    )
}

/// Returns what a program said if it has failed.
fn done(what: &str, output: std::io::Result<std::process::Output>) -> Result<(), String> {
    let output = output.map_err(|error| format!("{what}: {error}"))?;
    if output.status.success() {
        return Ok(());
    }
    let said = String::from_utf8_lossy(&output.stderr);
    Err(format!("{what}: {}", said.trim()))
}
