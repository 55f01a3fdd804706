use std::fmt;

use pipe_core::{Error, ErrorKind, Result};

use crate::engine::ServerAddr;
use crate::error::invalid;

/// A STUN or TURN server. Its debug output leaves the password out.
#[derive(Clone, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct IceServer {
    /// Addresses of the server (RFC 7064 and 7065): `stun:host:port` and `turn:host:port` over UDP,
    /// `turn:host:port?transport=tcp` over TCP, and `turns:host:port` over TLS, for networks that
    /// block everything else. Without a port it is 3478, and 5349 over TLS.
    ///
    /// A relay over TCP works, but a packet lost on the way to it delays all later ones. `stuns:`
    /// is [`Unsupported`](ErrorKind::Unsupported), since it would report the external address of
    /// TCP, and so is `turns:…?transport=udp`, which is DTLS.
    pub urls: Vec<String>,
    /// The user name, for TURN.
    pub username: String,
    /// The password, for TURN.
    pub credential: String,
}

impl fmt::Debug for IceServer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let credential = if self.credential.is_empty() {
            ""
        } else {
            "***"
        };
        f.debug_struct("IceServer")
            .field("urls", &self.urls)
            .field("username", &self.username)
            .field("credential", &credential)
            .finish()
    }
}

impl IceServer {
    /// Returns the STUN server at `host:port`.
    pub fn stun(host: &str) -> Self {
        Self {
            urls: vec![format!("stun:{host}")],
            ..Self::default()
        }
    }

    /// Creates a TURN server from its URL, such as `turn:host:port`, `turn:[::1]:port` or
    /// `turns:host`.
    ///
    /// The allocation names no family, so the relay is one of IPv4, over IPv6 too (RFC 8656,
    /// section 7.2), unless the server is configured otherwise, as coturn is with
    /// `--allocation-default-address-family=keep`. A server without IPv4 refuses with 440.
    pub fn turn(url: &str, username: &str, credential: &str) -> Self {
        Self {
            urls: vec![url.to_owned()],
            username: username.to_owned(),
            credential: credential.to_owned(),
        }
    }

    pub(crate) fn validate(&self) -> Result<()> {
        if self.urls.is_empty() {
            return Err(invalid("ice_servers: a server has no URL"));
        }
        for text in &self.urls {
            let bad = |why: &dyn fmt::Display| {
                invalid(format!(
                    "ice_servers: {text:?} is not of the form stun:host:port, turn:host:port or turns:host:port: {why}"
                ))
            };
            let scheme = text.split(':').next().unwrap_or_default();
            let unsupported = match scheme {
                "stuns" => Some("STUN is spoken over UDP only"),
                "turns" if text.ends_with("?transport=udp") => Some("TURN is not spoken over DTLS"),
                _ => None,
            };
            if let Some(why) = unsupported {
                let why = format!("ice_servers: {text:?}: {why}");
                return Err(Error::new(ErrorKind::Unsupported, why));
            }
            let server: ServerAddr = text.parse().map_err(|why: String| bad(&why))?;
            if server.turn && (self.username.is_empty() || self.credential.is_empty()) {
                return Err(invalid(format!(
                    "ice_servers: {text:?} needs a user name and a credential"
                )));
            }
        }
        Ok(())
    }
}
