use bytes::Bytes;
use quinn::VarInt;
use web_transport_proto as wt;

/// The first byte of each stream of the application in `pipe/1`, from its opener: it makes the stream visible.
const PREAMBLE: u8 = 0x01;

/// The first byte, for all streams of a plain QUIC connection. It takes no memory.
const ANNOUNCEMENT: Bytes = Bytes::from_static(&[PREAMBLE]);

/// What HTTP/3 closes a connection with when there is nothing to complain of (RFC 9114, section 8.1).
const NO_ERROR: u32 = 0x0100;

/// Maximum length of what an opener sends first: two numbers of up to 8 bytes, and the first byte of `pipe/1`.
const LONGEST: usize = 17;

/// How the streams of a connection begin, and how its codes are written: as in plain QUIC, or as in WebTransport over
/// HTTP/3 (draft-ietf-webtrans-http3, sections 4.2 to 4.4).
#[derive(Clone, Debug)]
pub(crate) struct Dialect {
    /// What this side sends first in a stream that it opens.
    opening: Bytes,
    codes: Codes,
    awaited: Awaited,
}

/// How codes of the application are written in resets, stops and closes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Codes {
    /// As they are.
    Quic,
    /// As codes of HTTP/3, which keeps a range for those of WebTransport.
    Http,
}

/// What the peer sends first in a stream that it opens.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Awaited {
    /// The session of WebTransport that the stream has to name.
    session: Option<u64>,
    /// Whether the first byte of `pipe/1` follows.
    has_preamble: bool,
    seen: [u8; LONGEST],
    len: u8,
}

impl Dialect {
    /// Returns that of plain QUIC, where streams are `plain` or those of `pipe/1`.
    pub(crate) fn quic(is_plain: bool) -> Self {
        Self {
            opening: if is_plain { Bytes::new() } else { ANNOUNCEMENT },
            codes: Codes::Quic,
            awaited: Awaited::new(None, !is_plain),
        }
    }

    /// Returns that of a session of WebTransport.
    pub(crate) fn web(session: u64, is_plain: bool) -> Self {
        let mut opening = Vec::with_capacity(LONGEST);
        wt::Frame::WEBTRANSPORT.encode(&mut opening);
        put_session(&mut opening, session);
        if !is_plain {
            opening.push(PREAMBLE);
        }
        Self {
            opening: opening.into(),
            codes: Codes::Http,
            awaited: Awaited::new(Some(session), !is_plain),
        }
    }

    /// Returns what this side sends first in a stream of both directions.
    pub(crate) fn opening(&self) -> Bytes {
        self.opening.clone()
    }

    /// Returns what the peer has to send first.
    pub(crate) fn awaited(&self) -> Awaited {
        self.awaited
    }

    pub(crate) fn codes(&self) -> Codes {
        self.codes
    }
}

/// Returns what this side sends first in a stream of one direction in a session of WebTransport.
pub(crate) fn one_way_opening(session: u64) -> Vec<u8> {
    let mut opening = Vec::with_capacity(LONGEST);
    wt::StreamUni::WEBTRANSPORT.encode(&mut opening);
    put_session(&mut opening, session);
    opening
}

fn put_session(opening: &mut Vec<u8>, session: u64) {
    // The number of a stream is always one.
    if let Ok(session) = wt::VarInt::from_u64(session) {
        session.encode(opening);
    }
}

impl Codes {
    /// Returns a code of the application as it is written.
    pub(crate) fn written(self, code: u32) -> VarInt {
        match self {
            Self::Quic => code.into(),
            Self::Http => VarInt::from_u64(wt::error_to_http3(code)).unwrap_or(VarInt::MAX),
        }
    }

    /// Returns the application's code in a written one. One that cannot be of the application is of another
    /// implementation.
    pub(crate) fn read(self, code: VarInt) -> u32 {
        let code = code.into_inner();
        match self {
            Self::Quic => u32::try_from(code).unwrap_or(u32::MAX),
            Self::Http => wt::error_from_http3(code).unwrap_or(u32::MAX),
        }
    }
}

impl Codes {
    /// Returns the code of a close in which the application has no part.
    pub(crate) fn none(self) -> VarInt {
        match self {
            Self::Quic => VarInt::from_u32(0),
            Self::Http => VarInt::from_u32(NO_ERROR),
        }
    }

    /// Returns the application's code in a close of the connection, which may have none.
    pub(crate) fn read_close(self, code: VarInt) -> u32 {
        if code == self.none() {
            return 0;
        }
        self.read(code)
    }
}

impl Awaited {
    fn new(session: Option<u64>, has_preamble: bool) -> Self {
        Self {
            session,
            has_preamble,
            seen: [0; LONGEST],
            len: 0,
        }
    }

    /// Returns whether nothing is awaited.
    pub(crate) fn is_empty(&self) -> bool {
        self.session.is_none() && !self.has_preamble
    }

    /// Returns how many bytes are missing at least.
    pub(crate) fn least(&self) -> usize {
        let shortest = if self.session.is_some() { 3 } else { 0 } + usize::from(self.has_preamble);
        shortest.saturating_sub(self.len.into()).max(1)
    }

    /// Takes the next bytes of a stream. Returns how many of them it was that were missing, or `None` where more
    /// are missing than these.
    ///
    /// # Errors
    ///
    /// What the peer has sent instead.
    pub(crate) fn take(&mut self, bytes: &[u8]) -> Result<Option<usize>, String> {
        let before = usize::from(self.len);
        let room = LONGEST - before;
        let taken = bytes.len().min(room);
        self.seen[before..before + taken].copy_from_slice(&bytes[..taken]);
        let mut rest = &self.seen[..before + taken];
        let whole = rest.len();
        let is_complete = self.check(&mut rest)?;
        self.len = (whole - rest.len()) as u8;
        if !is_complete {
            // What is incomplete is shorter than the longest.
            self.len = whole as u8;
            return Ok(None);
        }
        Ok(Some(usize::from(self.len) - before))
    }

    /// Reads from the first byte on. Returns whether all is there.
    fn check(&self, rest: &mut &[u8]) -> Result<bool, String> {
        if let Some(session) = self.session {
            let Ok(kind) = wt::Frame::decode(rest) else {
                return Ok(false);
            };
            if kind != wt::Frame::WEBTRANSPORT {
                let kind = kind.0.into_inner();
                return Err(format!("a stream of the unknown kind {kind:#04x}"));
            }
            let Ok(named) = wt::VarInt::decode(rest) else {
                return Ok(false);
            };
            let named = named.into_inner();
            if named != session {
                return Err(format!("a stream of the unknown session {named}"));
            }
        }
        if self.has_preamble {
            match rest {
                [] => return Ok(false),
                [PREAMBLE, behind @ ..] => *rest = behind,
                [first, ..] => return Err(format!("a stream of the unknown kind {first:#04x}")),
            }
        }
        Ok(true)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_opening_is_taken_whole_in_pieces_and_no_byte_more() {
        for dialect in [
            Dialect::quic(false),
            Dialect::web(0, false),
            Dialect::web(4, true),
            Dialect::web(1 << 40, false),
        ] {
            let opening = dialect.opening();
            let sent = [&opening[..], b"\x01payload"].concat();
            for piece in 1..=sent.len() {
                let mut awaited = dialect.awaited();
                assert!(!awaited.is_empty());
                let mut taken = 0;
                for piece in sent.chunks(piece) {
                    let left = opening.len() - taken;
                    assert!((1..=left).contains(&awaited.least()), "{left}");
                    match awaited.take(piece).unwrap() {
                        None => taken += piece.len(),
                        Some(count) => {
                            taken += count;
                            break;
                        }
                    }
                }
                assert_eq!(taken, opening.len(), "{dialect:?} by {piece}");
            }
        }
        assert!(Dialect::quic(true).awaited().is_empty());
        assert!(Dialect::quic(true).opening().is_empty());
    }

    #[test]
    fn numbers_may_be_longer_than_they_need_to_be() {
        let long = b"\xc0\0\0\0\0\0\0\x41\xc0\0\0\0\0\0\0\x04\x01x";
        let mut awaited = Dialect::web(4, false).awaited();
        assert_eq!(awaited.take(&long[..9]), Ok(None));
        assert_eq!(awaited.take(&long[9..]), Ok(Some(8)));
    }

    #[test]
    fn another_kind_of_stream_and_another_session_are_named() {
        for (bytes, why) in [
            (&b"\x01\x05hello"[..], "a stream of the unknown kind 0x01"),
            (b"\x40\x41\x08\x01", "a stream of the unknown session 8"),
            (b"\x40\x41\x04\x02", "a stream of the unknown kind 0x02"),
        ] {
            let mut awaited = Dialect::web(4, false).awaited();
            assert_eq!(awaited.take(bytes).unwrap_err(), why);
        }
        let mut awaited = Dialect::quic(false).awaited();
        let error = awaited.take(b"\x02").unwrap_err();
        assert_eq!(error, "a stream of the unknown kind 0x02");
    }

    #[test]
    fn codes_come_back_as_they_were() {
        for codes in [Codes::Quic, Codes::Http] {
            for code in [0, 1, 29, 30, 31, 1 << 20, u32::MAX] {
                assert_eq!(codes.read(codes.written(code)), code);
            }
            assert_eq!(codes.read(VarInt::MAX), u32::MAX);
        }
        // The last column of the examples in the draft.
        assert_eq!(Codes::Http.written(0).into_inner(), 0x52e4_a40f_a8db);
        assert_eq!(Codes::Http.written(u32::MAX).into_inner(), 0x52e5_ac98_3162);
    }
}
