use std::collections::HashMap;
use std::sync::Arc;

use data_encoding::HEXLOWER;
use parking_lot::Mutex;
use pipe_core::{Error, ErrorKind, Result};
use tokio::sync::{mpsc, oneshot, watch};

use super::fragment::Fragment;
use crate::signaling::Signal;

/// Length of the name of a resource: 128 random bits in hex digits.
const NAME_LEN: usize = 32;

/// Maximum number of patches of a resource that wait for its negotiation. Beyond, they are answered with 429.
const PATCHES: usize = 8;

/// The connections of a listener that were asked for, by the names of their resources. Each is as old as its handshake, and
/// lives as long as its connection: so they are as many as these.
#[derive(Debug, Default)]
pub(crate) struct Resources(Mutex<HashMap<String, Arc<Resource>>>);

/// What the peer of a connection can change and delete.
#[derive(Debug)]
pub(crate) struct Resource {
    ice: Mutex<IceSession>,
    patches: mpsc::Sender<Patch>,
    deleted: watch::Sender<bool>,
}

/// The session of ICE: it is another one after each restart (RFC 9725, section 4.3.1).
#[derive(Clone, Debug)]
pub(crate) struct IceSession {
    /// The entity tag, with its quotes.
    pub(crate) tag: String,
    /// The peer's offer, with the credentials of this session.
    pub(crate) offer: String,
    /// The credentials of the peer, without its candidates.
    pub(crate) peer: Fragment,
    /// What this side answered to the restart that began the session; none for the first one.
    pub(crate) own: Option<Fragment>,
}

/// Signals of a peer that has patched its resource.
#[derive(Debug)]
pub(crate) struct Patch {
    pub(crate) signals: Vec<Signal>,
    /// Takes what this side says of ICE now, where ICE restarts.
    pub(crate) restarted: Option<oneshot::Sender<Fragment>>,
}

/// Keeps a resource as long as it lives.
#[derive(Debug)]
pub(crate) struct Entry {
    resources: Arc<Resources>,
    pub(crate) name: String,
    pub(crate) resource: Arc<Resource>,
}

impl Resources {
    /// Adds a resource for this offer. Returns the patches of the peer as well.
    pub(crate) fn add(self: &Arc<Self>, offer: &str) -> Result<(Entry, mpsc::Receiver<Patch>)> {
        let name = HEXLOWER.encode(&random::<{ NAME_LEN / 2 }>()?);
        let (patches, patched) = mpsc::channel(PATCHES);
        let ice = IceSession {
            tag: fresh_tag()?,
            peer: Fragment::parse(offer)?.with_candidates([], false),
            offer: offer.to_owned(),
            own: None,
        };
        let resource = Arc::new(Resource {
            ice: Mutex::new(ice),
            patches,
            deleted: watch::Sender::new(false),
        });
        self.0.lock().insert(name.clone(), resource.clone());
        let entry = Entry {
            resources: self.clone(),
            name,
            resource,
        };
        Ok((entry, patched))
    }

    pub(crate) fn find(&self, name: &str) -> Option<Arc<Resource>> {
        self.0.lock().get(name).cloned()
    }

    /// Deletes a resource. Returns whether there was one.
    pub(crate) fn delete(&self, name: &str) -> bool {
        let removed = self.0.lock().remove(name);
        if let Some(resource) = &removed {
            resource.deleted.send_replace(true);
        }
        removed.is_some()
    }
}

impl Resource {
    /// Returns the session of ICE.
    pub(crate) fn ice(&self) -> IceSession {
        self.ice.lock().clone()
    }

    /// Begins another session of ICE, to which this side has answered `own`. Returns its tag.
    pub(crate) fn restart(&self, offer: String, peer: &Fragment, own: Fragment) -> Result<String> {
        let tag = fresh_tag()?;
        *self.ice.lock() = IceSession {
            tag: tag.clone(),
            offer,
            peer: peer.with_candidates([], false),
            own: Some(own),
        };
        Ok(tag)
    }

    /// Hands a patch to the negotiation, unless too many wait for it or it is over.
    pub(crate) fn patch(&self, patch: Patch) -> Result<(), mpsc::error::TrySendError<Patch>> {
        self.patches.try_send(patch)
    }

    /// Waits until the peer has deleted the resource.
    pub(crate) async fn deleted(&self) {
        // The sender is this.
        let _ = self.deleted.subscribe().wait_for(|deleted| *deleted).await;
    }
}

#[cfg(test)]
impl Entry {
    pub(crate) fn resources(&self) -> &Resources {
        &self.resources
    }
}

impl Drop for Entry {
    fn drop(&mut self) {
        self.resources.0.lock().remove(&self.name);
    }
}

/// Returns whether a part of a path can be the name of a resource.
pub(crate) fn is_name(part: &str) -> bool {
    let is_digit = |byte: u8| matches!(byte, b'0'..=b'9' | b'a'..=b'f');
    part.len() == NAME_LEN && part.bytes().all(is_digit)
}

/// Returns an entity tag that no other session has.
fn fresh_tag() -> Result<String> {
    Ok(format!("\"{}\"", HEXLOWER.encode(&random::<8>()?)))
}

fn random<const N: usize>() -> Result<[u8; N]> {
    let mut bytes = [0; N];
    getrandom::fill(&mut bytes).map_err(|error| {
        let why = format!("no random bytes: {error}");
        Error::new(ErrorKind::Io, why)
    })?;
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use futures::FutureExt;

    use super::*;

    const OFFER: &str = "a=ice-ufrag:abcd\r\na=ice-pwd:0123456789012345678901\r\n";

    #[test]
    fn a_resource_has_a_name_of_its_own_as_long_as_it_lives() {
        let resources = Arc::new(Resources::default());
        let (first, _patches) = resources.add(OFFER).unwrap();
        let (second, _patches) = resources.add(OFFER).unwrap();
        assert!(is_name(&first.name) && is_name(&second.name));
        assert_ne!(first.name, second.name);
        assert_ne!(first.resource.ice().tag, second.resource.ice().tag);
        let name = second.name.clone();
        assert!(resources.find(&name).is_some());
        drop(second);
        assert!(resources.find(&name).is_none());
        assert!(first.resource.deleted().now_or_never().is_none());
        assert!(resources.delete(&first.name));
        assert!(!resources.delete(&first.name));
        assert!(first.resource.deleted().now_or_never().is_some());
    }

    #[test]
    fn a_restart_changes_the_tag() {
        let resources = Arc::new(Resources::default());
        let (entry, _patches) = resources.add(OFFER).unwrap();
        let IceSession {
            tag,
            offer,
            peer,
            own,
        } = entry.resource.ice();
        assert_eq!(own, None);
        let other = entry.resource.restart(offer, &peer, peer.clone()).unwrap();
        assert_ne!(other, tag);
        assert_eq!(entry.resource.ice().tag, other);
        assert_eq!(entry.resource.ice().own, Some(peer));
    }

    #[test]
    fn patches_that_wait_are_few() {
        let resources = Arc::new(Resources::default());
        let (entry, _patches) = resources.add(OFFER).unwrap();
        let patch = || {
            entry.resource.patch(Patch {
                signals: Vec::new(),
                restarted: None,
            })
        };
        assert_eq!((0..100).filter(|_| patch().is_ok()).count(), PATCHES);
    }
}
