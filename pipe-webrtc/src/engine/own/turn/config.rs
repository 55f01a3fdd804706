use std::fmt;

/// A server, and the credentials for it. Its debug output leaves the password out.
#[derive(Clone)]
pub(crate) struct TurnConfig {
    /// The server, as errors name it.
    pub(crate) name: String,
    pub(crate) username: String,
    pub(crate) password: String,
    /// Whether the server is reached over TCP or TLS, where nothing is sent twice (RFC 8489, section
    /// 6.2.2).
    pub(crate) is_stream: bool,
    /// Whether the relay is to have an address of IPv6. Without, it has the server's default, which is
    /// IPv4, and one of IPv6 from a server without IPv4.
    pub(crate) ipv6: bool,
    /// Whether another server has referred to this one, which refers to no further one then.
    pub(crate) is_alternate: bool,
    /// The realm that the server has to be of, where that is known before it is asked.
    pub(crate) realm: Option<String>,
}

impl fmt::Debug for TurnConfig {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TurnConfig")
            .field("name", &self.name)
            .field("username", &self.username)
            .field("is_stream", &self.is_stream)
            .field("ipv6", &self.ipv6)
            .field("is_alternate", &self.is_alternate)
            .finish_non_exhaustive()
    }
}
