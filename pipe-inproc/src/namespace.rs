use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::fmt;
use std::sync::{Arc, LazyLock, Weak};

use parking_lot::Mutex;

use crate::desk::Desk;

/// A registry of `inproc://` names. Clones stand for the same namespace.
///
/// Transports share the namespace of the process unless they are given one of their own, as for
/// tests that run concurrently.
#[derive(Clone)]
pub struct Namespace(Arc<Mutex<HashMap<String, Weak<Desk>>>>);

impl Namespace {
    /// An empty namespace, apart from all others.
    #[expect(
        clippy::new_without_default,
        reason = "the default is the one of the process"
    )]
    pub fn new() -> Self {
        Self(Arc::default())
    }

    /// Returns the namespace of the process.
    pub fn of_process() -> Self {
        static OF_PROCESS: LazyLock<Namespace> = LazyLock::new(Namespace::new);
        OF_PROCESS.clone()
    }

    /// Registers a listener. Returns whether the name was free.
    pub(crate) fn claim(&self, name: &str, desk: &Arc<Desk>) -> bool {
        match self.0.lock().entry(name.to_owned()) {
            Entry::Occupied(mut taken) if taken.get().strong_count() == 0 => {
                taken.insert(Arc::downgrade(desk));
                true
            }
            Entry::Occupied(_) => false,
            Entry::Vacant(free) => {
                free.insert(Arc::downgrade(desk));
                true
            }
        }
    }

    pub(crate) fn find(&self, name: &str) -> Option<Arc<Desk>> {
        self.0.lock().get(name)?.upgrade()
    }

    /// Frees the name, if this listener has it.
    pub(crate) fn free(&self, name: &str, desk: &Arc<Desk>) {
        let mut names = self.0.lock();
        if names
            .get(name)
            .is_some_and(|taken| taken.as_ptr() == Arc::as_ptr(desk))
        {
            names.remove(name);
        }
    }
}

impl fmt::Debug for Namespace {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let names = self.0.lock();
        let mut names: Vec<_> = names.keys().collect();
        names.sort_unstable();
        f.debug_tuple("Namespace").field(&names).finish()
    }
}
