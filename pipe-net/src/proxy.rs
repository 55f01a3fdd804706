use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use pipe_core::{Error, ErrorKind, Result};
use tokio::net::TcpStream;
use url::Url;

use crate::host_port::HostPort;
use crate::http_connect;
use crate::login::Login;
use crate::refusal::Refusal;
use crate::socks5;

/// A proxy that dials go through: HTTP with CONNECT (RFC 9110, section 9.3.6), or SOCKS5 (RFC 1928).
///
/// | Address | Proxy |
/// |---|---|
/// | `http://host:3128` | HTTP with CONNECT; port 80 where there is none |
/// | `host:3128` | the same |
/// | `socks5://host:1080`, `socks5h://host:1080` | SOCKS5; port 1080 where there is none |
///
/// A user and a password go before the host, `http://user:password@host:3128`, with percent-encoding (RFC 3986) where they have
/// `@`, `:` or `/` in them. HTTP takes them as RFC 7617 (Basic) has it, SOCKS5 as RFC 1929. Everyone on the way to the
/// proxy can read them.
///
/// The proxy resolves the names that are dialed: this side need not be able to, and tells no resolver of its own. There is
/// no difference between `socks5://` and `socks5h://`, as programs with both have it.
///
/// [`Display`](fmt::Display) and [`Debug`](fmt::Debug) leave the user and the password out.
#[derive(Clone, PartialEq, Eq)]
pub struct Proxy(Arc<Inner>);

#[derive(PartialEq, Eq)]
struct Inner {
    kind: ProxyKind,
    at: HostPort,
    login: Option<Login>,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum ProxyKind {
    Http,
    Socks5,
}

impl Proxy {
    /// Reads the address of a proxy.
    ///
    /// # Errors
    ///
    /// [`Unsupported`](ErrorKind::Unsupported) for `https://`, which would be a proxy under TLS, and
    /// [`ConfigInvalid`](ErrorKind::ConfigInvalid) for everything else that is no address of a proxy. No error has the
    /// user and the password in it.
    pub fn parse(text: &str) -> Result<Self> {
        let text = text.trim();
        let invalid = |why: &str| invalid(text, why);
        let url = if text.contains("://") {
            Url::parse(text)
        } else {
            Url::parse(&format!("http://{text}"))
        };
        let url = url.map_err(|error| invalid(&error.to_string()))?;
        let (kind, default_port) = match url.scheme() {
            "http" => (ProxyKind::Http, 80),
            "socks5" | "socks5h" => (ProxyKind::Socks5, 1080),
            "https" => {
                let why = format!(
                    "the proxy {}: a proxy under TLS is not supported; http:// asks it in the clear, and tls:// and \
                     wss:// are safe behind it all the same",
                    shown(text)
                );
                return Err(Error::new(ErrorKind::Unsupported, why));
            }
            _ => return Err(invalid("there are http:// and socks5://")),
        };
        let Some(host) = url.host_str().filter(|host| !host.is_empty()) else {
            return Err(invalid("the host is missing"));
        };
        if !matches!(url.path(), "" | "/") || url.query().is_some() || url.fragment().is_some() {
            return Err(invalid("there is nothing after the port"));
        }
        let port = url.port().unwrap_or(default_port);
        if port == 0 {
            return Err(invalid("the port is 0"));
        }
        let at = HostPort::new(host, port);
        let login = Login::of(&url, kind == ProxyKind::Socks5).map_err(invalid)?;
        Ok(Self(Arc::new(Inner { kind, at, login })))
    }

    /// Returns where the proxy is.
    pub fn host_port(&self) -> &HostPort {
        &self.0.at
    }

    /// Asks the proxy at the other end of a socket for a connection.
    pub(crate) async fn ask(&self, socket: TcpStream, to: &HostPort) -> Result<TcpStream, Refusal> {
        let login = self.0.login.as_ref();
        match self.0.kind {
            ProxyKind::Http => http_connect::ask(socket, to, login).await,
            ProxyKind::Socks5 => socks5::ask(socket, to, login).await,
        }
    }
}

fn invalid(text: &str, why: &str) -> Error {
    let why = format!("{:?} is no address of a proxy: {why}", shown(text));
    Error::new(ErrorKind::ConfigInvalid, why)
}

/// Returns the address of a proxy without its user and password, whatever it is.
fn shown(text: &str) -> String {
    let (scheme, rest) = match text.split_once("://") {
        Some((scheme, rest)) => (format!("{scheme}://"), rest),
        None => (String::new(), text),
    };
    let rest = rest.rsplit_once('@').map_or(rest, |(_, at)| at);
    match rest.rsplit_once(':') {
        // It may be a password, where the host was forgotten.
        Some((host, port))
            if !port.bytes().all(|byte| byte.is_ascii_digit()) && !port.ends_with(']') =>
        {
            format!("{scheme}{host}:…")
        }
        _ => format!("{scheme}{rest}"),
    }
}

impl FromStr for Proxy {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        Self::parse(text)
    }
}

impl fmt::Display for Proxy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let scheme = match self.0.kind {
            ProxyKind::Http => "http",
            ProxyKind::Socks5 => "socks5",
        };
        write!(f, "{scheme}://{}", self.0.at)
    }
}

impl fmt::Debug for Proxy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Proxy")
            .field(&format_args!("{self}"))
            .finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_names_a_proxy() {
        for (text, read) in [
            ("http://a:3128", "http://a:3128"),
            ("http://a", "http://a:80"),
            ("a:3128", "http://a:3128"),
            ("me:secret@a:3128", "http://a:3128"),
            (" http://a:3128/ ", "http://a:3128"),
            ("socks5://a", "socks5://a:1080"),
            ("SOCKS5H://me:secret@a:9", "socks5://a:9"),
            ("socks5://[::1]:9", "socks5://[::1]:9"),
            ("http://[::1]", "http://[::1]:80"),
            ("http://127.0.0.1:9", "http://127.0.0.1:9"),
        ] {
            assert_eq!(Proxy::parse(text).unwrap().to_string(), read, "{text}");
        }
        let proxy = Proxy::parse("socks5://[::1]:9").unwrap();
        assert_eq!(proxy.host_port(), &HostPort::new("::1", 9));
    }

    #[test]
    fn what_is_no_proxy_is_refused_without_its_password() {
        let long = format!("socks5://secret:{}@a", "x".repeat(256));
        for (text, kind, why) in [
            (
                "https://me:secret@a:1",
                ErrorKind::Unsupported,
                "the proxy https://a:1: a proxy under TLS",
            ),
            (
                "socks4://me:secret@a",
                ErrorKind::ConfigInvalid,
                "there are http:// and socks5://",
            ),
            ("", ErrorKind::ConfigInvalid, "empty host"),
            ("socks5://", ErrorKind::ConfigInvalid, "host is missing"),
            ("http://me:secret@", ErrorKind::ConfigInvalid, "empty host"),
            ("http://me:secret@a:x", ErrorKind::ConfigInvalid, "port"),
            ("http://me:secret", ErrorKind::ConfigInvalid, "port"),
            ("me:secret", ErrorKind::ConfigInvalid, "port"),
            ("http://a:0", ErrorKind::ConfigInvalid, "the port is 0"),
            (
                "http://me:secret@a:1/b",
                ErrorKind::ConfigInvalid,
                "nothing after the port",
            ),
            ("http://a?b", ErrorKind::ConfigInvalid, "nothing after"),
            (
                "http://m%3ae:secret@a",
                ErrorKind::ConfigInvalid,
                "no user has a colon",
            ),
            (
                "http://me:secret%0a@a",
                ErrorKind::ConfigInvalid,
                "a control character",
            ),
            (
                "http://me:secret%ff@a",
                ErrorKind::ConfigInvalid,
                "the password is no UTF-8",
            ),
            ("socks5://me@a", ErrorKind::ConfigInvalid, "1 to 255 bytes"),
            (&long, ErrorKind::ConfigInvalid, "1 to 255 bytes"),
        ] {
            let error = Proxy::parse(text).unwrap_err();
            assert_eq!(error.kind(), kind, "{text}");
            let shown = error.to_string();
            assert!(shown.contains(why), "{shown}");
            for shown in [shown, format!("{error:?}")] {
                assert!(!shown.contains("secret"), "{shown}");
            }
        }
    }

    #[test]
    fn a_login_is_decoded_and_never_shown() {
        let proxy = Proxy::parse("http://m%40e:s%3Aecret@a").unwrap();
        let login = proxy.0.login.as_ref().unwrap();
        assert_eq!((&*login.user, &*login.password), ("m@e", "s:ecret"));
        for shown in [proxy.to_string(), format!("{proxy:?}")] {
            assert!(
                !shown.contains("ecret") && !shown.contains("m@e"),
                "{shown}"
            );
        }
    }
}
