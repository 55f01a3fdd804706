//! Types of parameters in INIT, INIT ACK and RE-CONFIG chunks.

/// RFC 9260, section 3.3.2.
pub(crate) const STATE_COOKIE: u16 = 7;
/// RFC 9260, section 3.3.3.
pub(crate) const UNRECOGNIZED: u16 = 8;
/// Host Name Address, which ends an association (RFC 9260, section 3.3.2.1.4).
pub(crate) const HOST_NAME: u16 = 11;
/// RFC 6525, sections 4.1 to 4.6.
pub(crate) const OUTGOING_RESET: u16 = 13;
pub(crate) const INCOMING_RESET: u16 = 14;
pub(crate) const TSN_RESET: u16 = 15;
pub(crate) const RESET_RESPONSE: u16 = 16;
pub(crate) const ADD_OUTGOING: u16 = 17;
pub(crate) const ADD_INCOMING: u16 = 18;
/// RFC 9653, section 4.1.
pub(crate) const ZERO_CHECKSUM: u16 = 0x8001;
/// RFC 5061, section 4.2.7.
pub(crate) const SUPPORTED_EXTENSIONS: u16 = 0x8008;
/// The longest time in milliseconds that the sender delays a SACK. Not assigned by IANA; a peer
/// that does not know it skips it without a report (RFC 9260, section 3.2.1).
pub(crate) const ACK_DELAY: u16 = 0x9ac7;
/// RFC 3758, section 3.1.
pub(crate) const FORWARD_TSN: u16 = 0xc000;

/// Parameters with nothing in them for an association of one path: IPv4 and IPv6 addresses,
/// Cookie Preservative, Supported Address Types, ECN Capable, and those of RFC 4895 and RFC 5061.
pub(crate) const IGNORED: [u16; 11] = [
    5, 6, 9, 12, 0x8000, 0x8002, 0x8003, 0x8004, 0x8005, 0xc006, 0xc005,
];

/// The method of error detection of RFC 9653 that DTLS is.
pub(crate) const CHECKED_BY_DTLS: u32 = 1;

/// Returns whether the parameters behind one of unknown `kind` are still read (RFC 9260, section 3.2.1).
pub(crate) const fn continues(kind: u16) -> bool {
    kind & 0x8000 != 0
}

/// Returns whether a parameter of unknown `kind` is reported to its sender.
pub(crate) const fn reported(kind: u16) -> bool {
    kind & 0x4000 != 0
}
