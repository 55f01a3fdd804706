use pipe_core::{Addr, Result};
use pipe_net::HostPort;

use crate::subject::check_subject;

pub(crate) const SCHEME: &str = "nats";

/// The port of a NATS server where an address has none.
const PORT: u16 = 4222;

/// The parts of a `nats://` address.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct NatsAddr {
    pub(crate) servers: Servers,
    pub(crate) subject: String,
}

/// The servers that a client may connect to, the preferred one first.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Servers {
    pub(crate) at: Vec<HostPort>,
    pub(crate) tls: bool,
}

impl NatsAddr {
    /// Reads an address.
    pub(crate) fn of(addr: &Addr) -> Result<Self> {
        let first = HostPort::before_path(addr, SCHEME, Some(PORT))?;
        addr.check_params(&["servers", "tls"])?;
        let mut at = vec![first];
        for text in addr
            .param("servers")
            .iter()
            .flat_map(|list| list.split(','))
        {
            let server = server(text).ok_or_else(|| {
                let why = format!("{text:?} in servers is no host with a port or without one");
                addr.invalid(why)
            })?;
            if !at.contains(&server) {
                at.push(server);
            }
        }
        if at.iter().any(|server| server.port == 0) {
            return Err(addr.invalid("a server has no port 0"));
        }
        let tls = match addr.param("tls").as_deref() {
            None | Some("off") => false,
            Some("on") => true,
            Some(other) => return Err(addr.invalid(format!("tls is on or off, not {other:?}"))),
        };
        let Some(subject) = addr
            .path()
            .strip_prefix('/')
            .filter(|path| !path.is_empty())
        else {
            return Err(addr.invalid("the subject is missing: nats://host:port/subject"));
        };
        check_subject(subject).map_err(|why| addr.invalid(format!("{subject:?} {why}")))?;
        Ok(Self {
            servers: Servers { at, tls },
            subject: subject.to_owned(),
        })
    }

    /// Returns the address of a peer with this name, which cannot be dialed.
    pub(crate) fn peer(&self, name: &str) -> Result<Addr> {
        Addr::parse(&format!("{SCHEME}://{}/~{name}", self.servers.at[0]))
    }
}

fn server(text: &str) -> Option<HostPort> {
    let addr = Addr::parse(&format!("{SCHEME}://{text}")).ok()?;
    let is_bare = addr.path().is_empty() && addr.params().next().is_none();
    let at = HostPort::before_path(&addr, SCHEME, Some(PORT)).ok()?;
    is_bare.then_some(at)
}

#[cfg(test)]
mod tests {
    use pipe_core::ErrorKind;

    use super::*;

    fn read(text: &str) -> Result<NatsAddr> {
        NatsAddr::of(&Addr::parse(text)?)
    }

    #[test]
    fn an_address_is_servers_and_a_subject() {
        let addr = read("nats://a/jobs.eu-1").unwrap();
        assert_eq!(addr.servers.at, [HostPort::new("a", 4222)]);
        assert_eq!(
            (addr.subject.as_str(), addr.servers.tls),
            ("jobs.eu-1", false)
        );
        let addr = read("nats://a:1/jobs?servers=b,[::1]:2,a:1&tls=on").unwrap();
        let servers = [("a", 1), ("b", 4222), ("::1", 2)];
        let servers = servers.map(|(host, port)| HostPort::new(host, port));
        assert_eq!(addr.servers.at, servers);
        assert!(addr.servers.tls);
        let peer = addr.peer("00ff").unwrap();
        assert_eq!(peer.as_str(), "nats://a:1/~00ff");
        assert!(NatsAddr::of(&peer).is_err());
    }

    #[test]
    fn what_makes_no_sense_is_refused_with_the_reason() {
        for (text, why) in [
            ("nats:///jobs", "the host is missing"),
            ("nats://a:1", "the subject is missing"),
            ("nats://a:1/", "the subject is missing"),
            ("nats://a:1/jobs/x", "is no subject"),
            ("nats://a:1/jobs.*", "is no subject"),
            ("nats://a:1/a..b", "is no subject"),
            ("nats://a:1/$SYS.x", "is no subject"),
            ("nats://me:secret@a:1/x", "there is no user"),
            ("nats://a:1/x?servers=b:1/y", "no host with a port"),
            ("nats://a:1/x?servers=", "no host with a port"),
            ("nats://a:0/x", "no port 0"),
            ("nats://a:1/x?tls=maybe", "on or off"),
            ("nats://a:1/x?wire=raw", "\"wire\" is unknown"),
        ] {
            let error = read(text).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::AddrInvalid, "{text}");
            assert!(error.to_string().contains(why), "{error}");
        }
        let error = read("tcp://a:1").unwrap_err();
        assert_eq!(error.kind(), ErrorKind::AddrUnsupported);
    }
}
