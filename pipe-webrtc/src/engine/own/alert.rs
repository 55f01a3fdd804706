use std::fmt;

/// Length of the header of a record (RFC 6347, section 4.1).
const HEADER: usize = 13;

/// The type of records that carry an alert.
const ALERT: u8 = 21;

/// The first byte from which on records have the header of DTLS 1.3, which are encrypted (RFC 9147, section 4).
const UNIFIED: u8 = 32;

const FATAL: u8 = 2;
const CLOSE_NOTIFY: u8 = 0;

/// An alert of DTLS (RFC 8446, section 6).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Alert {
    is_fatal: bool,
    description: u8,
}

impl Alert {
    /// Creates a fatal alert with this description.
    pub(super) fn fatal(description: u8) -> Self {
        Self {
            is_fatal: true,
            description,
        }
    }

    /// Returns the first alert in a datagram that is not encrypted. Records of another kind may precede it.
    pub(super) fn in_the_clear(mut datagram: &[u8]) -> Option<Self> {
        loop {
            let (header, rest) = datagram.split_first_chunk::<HEADER>()?;
            if header[0] >= UNIFIED {
                return None;
            }
            let length = usize::from(u16::from_be_bytes([header[11], header[12]]));
            let (fragment, next) = rest.split_at_checked(length)?;
            // The third and fourth bytes are the epoch: 0 is the one without keys.
            if let (ALERT, [0, 0], &[level, description]) = (header[0], &header[3..5], fragment) {
                return Some(Self {
                    is_fatal: level == FATAL,
                    description,
                });
            }
            datagram = next;
        }
    }

    /// Returns whether nothing follows it: it is fatal, or its author closes the association.
    pub(super) fn is_last(self) -> bool {
        self.is_fatal || self.description == CLOSE_NOTIFY
    }

    /// Returns whether its author refuses the certificate of this side.
    pub(super) fn is_about_certificate(self) -> bool {
        matches!(self.description, 41..=46 | 48 | 49 | 116)
    }

    fn name(self) -> Option<&'static str> {
        Some(match self.description {
            CLOSE_NOTIFY => "close_notify",
            10 => "unexpected_message",
            20 => "bad_record_mac",
            22 => "record_overflow",
            30 => "decompression_failure",
            40 => "handshake_failure",
            41 => "no_certificate",
            42 => "bad_certificate",
            43 => "unsupported_certificate",
            44 => "certificate_revoked",
            45 => "certificate_expired",
            46 => "certificate_unknown",
            47 => "illegal_parameter",
            48 => "unknown_ca",
            49 => "access_denied",
            50 => "decode_error",
            51 => "decrypt_error",
            70 => "protocol_version",
            71 => "insufficient_security",
            80 => "internal_error",
            86 => "inappropriate_fallback",
            90 => "user_canceled",
            100 => "no_renegotiation",
            109 => "missing_extension",
            110 => "unsupported_extension",
            116 => "certificate_required",
            120 => "no_application_protocol",
            _ => return None,
        })
    }
}

impl fmt::Display for Alert {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.is_fatal {
            f.write_str("the fatal alert ")?;
        } else {
            f.write_str("the alert ")?;
        }
        match self.name() {
            Some(name) => write!(f, "{name} ({})", self.description),
            None => write!(f, "{}", self.description),
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn record(kind: u8, epoch: u8, fragment: &[u8]) -> Vec<u8> {
        let mut record = vec![kind, 0xfe, 0xfd, 0, epoch, 0, 0, 0, 0, 0, 7, 0];
        record.push(fragment.len() as u8);
        record.extend_from_slice(fragment);
        record
    }

    #[test]
    fn an_alert_is_found_behind_other_records_and_none_that_is_encrypted() {
        let alert = record(ALERT, 0, &[FATAL, 40]);
        let found = Alert::in_the_clear(&alert).unwrap();
        assert_eq!(found, Alert::fatal(40));
        assert_eq!(found.to_string(), "the fatal alert handshake_failure (40)");
        let behind = [record(22, 0, &[1; 50]), alert.clone()].concat();
        assert_eq!(Alert::in_the_clear(&behind), Some(found));
        for none in [
            record(ALERT, 1, &[FATAL, 40]),
            record(22, 0, &[FATAL, 40]),
            record(ALERT, 0, &[FATAL]),
            [&[0x2e, 0, 0][..], &alert].concat(),
            alert[..14].to_vec(),
        ] {
            assert_eq!(Alert::in_the_clear(&none), None, "{none:02x?}");
        }
    }

    #[test]
    fn a_warning_is_not_the_end_but_a_close_is() {
        let of = |level, description| {
            Alert::in_the_clear(&record(ALERT, 0, &[level, description])).unwrap()
        };
        assert!(!of(1, 90).is_last());
        assert!(of(1, CLOSE_NOTIFY).is_last() && of(2, 200).is_last());
        assert_eq!(of(1, 0).to_string(), "the alert close_notify (0)");
        assert_eq!(of(2, 200).to_string(), "the fatal alert 200");
        assert!(of(2, 42).is_about_certificate() && !of(2, 40).is_about_certificate());
    }

    proptest! {
        #[test]
        fn any_bytes_are_taken(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            let _ = Alert::in_the_clear(&bytes);
        }
    }
}
