use std::collections::BTreeSet;
use std::sync::{Mutex, MutexGuard, PoisonError};

/// The groups whose commands run.
static RUNNING: Mutex<BTreeSet<u32>> = Mutex::new(BTreeSet::new());

/// The processes of a command, which are a group of their own. Dropping it ends them all, unless the command
/// has ended by itself.
#[derive(Debug)]
pub(super) struct Group(u32);

impl Group {
    /// Returns the group that a process leads. It must not have been waited for.
    pub(super) fn led_by(process: u32) -> Self {
        running().insert(process);
        Self(process)
    }

    /// Lets those go that the command has left behind on purpose: it has ended.
    pub(super) fn over(self) {
        running().remove(&self.0);
        std::mem::forget(self);
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        running().remove(&self.0);
        kill(self.0);
    }
}

/// Ends every command at once. The process is about to end without a drop.
pub(crate) fn kill_all() {
    for group in std::mem::take(&mut *running()) {
        kill(group);
    }
}

fn running() -> MutexGuard<'static, BTreeSet<u32>> {
    RUNNING.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(unix)]
fn kill(group: u32) {
    use rustix::process::{Pid, Signal, kill_process_group};
    if let Some(pid) = i32::try_from(group).ok().and_then(Pid::from_raw) {
        // One that has ended cannot be killed.
        let _ = kill_process_group(pid, Signal::KILL);
    }
}

/// Elsewhere the shell alone is ended, when its handle is dropped.
#[cfg(not(unix))]
fn kill(_: u32) {}
