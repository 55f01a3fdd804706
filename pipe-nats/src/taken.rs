use std::collections::HashSet;
use std::sync::Arc;

use parking_lot::Mutex;

use crate::addr::NatsAddr;

/// The addresses that listeners of a transport use.
#[derive(Clone, Debug, Default)]
pub(crate) struct Addresses(Arc<Mutex<HashSet<NatsAddr>>>);

/// An address that a listener uses. A drop gives it back.
#[derive(Debug)]
pub(crate) struct Taken {
    addresses: Addresses,
    addr: NatsAddr,
}

impl Addresses {
    /// Takes an address, unless it is in use.
    pub(crate) fn take(&self, addr: &NatsAddr) -> Option<Taken> {
        let is_free = self.0.lock().insert(addr.clone());
        is_free.then(|| Taken {
            addresses: self.clone(),
            addr: addr.clone(),
        })
    }
}

impl Drop for Taken {
    fn drop(&mut self) {
        self.addresses.0.lock().remove(&self.addr);
    }
}
