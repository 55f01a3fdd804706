//! A network namespace: a network that this machine has beside its own. It takes root and iproute2.

use std::process::Command;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Mutex, PoisonError};

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

    pub(crate) fn name(&self) -> &str {
        &self.name
    }

    /// Runs ip(8) in it.
    pub(crate) fn ip(&self, args: &[&str]) -> Result<(), String> {
        ip(&[&["-n", &self.name], args].concat())
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
    let output = Command::new("ip").args(args).output();
    let output = output.map_err(|error| format!("ip {shown}: {error}"))?;
    if output.status.success() {
        return Ok(());
    }
    let said = String::from_utf8_lossy(&output.stderr);
    Err(format!("ip {shown}: {}", said.trim()))
}
