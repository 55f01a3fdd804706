use std::ffi::OsString;
use std::os::unix::ffi::OsStringExt;
use std::path::PathBuf;

use percent_encoding::percent_decode_str;
use pipe_core::{Addr, Result};

pub(crate) const SCHEME: &str = "fifo";

// ANCHOR: path_of
/// The path that an address stands for. Whatever else it says is refused: an option that is ignored
/// would be one that its user relies on in vain.
pub(crate) fn path_of(addr: &Addr) -> Result<PathBuf> {
    addr.check_scheme(SCHEME)?;
    if addr.host().is_some() || addr.port().is_some() || addr.has_user() {
        let why = "there is no host; an absolute path makes three slashes, as in fifo:///run/app";
        return Err(addr.invalid(why));
    }
    addr.check_params(&[])?;
    if addr.path().is_empty() || addr.path().ends_with('/') {
        return Err(addr.invalid("it names no file"));
    }
    let path: Vec<u8> = percent_decode_str(addr.path()).collect();
    if path.contains(&0) {
        return Err(addr.invalid("a path has no zero byte"));
    }
    Ok(OsString::from_vec(path).into())
}
// ANCHOR_END: path_of

#[cfg(test)]
mod tests {
    use std::path::Path;

    use pipe_core::ErrorKind;

    use super::*;

    #[test]
    fn an_address_is_a_path() {
        for (text, path) in [
            ("fifo:///run/app", "/run/app"),
            ("fifo:///tmp/a%20b%25", "/tmp/a b%"),
        ] {
            let addr = Addr::parse(text).unwrap();
            assert_eq!(path_of(&addr).unwrap(), Path::new(path));
        }
    }

    #[test]
    fn what_makes_no_sense_is_refused_with_the_reason() {
        for (text, kind, why) in [
            ("tcp://a:1", ErrorKind::AddrUnsupported, "no fifo://"),
            ("fifo://run/app", ErrorKind::AddrInvalid, "three slashes"),
            ("fifo:///a?b=c", ErrorKind::AddrInvalid, "option \"b\""),
            ("fifo:///run/", ErrorKind::AddrInvalid, "names no file"),
            ("fifo:///a%00", ErrorKind::AddrInvalid, "zero byte"),
        ] {
            let error = path_of(&Addr::parse(text).unwrap()).unwrap_err();
            assert_eq!(error.kind(), kind, "{text}");
            assert!(error.to_string().contains(why), "{error}");
        }
    }
}
