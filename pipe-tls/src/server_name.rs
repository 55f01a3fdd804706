use pipe_core::{Error, ErrorKind, Result};
use rustls_pki_types::ServerName;

/// Returns the name that a server's certificate has to be for: a DNS name, or an IP address (IPv6
/// without brackets).
///
/// # Errors
///
/// [`AddrInvalid`](ErrorKind::AddrInvalid) when it is neither.
pub fn server_name(host: &str) -> Result<ServerName<'static>> {
    ServerName::try_from(host.to_owned()).map_err(|error| {
        let why = format!("{host:?} is neither a DNS name nor an IP address");
        Error::with_source(ErrorKind::AddrInvalid, why, error)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_and_addresses_are_told_apart_and_the_rest_refused() {
        for dns in ["localhost", "example.org", "a_b.example.org"] {
            assert!(matches!(server_name(dns), Ok(ServerName::DnsName(_))));
        }
        for ip in ["127.0.0.1", "::1"] {
            assert!(matches!(server_name(ip), Ok(ServerName::IpAddress(_))));
        }
        for text in ["", "a b", "a..b", "[::1]", "ä"] {
            let error = server_name(text).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::AddrInvalid);
            assert!(
                error
                    .to_string()
                    .starts_with(&format!("{text:?} is neither"))
            );
        }
    }
}
