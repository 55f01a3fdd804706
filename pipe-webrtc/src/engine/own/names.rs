//! Names of multicast DNS in the candidates of a connection.

use std::collections::HashMap;
use std::net::IpAddr;

use is::Candidate;

use super::candidate::{NamedCandidate, RemoteCandidate};
use super::mdns::Lookup;

/// Maximum number of candidates that wait for their addresses. Further ones are left out.
const MAX_WAITING: usize = 64;

/// The names of both sides.
#[derive(Debug, Default)]
pub(super) struct Names {
    /// Candidates of the peer that wait for their addresses.
    waiting: Vec<NamedCandidate>,
    /// Names among them that are not looked up yet.
    new: Vec<String>,
    /// What stands for the addresses of this side.
    own: HashMap<IpAddr, String>,
}

impl Names {
    /// Keeps a candidate of the peer until its name is looked up.
    pub(super) fn wait(&mut self, named: NamedCandidate) {
        if self.waiting.len() == MAX_WAITING {
            tracing::debug!(name = named.name(), "a name of the peer is left out");
            return;
        }
        let is_known = self.waiting.iter().any(|one| one.name() == named.name());
        if !is_known {
            self.new.push(named.name().to_owned());
        }
        self.waiting.push(named);
    }

    /// Forgets the candidates of the peer: those that follow are of another description.
    pub(super) fn forget(&mut self) {
        self.waiting.clear();
        self.new.clear();
    }

    /// Returns the names that are to be looked up.
    pub(super) fn take_new(&mut self) -> Vec<String> {
        std::mem::take(&mut self.new)
    }

    /// Takes the outcome of a lookup. Returns the candidates with their addresses.
    pub(super) fn looked_up(&mut self, lookup: &Lookup) -> Vec<Candidate> {
        let (name, ip) = match lookup {
            Lookup::Found { name, ip } => (name, Some(*ip)),
            Lookup::NotFound { name } => {
                tracing::debug!(%name, "a name of the peer is not found");
                (name, None)
            }
        };
        let is_it = |one: &mut NamedCandidate| one.name() == *name;
        let named: Vec<_> = self.waiting.extract_if(.., is_it).collect();
        let resolved = |named: NamedCandidate| match named.resolved(ip?) {
            RemoteCandidate::Addr(candidate) => Some(candidate),
            RemoteCandidate::Unused(why) => {
                tracing::debug!(%name, why, "a name of the peer is of no use");
                None
            }
            RemoteCandidate::Name(_) | RemoteCandidate::End => None,
        };
        named.into_iter().filter_map(resolved).collect()
    }

    /// Lets a name stand for an address of this side.
    pub(super) fn hide(&mut self, ip: IpAddr, name: String) {
        self.own.insert(ip, name);
    }

    /// Returns the name that stands for an address of this side.
    pub(super) fn of(&self, ip: IpAddr) -> Option<&str> {
        self.own.get(&ip).map(String::as_str)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn named(name: &str, port: u16) -> NamedCandidate {
        let text = format!("candidate:1 1 udp 9 {name}.local {port} typ host");
        match RemoteCandidate::parse(&text) {
            Ok(RemoteCandidate::Name(named)) => named,
            other => panic!("{other:?}"),
        }
    }

    fn found(name: &str, ip: &str) -> Lookup {
        Lookup::Found {
            name: format!("{name}.local"),
            ip: ip.parse().unwrap(),
        }
    }

    #[test]
    fn candidates_get_their_addresses_and_each_name_is_looked_up_once() {
        let mut names = Names::default();
        for (name, port) in [("a", 1), ("b", 2), ("a", 3)] {
            names.wait(named(name, port));
        }
        assert_eq!(names.take_new(), ["a.local", "b.local"]);
        assert!(names.take_new().is_empty());
        let candidates = names.looked_up(&found("a", "192.0.2.1"));
        let addrs: Vec<_> = candidates
            .iter()
            .map(|one| one.addr().to_string())
            .collect();
        assert_eq!(addrs, ["192.0.2.1:1", "192.0.2.1:3"]);
        assert!(names.looked_up(&found("a", "192.0.2.1")).is_empty());
        assert!(names.looked_up(&found("b", "224.0.0.1")).is_empty());
        assert!(names.waiting.is_empty());
        names.wait(named("c", 1));
        let name = "c.local".to_owned();
        assert!(names.looked_up(&Lookup::NotFound { name }).is_empty());
        assert!(names.waiting.is_empty());
    }

    #[test]
    fn names_of_an_earlier_description_are_forgotten_and_bounded() {
        let mut names = Names::default();
        for port in 1..1000 {
            names.wait(named(&port.to_string(), port));
        }
        assert_eq!(names.waiting.len(), MAX_WAITING);
        assert_eq!(names.new.len(), MAX_WAITING);
        names.forget();
        assert!(names.take_new().is_empty());
        assert!(names.looked_up(&found("1", "192.0.2.1")).is_empty());
    }
}
