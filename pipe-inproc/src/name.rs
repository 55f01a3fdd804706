use pipe_core::{Addr, Result};

use crate::LinkProfile;

pub(crate) const SCHEME: &str = "inproc";

/// The parts of an `inproc://` address.
#[derive(Debug, PartialEq)]
pub(crate) struct Name {
    /// The host and the path; empty where the transport is to choose.
    pub(crate) text: String,
    pub(crate) link: Option<LinkProfile>,
}

impl Name {
    pub(crate) fn of(addr: &Addr) -> Result<Self> {
        addr.check_scheme(SCHEME)?;
        let invalid = |why: &str| Err(addr.invalid(why));
        if addr.port().is_some() {
            return invalid("a name in this process has no port");
        }
        if addr.has_user() {
            return invalid("a name in this process has no user");
        }
        addr.check_params(&["link"])?;
        let mut link = None;
        if let Some(value) = addr.param("link") {
            let preset = LinkProfile::PRESETS.iter().find(|(name, _)| *name == value);
            let Some((_, profile)) = preset else {
                let known = LinkProfile::PRESETS.map(|(name, _)| name).join(", ");
                return invalid(&format!("the link {value:?} is unknown; there are {known}"));
            };
            link = Some(*profile);
        }
        let host = addr.host().unwrap_or_default();
        let text = format!("{host}{}", addr.path().trim_end_matches('/'));
        Ok(Self { text, link })
    }
}

#[cfg(test)]
mod tests {
    use pipe_core::ErrorKind;

    use super::*;

    fn name(text: &str) -> Result<Name> {
        Name::of(&Addr::parse(text).unwrap())
    }

    #[test]
    fn a_name_is_host_and_path() {
        assert_eq!(name("inproc://a").unwrap().text, "a");
        assert_eq!(name("inproc://a/").unwrap().text, "a");
        assert_eq!(name("inproc://a/b").unwrap().text, "a/b");
        assert_eq!(name("inproc://").unwrap().text, "");
        assert_eq!(
            name("inproc://a?link=wifi").unwrap().link,
            Some(LinkProfile::wifi())
        );
    }

    #[test]
    fn what_makes_no_sense_is_refused_with_the_reason() {
        for (text, kind, why) in [
            (
                "tcp://a:1",
                ErrorKind::AddrUnsupported,
                "is no inproc:// address",
            ),
            ("inproc://a:80", ErrorKind::AddrInvalid, "has no port"),
            ("inproc://me@a", ErrorKind::AddrInvalid, "has no user"),
            (
                "inproc://a?lnk=wifi",
                ErrorKind::AddrInvalid,
                "the option \"lnk\" is unknown",
            ),
            (
                "inproc://a?link=wlan",
                ErrorKind::AddrInvalid,
                "ideal, lan, wifi, mobile, satellite",
            ),
        ] {
            let error = name(text).unwrap_err();
            assert_eq!(error.kind(), kind, "{text}");
            assert!(error.to_string().contains(why), "{error}");
        }
    }
}
