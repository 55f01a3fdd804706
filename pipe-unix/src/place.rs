use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Path, PathBuf};

use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, percent_decode_str, percent_encode};
use pipe_core::{Addr, Error, ErrorKind, Result, Wire};
use socket2::SockAddr;
use tokio::net::unix::SocketAddr;

pub(crate) const SCHEME: &str = "unix";

/// Maximum length of the name of a socket, in bytes: the field `sun_path` of the system's
/// `sockaddr_un`, less the byte that ends a path or begins an abstract name.
const MAX_NAME: usize = if cfg!(any(
    target_os = "linux",
    target_os = "android",
    target_os = "illumos"
)) {
    107
} else {
    103
};

/// Characters that need no escape in the path of an address.
const ESCAPED: &AsciiSet = &NON_ALPHANUMERIC
    .remove(b'/')
    .remove(b'-')
    .remove(b'_')
    .remove(b'.')
    .remove(b'~')
    .remove(b'+')
    .remove(b',')
    .remove(b':')
    .remove(b'=');

/// The parts of a `unix://` address.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Place {
    pub(crate) name: Name,
    pub(crate) wire: Wire,
}

/// The name of a socket.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Name {
    /// A file, by its absolute path.
    Path(PathBuf),
    /// A name in Linux's abstract namespace, without the zero byte that it begins with there.
    Abstract(Vec<u8>),
    /// An abstract name that the system is to choose.
    Any,
}

impl Place {
    /// Reads an address.
    pub(crate) fn of(addr: &Addr) -> Result<Self> {
        addr.check_scheme(SCHEME)?;
        if let Some(host) = addr.host() {
            let why = format!(
                "there is no host, but {host:?} stands for one; an absolute path makes three \
                 slashes, as in unix:///run/app.sock"
            );
            return Err(addr.invalid(why));
        }
        if addr.port().is_some() || addr.has_user() {
            return Err(addr.invalid("there is neither a user nor a port"));
        }
        let name = Name::of(addr)?;
        addr.check_params(&["wire"])?;
        let wire = Wire::from_addr(addr)?;
        Ok(Self { name, wire })
    }

    /// Returns the name as the system has it.
    pub(crate) fn sock_addr(&self, addr: &Addr) -> Result<SockAddr> {
        let sock_addr = match &self.name {
            Name::Path(path) => SockAddr::unix(path),
            Name::Abstract(name) => {
                let name = [&[0], name.as_slice()].concat();
                SockAddr::unix(OsStr::from_bytes(&name))
            }
            Name::Any => SockAddr::unix(""),
        };
        sock_addr.map_err(|error| {
            let why = format!("invalid address {addr}: {error}");
            Error::with_source(ErrorKind::AddrInvalid, why, error)
        })
    }

    /// Returns the place as an address, or `None` where an address cannot express it: it has to be
    /// absolute and without segments of dots.
    pub(crate) fn to_addr(&self) -> Option<Addr> {
        let path = match &self.name {
            Name::Path(path) => percent_encode(path.as_os_str().as_bytes(), ESCAPED).to_string(),
            Name::Abstract(name) => format!("/@{}", percent_encode(name, ESCAPED)),
            Name::Any => "/@".into(),
        };
        let addr = Addr::parse(&format!("{SCHEME}://{path}")).ok()?;
        let addr = self.wire.add_to(addr);
        Self::of(&addr)
            .is_ok_and(|said| said == *self)
            .then_some(addr)
    }

    /// Returns the address of a socket, as the system reports it. A socket without a name gets an
    /// opaque one that cannot be dialed.
    pub(crate) fn addr_of(socket: &SocketAddr, wire: Wire) -> Result<Addr> {
        let named = |name| Self { name, wire }.to_addr();
        let path = socket.as_pathname().map(Path::to_owned).map(Name::Path);
        match path.or_else(|| abstract_name(socket)).and_then(named) {
            Some(addr) => Ok(addr),
            None => Addr::opaque(SCHEME),
        }
    }
}

impl Name {
    fn of(addr: &Addr) -> Result<Self> {
        let bytes = decode(addr)?;
        // A file of such a name in the root folder is written with %40.
        if addr.path().starts_with("/@") {
            return Self::abstracted(addr, &bytes[2..]);
        }
        if matches!(bytes.as_slice(), b"" | b"/") {
            return Err(addr.invalid("the path is missing"));
        }
        if bytes.contains(&0) {
            return Err(addr.invalid("a path has no zero byte in it"));
        }
        if bytes.ends_with(b"/") {
            return Err(addr.invalid("the path ends with a slash, not with a name"));
        }
        if bytes.len() > MAX_NAME {
            return Err(too_long(addr, "the path of a Unix socket", bytes.len()));
        }
        Ok(Self::Path(OsString::from_vec(bytes).into()))
    }

    fn abstracted(addr: &Addr, name: &[u8]) -> Result<Self> {
        if !cfg!(any(target_os = "linux", target_os = "android")) {
            return Err(addr.invalid("abstract names exist on Linux alone"));
        }
        if name.len() > MAX_NAME {
            return Err(too_long(addr, "an abstract name", name.len()));
        }
        Ok(if name.is_empty() {
            Self::Any
        } else {
            Self::Abstract(name.into())
        })
    }
}

/// Returns the bytes that the path of an address stands for.
fn decode(addr: &Addr) -> Result<Vec<u8>> {
    let path = addr.path();
    let is_escape = |rest: &str| {
        let digits = rest.as_bytes().get(..2);
        digits.is_some_and(|digits| digits.iter().all(u8::is_ascii_hexdigit))
    };
    if !path.split('%').skip(1).all(is_escape) {
        let why = "a % is not followed by two hexadecimal digits; the sign itself is %25";
        return Err(addr.invalid(why));
    }
    Ok(percent_decode_str(path).collect())
}

#[cfg(any(target_os = "linux", target_os = "android"))]
fn abstract_name(socket: &SocketAddr) -> Option<Name> {
    let name = socket.as_abstract_name()?;
    Some(Name::Abstract(name.into()))
}

#[cfg(not(any(target_os = "linux", target_os = "android")))]
fn abstract_name(_: &SocketAddr) -> Option<Name> {
    None
}

fn too_long(addr: &Addr, what: &str, len: usize) -> Error {
    let why = format!("{what} has at most {MAX_NAME} bytes on this system, and this one has {len}");
    addr.invalid(why)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Result<Place> {
        Place::of(&Addr::parse(text)?)
    }

    fn path(text: &str) -> Name {
        Name::Path(text.into())
    }

    #[test]
    fn an_address_is_a_path_and_a_wire() {
        for (text, name) in [
            ("unix:///run/app.sock", path("/run/app.sock")),
            ("unix:///tmp/a%20b%25/%C3%A4", path("/tmp/a b%/ä")),
            ("unix:///tmp/a b", path("/tmp/a b")),
            ("unix:///%40app", path("/@app")),
            ("unix:///tmp/@app", path("/tmp/@app")),
        ] {
            let place = read(text).unwrap();
            assert_eq!((place.name, place.wire), (name, Wire::Pipe), "{text}");
        }
        assert_eq!(read("unix:///a?wire=raw").unwrap().wire, Wire::Raw);
    }

    #[cfg(any(target_os = "linux", target_os = "android"))]
    #[test]
    fn an_at_sign_begins_an_abstract_name() {
        let name = |text| read(text).unwrap().name;
        assert_eq!(name("unix:///@app/1"), Name::Abstract(b"app/1".into()));
        assert_eq!(name("unix:///@a%00%ff"), Name::Abstract(b"a\0\xff".into()));
        assert_eq!(name("unix:///@"), Name::Any);
    }

    #[test]
    fn a_place_comes_back_from_its_address() {
        let mut names = vec![
            path("/run/app.sock"),
            path("/a b/%41?#@[é]"),
            path("/@app"),
            path("//x"),
            Name::Path(OsStr::from_bytes(b"/\xff\x01").into()),
        ];
        if cfg!(target_os = "linux") {
            names.push(Name::Abstract(b"0001f".into()));
            names.push(Name::Abstract(b"\0@/%".into()));
            names.push(Name::Any);
        }
        for name in names {
            for wire in [Wire::Pipe, Wire::Raw] {
                let place = Place {
                    name: name.clone(),
                    wire,
                };
                let addr = place.to_addr().unwrap();
                assert_eq!(Place::of(&addr).unwrap(), place, "{addr}");
            }
        }
    }

    #[test]
    fn what_an_address_cannot_say_has_none() {
        for text in ["app.sock", "/run/../app.sock", ""] {
            let place = Place {
                name: path(text),
                wire: Wire::Pipe,
            };
            assert_eq!(place.to_addr(), None, "{text}");
        }
        assert!(Place::of(&Addr::opaque(SCHEME).unwrap()).is_err());
    }

    #[test]
    fn what_makes_no_sense_is_refused_with_the_reason() {
        let long = format!("unix:///{}", "x".repeat(MAX_NAME));
        let limit = format!("at most {MAX_NAME} bytes on this system, and this one has");
        for (text, why) in [
            ("unix://run/app.sock", "\"run\" stands for one"),
            ("unix://~1", "\"~1\" stands for one"),
            ("unix://host:1/app.sock", "there is no host"),
            ("unix://", "the path is missing"),
            ("unix:///", "the path is missing"),
            ("unix:///run/", "ends with a slash"),
            ("unix:///a%00b", "no zero byte"),
            ("unix:///a%2", "not followed by two hexadecimal digits"),
            ("unix:///a%zz", "not followed by two hexadecimal digits"),
            (long.as_str(), limit.as_str()),
            ("unix:///a?wire=mud", "there are pipe and raw"),
            ("unix:///a?wier=raw", "the option \"wier\" is unknown"),
        ] {
            let error = read(text).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::AddrInvalid, "{text}");
            assert!(error.to_string().contains(why), "{error}");
        }
        let error = read("tcp://a:1").unwrap_err();
        assert_eq!(error.kind(), ErrorKind::AddrUnsupported);
    }

    #[test]
    fn the_longest_name_is_taken_by_the_system() {
        let longest = Name::Path(format!("/{}", "x".repeat(MAX_NAME - 1)).into());
        let mut names = vec![longest];
        if cfg!(target_os = "linux") {
            names.push(Name::Abstract(vec![b'x'; MAX_NAME]));
        }
        for name in names {
            let place = Place {
                name,
                wire: Wire::Pipe,
            };
            let addr = place.to_addr().unwrap();
            assert!(place.sock_addr(&addr).is_ok());
        }
    }
}
