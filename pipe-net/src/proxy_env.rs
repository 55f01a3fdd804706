use pipe_core::{Error, Result};

use crate::no_proxy::NoProxy;
use crate::proxy::Proxy;

/// The proxies that the environment names. A variable that names none is an error where it would be used.
#[derive(Clone, Debug)]
pub(crate) struct ProxyEnv {
    secure: Option<Result<Proxy>>,
    plain: Option<Result<Proxy>>,
    all: Option<Result<Proxy>>,
}

impl ProxyEnv {
    /// Reads variables: the proxies, and the hosts that need none. Lower case goes before upper case, and an empty variable
    /// is none.
    pub(crate) fn read(variable: impl Fn(&str) -> Option<String>) -> (Self, NoProxy) {
        let first = |names: &[&'static str]| {
            names.iter().find_map(|name| {
                let value = variable(name)?;
                let value = value.trim();
                (!value.is_empty()).then(|| (*name, value.to_owned()))
            })
        };
        let proxy = |names: &[&'static str]| {
            first(names).map(|(name, value)| {
                Proxy::parse(&value).map_err(|error| {
                    let why = format!("the environment variable {name}: {error}");
                    Error::with_source(error.kind(), why, error)
                })
            })
        };
        let proxies = Self {
            secure: proxy(&["https_proxy", "HTTPS_PROXY"]),
            // In upper case it is a header of a request, wherever a web server runs a program by CGI.
            plain: proxy(&["http_proxy"]),
            all: proxy(&["all_proxy", "ALL_PROXY"]),
        };
        let except = first(&["no_proxy", "NO_PROXY"]);
        let except = except.map_or_else(NoProxy::default, |(_, list)| NoProxy::parse(&list));
        (proxies, except)
    }

    /// Returns the proxy for addresses of a scheme.
    pub(crate) fn proxy(&self, scheme: &str) -> Result<Option<&Proxy>> {
        let own = match scheme {
            "tls" | "wss" | "turns" | "webrtc+https" => &self.secure,
            "ws" | "webrtc+http" => &self.plain,
            _ => &None,
        };
        match own.as_ref().or(self.all.as_ref()) {
            Some(Ok(proxy)) => Ok(Some(proxy)),
            Some(Err(error)) => Err(error.clone()),
            None => Ok(None),
        }
    }
}

#[cfg(test)]
mod tests {
    use pipe_core::ErrorKind;

    use super::*;
    use crate::host_port::HostPort;

    fn read(variables: &[(&str, &str)]) -> (ProxyEnv, NoProxy) {
        ProxyEnv::read(|name| {
            let found = variables.iter().find(|(own, _)| *own == name);
            found.map(|(_, value)| (*value).to_owned())
        })
    }

    fn proxy(variables: &[(&str, &str)], scheme: &str) -> Option<String> {
        let (env, _) = read(variables);
        env.proxy(scheme).unwrap().map(ToString::to_string)
    }

    #[test]
    fn each_scheme_has_its_variable_and_one_is_for_all() {
        let set = [
            ("https_proxy", "http://s:1"),
            ("http_proxy", "http://p:1"),
            ("all_proxy", "socks5://a:1"),
        ];
        for (scheme, expected) in [
            ("tls", "http://s:1"),
            ("wss", "http://s:1"),
            ("turns", "http://s:1"),
            ("ws", "http://p:1"),
            ("tcp", "socks5://a:1"),
            ("turn", "socks5://a:1"),
        ] {
            assert_eq!(proxy(&set, scheme).as_deref(), Some(expected), "{scheme}");
            let all = proxy(&set[2..], scheme);
            assert_eq!(all.as_deref(), Some("socks5://a:1"), "{scheme}");
            assert_eq!(proxy(&[], scheme), None);
        }
        assert_eq!(proxy(&set[..2], "tcp"), None);
    }

    #[test]
    fn lower_case_goes_first_and_an_empty_variable_is_none() {
        let both = [("ALL_PROXY", "b:1"), ("all_proxy", "a:1")];
        assert_eq!(proxy(&both, "tcp").unwrap(), "http://a:1");
        let empty = [("ALL_PROXY", "b:1"), ("all_proxy", " ")];
        assert_eq!(proxy(&empty, "tcp").unwrap(), "http://b:1");
        assert_eq!(
            proxy(&[("HTTPS_PROXY", "b:1")], "tls").unwrap(),
            "http://b:1"
        );
        // A client of a web server sets this one.
        assert_eq!(proxy(&[("HTTP_PROXY", "b:1")], "ws"), None);
        let (_, except) = read(&[("NO_PROXY", "a"), ("no_proxy", "b")]);
        assert!(except.contains(&HostPort::new("b", 1)));
        assert!(!except.contains(&HostPort::new("a", 1)));
    }

    #[test]
    fn a_variable_that_names_no_proxy_is_an_error_where_it_counts() {
        let set = [
            ("HTTPS_PROXY", "https://me:secret@s:1"),
            ("all_proxy", "a:1"),
        ];
        let (env, _) = read(&set);
        let error = env.proxy("wss").unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Unsupported);
        let shown = error.to_string();
        assert!(shown.contains("variable HTTPS_PROXY"), "{shown}");
        assert!(!shown.contains("secret"), "{shown}");
        assert_eq!(env.proxy("tcp").unwrap().unwrap().to_string(), "http://a:1");
    }
}
