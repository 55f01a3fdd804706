use std::net::IpAddr;

use ipnet::IpNet;

/// Reads an IP address, with or without brackets, or a network as in `10.0.0.0/8`. A network of IPv4 addresses that are
/// mapped into IPv6 becomes one of IPv4.
pub(crate) fn parse_network(text: &str) -> Option<IpNet> {
    if text.contains('/') {
        return Some(canonical(text.parse().ok()?));
    }
    let inner = text
        .strip_prefix('[')
        .and_then(|text| text.strip_suffix(']'));
    let ip: IpAddr = inner.unwrap_or(text).parse().ok()?;
    Some(IpNet::from(ip.to_canonical()))
}

fn canonical(network: IpNet) -> IpNet {
    /// Length of the prefix of mapped addresses (RFC 4291, section 2.5.5.2), in bits.
    const MAPPED: u8 = 96;
    let prefix = network.prefix_len().checked_sub(MAPPED);
    match (network.addr().to_canonical(), prefix) {
        (ip @ IpAddr::V4(_), Some(prefix)) if network.addr().is_ipv6() => {
            IpNet::new(ip, prefix).unwrap_or(network)
        }
        _ => network,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_and_networks_are_read() {
        for (text, read) in [
            ("192.0.2.1", "192.0.2.1/32"),
            ("10.0.0.0/8", "10.0.0.0/8"),
            ("::1", "::1/128"),
            ("[::1]", "::1/128"),
            ("fd00::/8", "fd00::/8"),
            ("::ffff:10.0.0.0/104", "10.0.0.0/8"),
            ("::ffff:10.0.0.1", "10.0.0.1/32"),
            ("::/0", "::/0"),
        ] {
            assert_eq!(parse_network(text).unwrap().to_string(), read, "{text}");
        }
        for text in [
            "",
            "a",
            "10.0.0.0/33",
            "10.0.0/8",
            "[::1",
            "10.0.0.1:80",
            "::1/",
        ] {
            assert!(parse_network(text).is_none(), "{text}");
        }
    }
}
