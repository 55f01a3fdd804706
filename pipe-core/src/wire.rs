use crate::{Addr, Result};

/// The protocol of a connection. An address names it in its option `wire`.
///
/// The documentation of each transport lists what is missing with a peer that speaks its plain protocol.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Wire {
    /// `pipe/1` (`?wire=pipe`, or no such option): both ends are pipewerks, and the contract holds.
    #[default]
    Pipe,
    /// The plain protocol under the transport (`?wire=raw`), for a peer of another make.
    Raw,
}

impl Wire {
    /// Reads the option `wire` of an address; where it is missing, the wire is [`Pipe`](Self::Pipe).
    ///
    /// # Errors
    ///
    /// [`AddrInvalid`](crate::ErrorKind::AddrInvalid) for a value other than `pipe` and `raw`.
    pub fn from_addr(addr: &Addr) -> Result<Self> {
        Self::named_in(addr).map(Option::unwrap_or_default)
    }

    /// Reads the option `wire` of an address. Returns `None` where it is missing.
    ///
    /// # Errors
    ///
    /// As in [`from_addr`](Self::from_addr).
    pub fn named_in(addr: &Addr) -> Result<Option<Self>> {
        match addr.param("wire").as_deref() {
            None => Ok(None),
            Some("pipe") => Ok(Some(Self::Pipe)),
            Some("raw") => Ok(Some(Self::Raw)),
            Some(other) => {
                let why = format!("the wire {other:?} is unknown; there are pipe and raw");
                Err(addr.invalid(why))
            }
        }
    }

    /// Adds the option `wire` to an address, unless this is the wire of an address without it.
    #[must_use]
    pub fn add_to(self, addr: Addr) -> Addr {
        match self {
            Self::Pipe => addr,
            Self::Raw => addr.with_param("wire", "raw"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_wire_is_read_as_it_is_written() {
        let addr = |text| Addr::parse(text).unwrap();
        for (text, wire) in [
            ("tcp://a:1", None),
            ("tcp://a:1?wire=pipe", Some(Wire::Pipe)),
            ("tcp://a:1?ping=off&wire=raw", Some(Wire::Raw)),
        ] {
            assert_eq!(Wire::named_in(&addr(text)).unwrap(), wire, "{text}");
            let wire = wire.unwrap_or(Wire::Pipe);
            assert_eq!(Wire::from_addr(&addr(text)).unwrap(), wire, "{text}");
            let written = wire.add_to(addr("tcp://a:1"));
            assert_eq!(Wire::from_addr(&written).unwrap(), wire, "{written}");
        }
    }

    #[test]
    fn an_unknown_wire_is_named_with_the_known_ones() {
        let error = Wire::from_addr(&Addr::parse("tcp://a:1?wire=mud").unwrap()).unwrap_err();
        assert_eq!(error.kind(), crate::ErrorKind::AddrInvalid);
        assert_eq!(
            error.to_string(),
            "invalid address tcp://a:1?wire=mud: the wire \"mud\" is unknown; there are pipe and raw"
        );
    }
}
