use std::sync::{Mutex, MutexGuard, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};

/// The machine that all attacks share.
#[derive(Debug, Default)]
pub(crate) struct Machine {
    whole: RwLock<()>,
    measured: Mutex<()>,
}

/// Holds a place on the machine.
pub(crate) enum Place<'a> {
    BesideOthers { _place: RwLockReadGuard<'a, ()> },
    Alone { _place: RwLockWriteGuard<'a, ()> },
}

impl Machine {
    /// Enters beside others, or alone where all sides are in this process, whose heap and descriptors are counted.
    pub(crate) fn enter(&self, alone: bool) -> Place<'_> {
        if alone {
            Place::Alone {
                _place: self.whole.write().unwrap_or_else(PoisonError::into_inner),
            }
        } else {
            Place::BesideOthers {
                _place: self.whole.read().unwrap_or_else(PoisonError::into_inner),
            }
        }
    }

    /// Waits until no other attack is measured, and keeps others from being so.
    pub(crate) fn measure(&self) -> MutexGuard<'_, ()> {
        self.measured.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
