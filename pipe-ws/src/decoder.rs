use crate::frame::{BLOCK, Header, MAX_CONTROL, MAX_HEADER, Opcode, Role, Violation, apply_mask};

/// Takes the payload of binary messages out of the frames of a peer, as the bytes arrive: it holds a header and
/// a control frame at most, however long the messages are.
#[derive(Debug)]
pub(crate) struct Decoder {
    role: Role,
    header: [u8; MAX_HEADER],
    /// Number of bytes of the header that have come.
    have: usize,
    /// The frame whose payload comes next.
    frame: Option<Frame>,
    /// The peer is within a message of several frames.
    in_message: bool,
    control: [u8; MAX_CONTROL],
}

#[derive(Debug)]
struct Frame {
    header: Header,
    /// Number of bytes of its payload that have come.
    come: u64,
}

/// A control frame whose payload is complete.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Control {
    bytes: [u8; MAX_CONTROL],
    len: usize,
}

/// What a piece of input had in it.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Decoded {
    /// Number of bytes of payload, which are at the front of the piece.
    pub(crate) data: usize,
    /// The last ping. Only that needs an answer (RFC 6455, section 5.5.3).
    pub(crate) ping: Option<Control>,
    /// How the connection ended. What follows is not looked at.
    pub(crate) end: Option<End>,
}

/// How the peer's direction ended.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum End {
    /// With a close, which has this payload.
    Closed(Close),
    /// By a rule that the peer broke.
    Broken(Violation),
}

/// The payload of a close.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Close {
    /// None where there is none, which counts as a normal one.
    pub(crate) code: Option<u16>,
    pub(crate) reason: String,
}

impl Decoder {
    /// Creates the decoder of this end of a connection.
    pub(crate) fn new(role: Role) -> Self {
        Self {
            role,
            header: [0; MAX_HEADER],
            have: 0,
            frame: None,
            in_message: false,
            control: [0; MAX_CONTROL],
        }
    }

    /// Takes in a piece of the input, and moves the payload in it to its front.
    pub(crate) fn decode(&mut self, piece: &mut [u8]) -> Decoded {
        let mut decoded = Decoded::default();
        let mut at = 0;
        while at < piece.len() {
            let used = match &mut self.frame {
                None => {
                    let Some(header) = self.take_header(&piece[at..], &mut at) else {
                        continue;
                    };
                    match self.begin(header) {
                        Ok(()) => 0,
                        Err(violation) => {
                            decoded.end = Some(End::Broken(violation));
                            return decoded;
                        }
                    }
                }
                Some(frame) => {
                    let left = frame.header.length - frame.come;
                    let count = left.min((piece.len() - at) as u64) as usize;
                    let offset = (frame.come % 4) as usize;
                    if frame.header.opcode.is_control() {
                        let come = frame.come as usize;
                        let to = &mut self.control[come..come + count];
                        to.copy_from_slice(&piece[at..at + count]);
                        if let Some(mask) = frame.header.mask {
                            apply_mask(to, mask, offset);
                        }
                    } else {
                        let to = decoded.data;
                        move_payload(piece, at, to, count, frame.header.mask, offset);
                        decoded.data += count;
                    }
                    frame.come += count as u64;
                    count
                }
            };
            at += used;
            if let Some(frame) = &self.frame
                && frame.come == frame.header.length
            {
                let header = frame.header;
                self.frame = None;
                if let Some(end) = self.finish(header, &mut decoded) {
                    decoded.end = Some(end);
                    return decoded;
                }
            }
        }
        decoded
    }

    /// Takes bytes of a header, and returns it once it is complete. `at` moves past them.
    fn take_header(&mut self, piece: &[u8], at: &mut usize) -> Option<Result<Header, Violation>> {
        let len = Header::len_of(&self.header[..self.have]);
        let count = (len - self.have).min(piece.len());
        self.header[self.have..self.have + count].copy_from_slice(&piece[..count]);
        self.have += count;
        *at += count;
        if self.have < Header::len_of(&self.header[..self.have]) {
            return None;
        }
        let have = std::mem::take(&mut self.have);
        Some(Header::decode(&self.header[..have]))
    }

    /// Begins a frame.
    fn begin(&mut self, header: Result<Header, Violation>) -> Result<(), Violation> {
        let header = header?;
        match (self.role, header.mask) {
            (Role::Server, None) => {
                return Err(Violation::protocol(
                    "a frame of a client that is not masked",
                ));
            }
            (Role::Client, Some(_)) => {
                return Err(Violation::protocol("a frame of a server that is masked"));
            }
            _ => {}
        }
        match (header.opcode, self.in_message) {
            (Opcode::Text, _) => return Err(Violation::text()),
            (Opcode::Binary, true) => {
                return Err(Violation::protocol("a message within another one"));
            }
            (Opcode::Continuation, false) => {
                return Err(Violation::protocol(
                    "a message that goes on before it began",
                ));
            }
            (Opcode::Binary | Opcode::Continuation, _) => self.in_message = !header.is_final,
            (Opcode::Close | Opcode::Ping | Opcode::Pong, _) => {}
        }
        self.frame = Some(Frame { header, come: 0 });
        Ok(())
    }

    /// Handles the end of a frame.
    fn finish(&self, header: Header, decoded: &mut Decoded) -> Option<End> {
        let len = header.length as usize;
        match header.opcode {
            Opcode::Ping => {
                let bytes = self.control;
                decoded.ping = Some(Control { bytes, len });
                None
            }
            Opcode::Close => Some(match Close::decode(&self.control[..len]) {
                Ok(close) => End::Closed(close),
                Err(violation) => End::Broken(violation),
            }),
            _ => None,
        }
    }
}

/// Moves `count` bytes of a payload, which are `offset` bytes into it, towards the front of the piece, and unmasks them.
fn move_payload(
    piece: &mut [u8],
    mut from: usize,
    mut to: usize,
    count: usize,
    mask: Option<[u8; 4]>,
    offset: usize,
) {
    let Some(mask) = mask else {
        piece.copy_within(from..from + count, to);
        return;
    };
    let end = from + count;
    while from < end {
        let count = BLOCK.min(end - from);
        piece.copy_within(from..from + count, to);
        apply_mask(&mut piece[to..to + count], mask, offset);
        (from, to) = (from + count, to + count);
    }
}

impl Control {
    /// Returns the payload.
    pub(crate) fn payload(&self) -> &[u8] {
        &self.bytes[..self.len]
    }
}

impl Close {
    fn decode(payload: &[u8]) -> Result<Self, Violation> {
        let (code, reason) = match payload {
            [] => (None, &[][..]),
            [_] => return Err(Violation::protocol("a close with half a code")),
            [high, low, reason @ ..] => (Some(u16::from_be_bytes([*high, *low])), reason),
        };
        // The others are reserved, or for the end that no close has told (RFC 6455, section 7.4).
        if let Some(code) = code
            && !matches!(code, 1000..=1003 | 1007..=1014 | 3000..=4999)
        {
            return Err(Violation::protocol(
                "a close with a code that no peer may send",
            ));
        }
        let Ok(reason) = std::str::from_utf8(reason) else {
            return Err(Violation::protocol("a close whose reason is not UTF-8"));
        };
        Ok(Self {
            code,
            reason: reason.to_owned(),
        })
    }

    /// Returns whether it is the end that both sides agree on.
    pub(crate) fn is_normal(&self) -> bool {
        self.code.is_none_or(|code| code == 1000)
    }
}

/// Returns the payload in the frames of a dialer, which come in pieces of this length, and how its direction ended, for
/// fuzzing.
#[cfg(fuzzing)]
pub fn decode_frames(bytes: &[u8], piece: usize) -> (Vec<u8>, Option<String>) {
    let mut decoder = Decoder::new(Role::Server);
    let mut data = Vec::new();
    for piece in bytes.chunks(piece) {
        let mut piece = piece.to_vec();
        let decoded = decoder.decode(&mut piece);
        data.extend_from_slice(&piece[..decoded.data]);
        if let Some(end) = decoded.end {
            return (data, Some(format!("{end:?}")));
        }
    }
    (data, None)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn frame(opcode: Opcode, is_final: bool, mask: Option<[u8; 4]>, payload: &[u8]) -> Vec<u8> {
        let header = Header {
            is_final,
            opcode,
            mask,
            length: payload.len() as u64,
        };
        let mut bytes = [0; MAX_HEADER];
        let len = header.encode(&mut bytes);
        let mut frame = bytes[..len].to_vec();
        frame.extend_from_slice(payload);
        if let Some(mask) = mask {
            apply_mask(&mut frame[len..], mask, 0);
        }
        frame
    }

    /// Decodes the input in pieces of these lengths, the last ones with what is left.
    fn decode(role: Role, input: &[u8], cuts: &[usize]) -> (Vec<u8>, Vec<Vec<u8>>, Option<End>) {
        let mut decoder = Decoder::new(role);
        let (mut data, mut pings) = (Vec::new(), Vec::new());
        let mut rest = input;
        let mut cuts = cuts.iter().copied();
        while !rest.is_empty() {
            let count = cuts.next().unwrap_or(usize::MAX).clamp(1, rest.len());
            let mut piece = rest[..count].to_vec();
            rest = &rest[count..];
            let decoded = decoder.decode(&mut piece);
            data.extend_from_slice(&piece[..decoded.data]);
            pings.extend(decoded.ping.map(|ping| ping.payload().to_vec()));
            if decoded.end.is_some() {
                return (data, pings, decoded.end);
            }
        }
        (data, pings, None)
    }

    proptest! {
        #[test]
        fn payload_comes_out_however_it_is_cut(
            messages in prop::collection::vec(
                (prop::collection::vec(any::<u8>(), 0..300), any::<bool>(), any::<[u8; 4]>()),
                1..8,
            ),
            cuts in prop::collection::vec(1_usize..40, 0..200),
            is_server in any::<bool>(),
        ) {
            let role = if is_server { Role::Server } else { Role::Client };
            let mut input = Vec::new();
            let mut expected = Vec::new();
            for (payload, in_two, mask) in &messages {
                let mask = is_server.then_some(*mask);
                expected.extend_from_slice(payload);
                let cut = if *in_two { payload.len() / 2 } else { payload.len() };
                input.extend(frame(Opcode::Binary, !in_two, mask, &payload[..cut]));
                input.extend(frame(Opcode::Ping, true, mask, b"are you there"));
                if *in_two {
                    input.extend(frame(Opcode::Continuation, true, mask, &payload[cut..]));
                }
            }
            let (data, pings, end) = decode(role, &input, &cuts);
            prop_assert_eq!(data, expected);
            prop_assert!(pings.iter().all(|ping| ping == b"are you there"));
            prop_assert!(!pings.is_empty());
            prop_assert_eq!(end, None);
        }

        #[test]
        fn no_input_is_too_strange(
            input in prop::collection::vec(any::<u8>(), 0..200),
            cuts in prop::collection::vec(1_usize..10, 0..50),
        ) {
            for role in [Role::Client, Role::Server] {
                let (data, _, _) = decode(role, &input, &cuts);
                prop_assert!(data.len() < input.len().max(1));
            }
        }
    }

    #[test]
    fn a_close_ends_what_is_read() {
        let mut input = frame(Opcode::Binary, true, None, b"data");
        input.extend(frame(Opcode::Close, true, None, b"\x03\xe9gone"));
        input.extend(frame(Opcode::Binary, true, None, b"late"));
        let (data, _, end) = decode(Role::Client, &input, &[]);
        assert_eq!(data, b"data");
        let reason = "gone".to_owned();
        let close = Close {
            code: Some(1001),
            reason,
        };
        assert!(!close.is_normal());
        assert_eq!(end, Some(End::Closed(close)));
        let bare = frame(Opcode::Close, true, None, b"");
        let (_, _, end) = decode(Role::Client, &bare, &[]);
        assert!(matches!(end, Some(End::Closed(close)) if close.is_normal()));
    }

    #[test]
    fn what_breaks_a_rule_ends_what_is_read() {
        let mask = Some([1, 2, 3, 4]);
        for (role, input, why) in [
            (
                Role::Server,
                frame(Opcode::Binary, true, None, b"a"),
                "not masked",
            ),
            (
                Role::Client,
                frame(Opcode::Binary, true, mask, b"a"),
                "that is masked",
            ),
            (
                Role::Client,
                frame(Opcode::Text, true, None, b"a"),
                "text message",
            ),
            (
                Role::Client,
                frame(Opcode::Continuation, true, None, b"a"),
                "before it began",
            ),
            (
                Role::Client,
                frame(Opcode::Binary, false, None, b"a").repeat(2),
                "within another",
            ),
            (
                Role::Client,
                frame(Opcode::Close, true, None, b"a"),
                "half a code",
            ),
            (
                Role::Client,
                frame(Opcode::Close, true, None, &1006_u16.to_be_bytes()),
                "no peer may send",
            ),
            (
                Role::Client,
                frame(Opcode::Close, true, None, b"\x03\xe8\xff"),
                "not UTF-8",
            ),
        ] {
            let (_, _, end) = decode(role, &input, &[]);
            let Some(End::Broken(violation)) = end else {
                panic!("{end:?} instead of {why}");
            };
            assert!(violation.why.contains(why), "{violation}");
        }
    }
}
