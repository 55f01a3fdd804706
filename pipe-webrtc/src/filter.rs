use std::net::IpAddr;
use std::str::FromStr;

use pipe_core::{Error, Result};

use crate::error::invalid;

/// Selects interfaces by the prefixes of their names. A denied one stays denied when it is allowed
/// too.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct InterfaceFilter {
    /// The beginnings of the names to use; all, if there are none here.
    pub allow: Vec<String>,
    /// The beginnings of the names not to use.
    pub deny: Vec<String>,
}

impl InterfaceFilter {
    /// Sets [`allow`](Self::allow).
    #[must_use]
    pub fn with_allow(mut self, allow: Vec<String>) -> Self {
        self.allow = allow;
        self
    }

    /// Sets [`deny`](Self::deny).
    #[must_use]
    pub fn with_deny(mut self, deny: Vec<String>) -> Self {
        self.deny = deny;
        self
    }

    pub(crate) fn passes(&self, name: &str) -> bool {
        let any = |prefixes: &[String]| prefixes.iter().any(|p| name.starts_with(p.as_str()));
        (self.allow.is_empty() || any(&self.allow)) && !any(&self.deny)
    }
}

/// Selects addresses by their networks. A denied one stays denied when it is allowed too.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct AddrFilter {
    /// The networks to use; all, if there are none here.
    pub allow: Vec<Network>,
    /// The networks not to use.
    pub deny: Vec<Network>,
}

impl AddrFilter {
    /// Sets [`allow`](Self::allow).
    #[must_use]
    pub fn with_allow(mut self, allow: Vec<Network>) -> Self {
        self.allow = allow;
        self
    }

    /// Sets [`deny`](Self::deny).
    #[must_use]
    pub fn with_deny(mut self, deny: Vec<Network>) -> Self {
        self.deny = deny;
        self
    }

    pub(crate) fn passes(&self, addr: IpAddr) -> bool {
        let any = |networks: &[Network]| networks.iter().any(|n| n.contains(addr));
        (self.allow.is_empty() || any(&self.allow)) && !any(&self.deny)
    }
}

/// A range of IP addresses, written like `10.0.0.0/8` (CIDR, RFC 4632).
///
/// ```
/// use pipe_webrtc::Network;
///
/// let network: Network = "10.0.0.0/8".parse()?;
/// assert!(network.contains("10.1.2.3".parse().unwrap()));
/// # Ok::<(), pipe_core::Error>(())
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Network {
    addr: IpAddr,
    bits: u8,
}

impl Network {
    /// Returns whether the address belongs to it.
    pub fn contains(&self, addr: IpAddr) -> bool {
        fn alike(a: u128, b: u128, width: u32, bits: u8) -> bool {
            bits == 0 || (a ^ b) >> (width - u32::from(bits)) == 0
        }
        match (self.addr, addr) {
            (IpAddr::V4(a), IpAddr::V4(b)) => alike(
                u128::from(a.to_bits()),
                u128::from(b.to_bits()),
                32,
                self.bits,
            ),
            (IpAddr::V6(a), IpAddr::V6(b)) => alike(a.to_bits(), b.to_bits(), 128, self.bits),
            _ => false,
        }
    }
}

impl FromStr for Network {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        let bad = || invalid(format!("{text:?} is no network of the form 10.0.0.0/8"));
        let (addr, bits) = text.split_once('/').ok_or_else(bad)?;
        let addr: IpAddr = addr.parse().map_err(|_| bad())?;
        let bits: u8 = bits.parse().map_err(|_| bad())?;
        if bits > if addr.is_ipv4() { 32 } else { 128 } {
            return Err(bad());
        }
        Ok(Self { addr, bits })
    }
}
