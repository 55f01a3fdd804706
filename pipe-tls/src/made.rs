use std::sync::Arc;

use parking_lot::Mutex;
use pipe_core::Result;

use crate::{CertSha256, Identity, server_name};

/// The identities made on the spot for listeners that were given none: one for each host, kept so
/// that an address with its hash can be listened on again.
#[derive(Clone, Debug, Default)]
pub(crate) struct Made(Arc<Mutex<Vec<(String, Identity)>>>);

impl Made {
    /// Returns the one with this hash, else the one for this host.
    pub(crate) fn get(&self, host: &str, pin: Option<CertSha256>) -> Result<Identity> {
        let mut made = self.0.lock();
        let pinned = made.iter().find(|(_, made)| Some(made.sha256()) == pin);
        if let Some((_, identity)) = pinned.or_else(|| made.iter().find(|(of, _)| of == host)) {
            return Ok(identity.clone());
        }
        let mut names = vec!["localhost", "127.0.0.1", "::1"];
        if !names.contains(&host) && server_name(host).is_ok() {
            names.push(host);
        }
        let identity = Identity::self_signed(names)?;
        made.push((host.to_owned(), identity.clone()));
        Ok(identity)
    }
}
