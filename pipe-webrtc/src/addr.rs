use pipe_core::{Addr, Result};
use url::{Host, Url};

use crate::wire::Wire;

/// Prefix before the scheme of the signalling.
const PREFIX: &str = "webrtc+";

/// The schemes whose addresses have a path of their own behind the port, so that no name can follow.
const WITH_PATH: [&str; 1] = ["nats"];

/// The parts of an address besides that of the signalling.
#[derive(Clone, Debug)]
pub(crate) struct Target {
    /// The name to dial, or to be dialed by.
    pub(crate) name: Option<String>,
    pub(crate) wire: Wire,
    /// Whether the peer is on this machine.
    pub(crate) local: bool,
}

impl Target {
    /// Returns the same without a name.
    pub(crate) fn unnamed(&self) -> Self {
        Self {
            name: None,
            ..self.clone()
        }
    }
}

/// Splits an address into that of the signalling and the rest. `wire` is the default where it names
/// none.
pub(crate) fn signaling_addr(addr: &Addr, wire: Wire) -> Result<(Addr, Target)> {
    let text = addr.as_str().strip_prefix(PREFIX).unwrap_or(addr.as_str());
    let mut url = url_of(&Addr::parse(text)?)?;
    url.set_query(None);
    for (name, value) in addr.params() {
        if !matches!(name.as_str(), "wire" | "ping") {
            // It is for the signalling.
            url.query_pairs_mut().append_pair(&name, &value);
        } else if addr.params().filter(|(other, _)| *other == name).count() > 1 {
            return Err(addr.invalid(format!("the option {name:?} is given twice")));
        }
    }
    let wire = wire_of(addr, wire)?;
    let mut inner = Addr::parse(url.as_str())?;
    let mut target = Target {
        name: None,
        wire,
        local: is_local(&inner),
    };
    // A name can follow only where host and port are the whole address.
    let has_name = inner.port().is_some() && inner.path().len() > 1;
    if has_name && !WITH_PATH.contains(&inner.scheme()) {
        target.name = Some(inner.path()[1..].to_owned());
        url.set_path("");
        inner = Addr::parse(url.as_str())?;
    }
    Ok((inner, target))
}

/// Reads the options `wire` and `ping`. `wire` is the default where an address names none.
pub(crate) fn wire_of(addr: &Addr, wire: Wire) -> Result<Wire> {
    let raw = match pipe_core::Wire::named_in(addr)? {
        Some(named) => named == pipe_core::Wire::Raw,
        None => wire.is_raw(),
    };
    let named = addr.param("ping");
    let ping = match named.as_deref() {
        None => !matches!(wire, Wire::Raw { ping: false }),
        Some("on") => true,
        Some("off") => false,
        Some(other) => return Err(addr.invalid(format!("ping is on or off, not {other:?}"))),
    };
    if !raw && named.is_some() && !ping {
        return Err(addr.invalid("ping=off needs wire=raw, since the other wire pings"));
    }
    Ok(if raw { Wire::Raw { ping } } else { Wire::Pipe })
}

fn url_of(addr: &Addr) -> Result<Url> {
    Url::parse(addr.as_str()).map_err(|error| addr.invalid(error))
}

/// Returns the address over WebRTC whose signalling is at `inner`.
pub(crate) fn outer(inner: &Addr, target: &Target) -> Result<Addr> {
    let mut url = url_of(inner)?;
    if let Some(name) = &target.name {
        url.set_path(&format!("/{name}"));
    }
    let mut addr = Addr::parse(&format!("{PREFIX}{url}"))?;
    if let Wire::Raw { ping } = target.wire {
        addr = pipe_core::Wire::Raw.add_to(addr);
        if !ping {
            addr = addr.with_param("ping", "off");
        }
    }
    Ok(addr)
}

/// Returns whether the signalling at this address is on this machine.
pub(crate) fn is_local(inner: &Addr) -> bool {
    if inner.port().is_none() {
        // A name in this process, or a path.
        return true;
    }
    match inner.host().map(Host::parse) {
        Some(Ok(Host::Ipv4(ip))) => ip.is_loopback() || ip.is_unspecified(),
        Some(Ok(Host::Ipv6(ip))) => ip.is_loopback() || ip.is_unspecified(),
        Some(Ok(Host::Domain(name))) => name == "localhost" || name.ends_with(".localhost"),
        _ => false,
    }
}

/// Returns the scheme over WebRTC for one of the signalling. They are few, and those of a transport live as long as the program names them.
pub(crate) fn scheme_over(inner: &'static str) -> &'static str {
    use parking_lot::Mutex;
    static KNOWN: Mutex<Vec<&'static str>> = Mutex::new(Vec::new());
    let mut known = KNOWN.lock();
    let is = |scheme: &&&'static str| scheme.strip_prefix(PREFIX) == Some(inner);
    if let Some(scheme) = known.iter().find(is) {
        return scheme;
    }
    let scheme: &'static str = format!("{PREFIX}{inner}").leak();
    known.push(scheme);
    scheme
}

/// Returns the addresses of a connection whose signalling has none.
pub(crate) fn opaque_addrs() -> Result<(Addr, Addr)> {
    let local = Addr::opaque("webrtc")?;
    let remote = Addr::parse(&format!("{local}-peer"))?;
    Ok((local, remote))
}
