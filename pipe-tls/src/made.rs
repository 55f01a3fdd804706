use std::sync::Arc;

use parking_lot::Mutex;
use pipe_core::Result;

use crate::{CertPins, Identity, server_name};

/// The identities made on the spot for listeners that were given none: one for each host, kept so
/// that an address with its hash can be listened on again.
#[derive(Clone, Debug, Default)]
pub(crate) struct Made {
    lasting: Identities,
    short_lived: Identities,
}

/// Identities, with the hosts that they are for.
type Identities = Arc<Mutex<Vec<(String, Identity)>>>;

impl Made {
    /// Returns the one with such a hash, else the one for this host.
    pub(crate) fn get(&self, host: &str, pins: CertPins) -> Result<Identity> {
        get(&self.lasting, host, pins, Identity::self_signed)
    }

    /// Returns the same of those that live for days only.
    pub(crate) fn get_short_lived(&self, host: &str, pins: CertPins) -> Result<Identity> {
        get(&self.short_lived, host, pins, Identity::short_lived)
    }
}

fn get(
    made: &Identities,
    host: &str,
    pins: CertPins,
    make: impl FnOnce(Vec<String>) -> Result<Identity>,
) -> Result<Identity> {
    let mut made = made.lock();
    let pinned = made.iter().find(|(_, made)| pins.contains(made.sha256()));
    if let Some((_, identity)) = pinned.or_else(|| made.iter().find(|(of, _)| of == host)) {
        return Ok(identity.clone());
    }
    let mut names = ["localhost", "127.0.0.1", "::1"]
        .map(str::to_owned)
        .to_vec();
    if !names.iter().any(|name| name == host) && server_name(host).is_ok() {
        names.push(host.to_owned());
    }
    let identity = make(names)?;
    made.push((host.to_owned(), identity.clone()));
    Ok(identity)
}
