//! The PROXY protocol: the first bytes of a connection, by which a proxy says where its client is.

mod header;

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use ipnet::IpNet;
use pipe_core::{Error, ErrorKind, Result};
use tokio::net::TcpStream;

use crate::network::parse_network;
use crate::take_head::{NoHead, take_head};

/// The PROXY protocol on a listener, for one that stands behind a proxy such as HAProxy: every connection begins
/// with a header of version 1 or 2, by which the proxy says where its client is.
///
/// The address in the header is then the peer's: for the admission hook, for the limits of each source, for
/// [`remote_addr`](pipe_core::Conn::remote_addr). A connection of the proxy's own (`LOCAL`, `UNKNOWN`), as to see whether
/// the listener is alive, keeps the address of the socket.
///
/// Only a proxy may send it, since a peer could claim any address. A connection from elsewhere is closed at once, and one
/// without a header ends with its handshake: a listener takes either connections of its proxies, or direct ones. For both,
/// use two.
///
/// The header comes before anything else, TLS too. It has at most 107 bytes in version 1, and 4,096 in version 2; whatever
/// version 2 has beside the addresses is ignored. It has to be there within the time that a peer has for
/// its first byte.
///
/// It is specified in `proxy-protocol.txt` of HAProxy.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ProxyProtocol {
    /// Those who may send it; all without.
    from: Option<Arc<[IpNet]>>,
}

impl ProxyProtocol {
    /// Requires it, and accepts connections from these IP addresses and networks only, such as `192.0.2.7` or `10.0.0.0/8`.
    ///
    /// # Errors
    ///
    /// [`ConfigInvalid`](ErrorKind::ConfigInvalid) for a text that is neither, and for none at all.
    pub fn required_from<T: AsRef<str>>(networks: impl IntoIterator<Item = T>) -> Result<Self> {
        let networks = networks.into_iter().map(|text| {
            let text = text.as_ref().trim();
            parse_network(text).ok_or_else(|| {
                let why = format!("{text:?} is no IP address and no network, such as 10.0.0.0/8");
                Error::new(ErrorKind::ConfigInvalid, why)
            })
        });
        let from: Arc<[_]> = networks.collect::<Result<_>>()?;
        if from.is_empty() {
            let why = "the PROXY protocol is accepted from nowhere";
            return Err(Error::new(ErrorKind::ConfigInvalid, why));
        }
        Ok(Self { from: Some(from) })
    }

    /// Requires it from every peer: where nothing but the proxy reaches the listener. Any other peer can claim any
    /// address.
    pub fn required_from_all() -> Self {
        Self { from: None }
    }

    /// Returns whether a connection from this address may send it.
    pub fn is_from(&self, ip: IpAddr) -> bool {
        let ip = ip.to_canonical();
        match &self.from {
            Some(from) => from.iter().any(|network| network.contains(&ip)),
            None => true,
        }
    }

    /// Takes the header off a socket, and returns the address of the client.
    ///
    /// # Errors
    ///
    /// [`Handshake`](ErrorKind::Handshake) for what is no header, and for a peer that breaks off;
    /// [`Io`](ErrorKind::Io).
    ///
    /// # Cancel safety
    ///
    /// Dropping the future loses what has come of the header.
    pub(crate) async fn client(
        &self,
        socket: &mut TcpStream,
        peer: SocketAddr,
    ) -> Result<SocketAddr> {
        let mut found = None;
        let taken = take_head(socket, header::MAX, |come| {
            found = header::parse(come)?;
            Ok(found.map(|header| header.len))
        });
        let why = match taken.await {
            Ok(_) => return Ok(found.and_then(|header| header.client).unwrap_or(peer)),
            Err(NoHead::Wrong(why)) => why,
            Err(NoHead::TooLong) => "its PROXY header is too long",
            Err(NoHead::Ended(_)) => "it broke off before the end of its PROXY header",
            Err(NoHead::Io(error)) => return Err(error.into()),
        };
        let why = format!("refused {peer}: {why}");
        Err(Error::new(ErrorKind::Handshake, why))
    }
}

/// Returns the client in a header at the beginning of these bytes, with the length of the header, for fuzzing.
#[cfg(fuzzing)]
pub fn parse_header(
    bytes: &[u8],
) -> std::result::Result<Option<(Option<SocketAddr>, usize)>, &'static str> {
    Ok(header::parse(bytes)?.map(|header| (header.client, header.len)))
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::TcpListener;

    use super::*;

    #[test]
    fn proxies_are_named_by_address_and_network() {
        let protocol = ProxyProtocol::required_from(["10.0.0.0/8", " 192.0.2.7", "::1"]).unwrap();
        for (ip, is) in [
            ("10.1.2.3", true),
            ("::ffff:10.1.2.3", true),
            ("192.0.2.7", true),
            ("192.0.2.8", false),
            ("::1", true),
            ("::2", false),
        ] {
            assert_eq!(protocol.is_from(ip.parse().unwrap()), is, "{ip}");
            assert!(ProxyProtocol::required_from_all().is_from(ip.parse().unwrap()));
        }
        for wrong in ["a", "10.0.0.0/33", "", "10.0.0.1:80"] {
            let error = ProxyProtocol::required_from([wrong]).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::ConfigInvalid);
            assert!(error.to_string().contains(&format!("{wrong:?}")), "{error}");
        }
        assert!(ProxyProtocol::required_from::<&str>([]).is_err());
    }

    async fn client_in(sent: &[u8]) -> (Result<SocketAddr>, Vec<u8>) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let dialed = TcpStream::connect(listener.local_addr().unwrap());
        let (dialed, accepted) = tokio::join!(dialed, listener.accept());
        let (mut dialed, mut socket) = (dialed.unwrap(), accepted.unwrap().0);
        dialed.write_all(sent).await.unwrap();
        dialed.shutdown().await.unwrap();
        let peer = "203.0.113.1:1".parse().unwrap();
        let protocol = ProxyProtocol::required_from_all();
        let client = protocol.client(&mut socket, peer).await;
        let mut rest = Vec::new();
        socket.read_to_end(&mut rest).await.unwrap();
        (client, rest)
    }

    #[tokio::test]
    async fn what_follows_the_header_is_left() {
        let (client, rest) = client_in(b"PROXY TCP4 192.0.2.1 127.0.0.1 8080 7\r\n\r\nhello").await;
        assert_eq!(client.unwrap(), "192.0.2.1:8080".parse().unwrap());
        assert_eq!(rest, b"\r\nhello");
        let (client, rest) = client_in(b"PROXY UNKNOWN\r\nhello").await;
        assert_eq!(client.unwrap(), "203.0.113.1:1".parse().unwrap());
        assert_eq!(rest, b"hello");
    }

    #[tokio::test]
    async fn a_peer_without_a_whole_header_is_named_with_the_reason() {
        for (sent, why) in [
            (&b""[..], "broke off before the end"),
            (b"PROXY TCP4 192.0", "broke off before the end"),
            (b"\r\n\r\n\0\r\nQUIT\n\x21", "broke off before the end"),
            (b"SSH-2.0-a", "begins with no PROXY header"),
        ] {
            let error = client_in(sent).await.0.unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Handshake);
            let shown = error.to_string();
            assert!(
                shown.contains(why) && shown.contains("203.0.113.1:1"),
                "{shown}"
            );
        }
    }
}
