use std::collections::HashSet;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Instant;

use tokio::task::AbortHandle;

use super::mdns::{MdnsService, MulticastInterface};
use super::shared::Shared;
use crate::interfaces::interfaces;

/// Looks up the names of a connection, and answers for its own.
#[derive(Debug)]
pub(super) struct Resolver {
    pub(super) service: MdnsService,
    task: AbortHandle,
}

impl Resolver {
    /// Begins, on the interfaces that have these addresses.
    ///
    /// # Errors
    ///
    /// When no group of multicast DNS can be joined on them.
    pub(super) fn start(shared: &Arc<Shared>, addrs: &[SocketAddr]) -> io::Result<Self> {
        let (service, mut found) = MdnsService::start(multicast_interfaces(addrs))?;
        // It does not keep the connection.
        let shared = Arc::downgrade(shared);
        let task = tokio::spawn(async move {
            while let Some(lookup) = found.recv().await {
                let Some(shared) = shared.upgrade() else {
                    return;
                };
                shared.lock().note_looked_up(&lookup, Instant::now());
                shared.wake();
            }
        });
        Ok(Self {
            service,
            task: task.abort_handle(),
        })
    }
}

impl Drop for Resolver {
    fn drop(&mut self) {
        self.task.abort();
    }
}

fn multicast_interfaces(addrs: &[SocketAddr]) -> Vec<MulticastInterface> {
    // Without a list of interfaces those of IPv4 are left.
    let listed = interfaces().unwrap_or_default();
    let interface = |addr: &SocketAddr| match addr.ip() {
        IpAddr::V4(ip) => Some(MulticastInterface::V4(ip)),
        IpAddr::V6(_) => {
            let found = listed.iter().find(|one| one.ip == addr.ip())?;
            found.index.map(MulticastInterface::V6)
        }
    };
    let mut chosen: Vec<_> = addrs.iter().filter_map(interface).collect();
    // One interface may have several addresses.
    let mut seen = HashSet::new();
    chosen.retain(|one| seen.insert(*one));
    chosen
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn interfaces_are_named_once() {
        let addrs = ["127.0.0.1:1", "127.0.0.1:2"].map(|addr| addr.parse().unwrap());
        let chosen = multicast_interfaces(&addrs);
        assert_eq!(chosen.len(), 1);
    }
}
