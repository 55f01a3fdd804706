//! The header of the PROXY protocol, versions 1 and 2, as the specification of HAProxy has it (`proxy-protocol.txt`,
//! sections 2.1 and 2.2).

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

/// Maximum length of a header of version 1, in bytes, with the end of its line (section 2.1).
const MAX_V1: usize = 107;

/// Maximum length of a header of version 2, in bytes: enough for its addresses and for what proxies add.
const MAX_V2: usize = 4096;

/// Maximum length of a header.
pub(super) const MAX: usize = MAX_V2;

/// The first bytes of version 2.
const SIGNATURE: &[u8; 12] = b"\r\n\r\n\0\r\nQUIT\n";

/// The first bytes of version 1.
const PROXY: &[u8; 6] = b"PROXY ";

/// Length of the part of version 2 that every header has, in bytes.
const FIXED: usize = 16;

/// A header, whole.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Header {
    /// Where the client of the proxy is. None for a connection of the proxy's own, and for one that is not over TCP.
    pub(super) client: Option<SocketAddr>,
    /// Its length, in bytes.
    pub(super) len: usize,
}

/// Reads the header at the beginning of what has come. `None` while it is not whole; the error says what is wrong.
pub(super) fn parse(come: &[u8]) -> Result<Option<Header>, &'static str> {
    if begins(come, SIGNATURE) {
        return if come.len() < FIXED {
            Ok(None)
        } else {
            parse_v2(come)
        };
    }
    if begins(come, PROXY) {
        return parse_v1(come);
    }
    Err("it begins with no PROXY header")
}

/// Whether these may be the first bytes of what begins with `with`, or are.
fn begins(come: &[u8], with: &[u8]) -> bool {
    let len = come.len().min(with.len());
    come[..len] == with[..len]
}

fn parse_v1(come: &[u8]) -> Result<Option<Header>, &'static str> {
    let within = &come[..come.len().min(MAX_V1)];
    let Some(end) = within.windows(2).position(|at| at == b"\r\n") else {
        return if come.len() < MAX_V1 {
            Ok(None)
        } else {
            Err("its PROXY header has no end within 107 bytes")
        };
    };
    let line = std::str::from_utf8(&come[..end]).map_err(|_| "its PROXY header is no text")?;
    let mut words = line.split(' ').skip(1);
    let client = match words.next() {
        // Whatever follows is ignored.
        Some("UNKNOWN") => None,
        Some("TCP4") => Some(ends::<Ipv4Addr>(words)?),
        Some("TCP6") => Some(ends::<Ipv6Addr>(words)?),
        _ => return Err("its PROXY header names none of TCP4, TCP6 and UNKNOWN"),
    };
    let len = end + 2;
    Ok(Some(Header { client, len }))
}

/// Reads the addresses and the ports of both ends, and returns the client's.
fn ends<'a, I>(mut words: impl Iterator<Item = &'a str>) -> Result<SocketAddr, &'static str>
where
    I: std::str::FromStr + Into<IpAddr>,
{
    const WRONG: &str = "its PROXY header has no two addresses and ports";
    let mut ip = || words.next()?.parse::<I>().ok();
    let (client, _) = (ip().ok_or(WRONG)?, ip().ok_or(WRONG)?);
    let mut port = || {
        let word = words.next()?;
        let digits = !word.is_empty() && word.bytes().all(|byte| byte.is_ascii_digit());
        digits.then(|| word.parse::<u16>().ok())?
    };
    let (client_port, _) = (port().ok_or(WRONG)?, port().ok_or(WRONG)?);
    match words.next() {
        None => Ok(SocketAddr::new(client.into(), client_port)),
        Some(_) => Err(WRONG),
    }
}

fn parse_v2(come: &[u8]) -> Result<Option<Header>, &'static str> {
    let (command, family) = (come[12], come[13]);
    let len = FIXED + usize::from(u16::from_be_bytes([come[14], come[15]]));
    if len > MAX_V2 {
        return Err("its PROXY header is longer than 4096 bytes");
    }
    if come.len() < len {
        return Ok(None);
    }
    let addresses = &come[FIXED..len];
    let client = match (command, family) {
        // LOCAL: the proxy speaks for itself, and the rest is ignored.
        (0x20, _) => None,
        (0x21, 0x11) => {
            let [a, b, c, d, _, _, _, _, high, low, _, _] = first(addresses)?;
            let port = u16::from_be_bytes([high, low]);
            Some((Ipv4Addr::new(a, b, c, d), port).into())
        }
        (0x21, 0x21) => {
            let both: [u8; 36] = first(addresses)?;
            let ip: [u8; 16] = first(&both)?;
            let port = u16::from_be_bytes([both[32], both[33]]);
            Some((Ipv6Addr::from(ip), port).into())
        }
        // Over no protocol of the Internet, over UDP, or over a Unix socket: the addresses are ignored.
        (0x21, 0x00 | 0x12 | 0x22 | 0x31 | 0x32) => None,
        (0x21, _) => return Err("its PROXY header has a family that there is not"),
        _ => return Err("its PROXY header has a version or a command that there is not"),
    };
    Ok(Some(Header { client, len }))
}

fn first<const N: usize>(bytes: &[u8]) -> Result<[u8; N], &'static str> {
    let first = bytes.first_chunk().copied();
    first.ok_or("its PROXY header is too short for its addresses")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn v2(command: u8, family: u8, rest: &[u8]) -> Vec<u8> {
        let len = (rest.len() as u16).to_be_bytes();
        [&SIGNATURE[..], &[command, family], &len, rest].concat()
    }

    /// Checks that a header is read once it is whole, and not before, whatever follows it.
    #[track_caller]
    fn reads(header: &[u8], client: Option<&str>) {
        let client = client.map(|client| client.parse().unwrap());
        for cut in 0..header.len() {
            assert_eq!(parse(&header[..cut]), Ok(None), "{cut}");
        }
        let len = header.len();
        let expected = Ok(Some(Header { client, len }));
        assert_eq!(parse(header), expected);
        for more in [&b"hello"[..], header, b"\r\n"] {
            assert_eq!(parse(&[header, more].concat()), expected);
        }
    }

    const V4: &[u8] = b"\xc0\x00\x02\x01\x7f\0\0\x01\x1f\x90\x00\x07";

    fn v6() -> Vec<u8> {
        let (a, b): (Ipv6Addr, _) = ("2001:db8::1".parse().unwrap(), Ipv6Addr::LOCALHOST);
        [&a.octets()[..], &b.octets(), b"\x1f\x90\x00\x07"].concat()
    }

    #[test]
    fn version_1_has_the_address_of_the_client() {
        reads(
            b"PROXY TCP4 192.0.2.1 127.0.0.1 8080 7\r\n",
            Some("192.0.2.1:8080"),
        );
        reads(
            b"PROXY TCP6 2001:db8::1 ::1 65535 0\r\n",
            Some("[2001:db8::1]:65535"),
        );
        reads(b"PROXY UNKNOWN\r\n", None);
        reads(b"PROXY UNKNOWN what ever \xc3\xa4 follows\r\n", None);
        let long = format!("PROXY UNKNOWN {}\r\n", "f".repeat(107 - 16));
        assert_eq!(long.len(), 107);
        reads(long.as_bytes(), None);
    }

    #[test]
    fn version_2_has_the_address_of_the_client() {
        reads(&v2(0x21, 0x11, V4), Some("192.0.2.1:8080"));
        reads(&v2(0x21, 0x21, &v6()), Some("[2001:db8::1]:8080"));
        // More values, which are ignored.
        let more = [V4, b"\x04\x00\x02ab", &[7; 1000]].concat();
        reads(&v2(0x21, 0x11, &more), Some("192.0.2.1:8080"));
        reads(
            &v2(0x21, 0x11, &[V4, &[7; 4068]].concat()),
            Some("192.0.2.1:8080"),
        );
    }

    #[test]
    fn a_connection_of_the_proxy_itself_and_one_over_no_tcp_have_no_client() {
        for family in 0..=255 {
            reads(&v2(0x20, family, b""), None);
            reads(&v2(0x20, family, V4), None);
        }
        for family in [0x00, 0x12, 0x22, 0x31, 0x32] {
            reads(&v2(0x21, family, &[7; 216]), None);
        }
    }

    #[test]
    fn what_is_no_header_is_told_and_why() {
        let unended = [&b"PROXY TCP4 "[..], &[b'1'; 200]].concat();
        let unended_unknown = [&b"PROXY UNKNOWN "[..], &[b'1'; 200], b"\r\n"].concat();
        for (come, why) in [
            (&b"GET / HTTP/1.1\r\n"[..], "begins with no PROXY header"),
            (b"\x16\x03\x01", "begins with no PROXY header"),
            (b"proxy ", "begins with no PROXY header"),
            (b"PROXYTCP4", "begins with no PROXY header"),
            (b"\r\n\r\n\0\r\nQUIT\r", "begins with no PROXY header"),
            (&unended, "no end within 107 bytes"),
            (&unended_unknown, "no end within 107 bytes"),
            (b"PROXY \xff\r\n", "is no text"),
            (b"PROXY \r\n", "none of TCP4"),
            (b"PROXY  TCP4 1.1.1.1 1.1.1.1 1 1\r\n", "none of TCP4"),
            (b"PROXY UDP4 1.1.1.1 1.1.1.1 1 1\r\n", "none of TCP4"),
            (b"PROXY TCP4\r\n", "no two addresses"),
            (b"PROXY TCP4 1.1.1.1 1.1.1.1 1\r\n", "no two addresses"),
            (b"PROXY TCP4 1.1.1.1 1.1.1.1 1 1 1\r\n", "no two addresses"),
            (b"PROXY TCP4 1.1.1.1 1.1.1.1 1 1 \r\n", "no two addresses"),
            (b"PROXY TCP4 ::1 ::1 1 1\r\n", "no two addresses"),
            (b"PROXY TCP6 1.1.1.1 1.1.1.1 1 1\r\n", "no two addresses"),
            (b"PROXY TCP4 1.1.1.1 1.1.1.1 +1 1\r\n", "no two addresses"),
            (
                b"PROXY TCP4 1.1.1.1 1.1.1.1 65536 1\r\n",
                "no two addresses",
            ),
            (b"PROXY TCP4 1.1.1.1 1.1.1.1 -1 1\r\n", "no two addresses"),
            (b"PROXY TCP4 1.1.1.1 1.1.1.1  1\r\n", "no two addresses"),
            (&v2(0x21, 0x11, &V4[..11]), "too short"),
            (&v2(0x21, 0x21, V4), "too short"),
            (&v2(0x21, 0x13, V4), "a family"),
            (&v2(0x21, 0x41, V4), "a family"),
            (&v2(0x22, 0x11, V4), "a version or a command"),
            (&v2(0x11, 0x11, V4), "a version or a command"),
            (&v2(0x21, 0x11, &[7; 4081]), "longer than 4096 bytes"),
            (&v2(0x20, 0x00, &[7; 65535]), "longer than 4096 bytes"),
        ] {
            let found = parse(come).unwrap_err();
            assert!(found.contains(why), "{why}: {found}");
        }
        // One that is too long is refused by its length, before it has come.
        let long = v2(0x20, 0x00, &[7; 65535]);
        assert!(parse(&long[..16]).is_err());
    }
}
