//! Parameters of RE-CONFIG (RFC 6525, section 4).

use crate::{
    param,
    wire::{Put, Reader, Tlv, put_tlv},
};

/// The result of a request (RFC 6525, section 4.4).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Outcome {
    NothingToDo,
    Performed,
    Denied,
    WrongStream,
    AlreadyInProgress,
    BadSequenceNumber,
    InProgress,
}

impl Outcome {
    fn from_wire(value: u32) -> Option<Self> {
        Some(match value {
            0 => Self::NothingToDo,
            1 => Self::Performed,
            2 => Self::Denied,
            3 => Self::WrongStream,
            4 => Self::AlreadyInProgress,
            5 => Self::BadSequenceNumber,
            6 => Self::InProgress,
            _ => return None,
        })
    }
}

/// A parameter of RE-CONFIG.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Reconfig<'a> {
    /// Outgoing SSN Reset Request. No streams: all of them.
    Outgoing {
        request: u32,
        last_tsn: u32,
        streams: Streams<'a>,
    },
    /// Incoming SSN Reset, SSN/TSN Reset and Add Incoming Streams, none of which is performed.
    Refused {
        request: u32,
    },
    /// Add Outgoing Streams.
    AddOutgoing {
        request: u32,
        count: u16,
    },
    Response {
        request: u32,
        outcome: Outcome,
    },
}

/// A list of stream ids, read in place.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Streams<'a>(&'a [u8]);

impl<'a> Streams<'a> {
    pub(crate) fn iter(self) -> impl Iterator<Item = u16> + 'a {
        self.0
            .chunks_exact(2)
            .map(|id| u16::from_be_bytes([id[0], id[1]]))
    }
}

impl<'a> Reconfig<'a> {
    /// Reads a parameter; `None` if it is of unknown type or too short.
    pub(crate) fn read(parameter: &Tlv<'a>) -> Option<Self> {
        let mut reader = Reader::new(parameter.value);
        let request = reader.u32()?;
        Some(match parameter.kind {
            param::OUTGOING_RESET => {
                // The number of a request of this end that it answers: one to reset, which none sends.
                reader.u32()?;
                Self::Outgoing {
                    request,
                    last_tsn: reader.u32()?,
                    streams: Streams(reader.rest()),
                }
            }
            param::INCOMING_RESET | param::TSN_RESET | param::ADD_INCOMING => {
                Self::Refused { request }
            }
            param::ADD_OUTGOING => Self::AddOutgoing {
                request,
                count: reader.u16()?,
            },
            param::RESET_RESPONSE => Self::Response {
                request,
                outcome: Outcome::from_wire(reader.u32()?)?,
            },
            _ => return None,
        })
    }
}

/// Appends an Outgoing SSN Reset Request Parameter.
pub(crate) fn put_outgoing(
    buf: &mut Vec<u8>,
    request: u32,
    response: u32,
    last_tsn: u32,
    streams: &[u16],
) {
    let mut value = Vec::with_capacity(12 + streams.len() * 2);
    value.put_u32(request);
    value.put_u32(response);
    value.put_u32(last_tsn);
    for stream in streams {
        value.put_u16(*stream);
    }
    put_tlv(buf, param::OUTGOING_RESET, &value);
}

/// Appends a Re-configuration Response Parameter.
pub(crate) fn put_response(buf: &mut Vec<u8>, request: u32, outcome: Outcome) {
    let mut value = Vec::with_capacity(8);
    value.put_u32(request);
    value.put_u32(outcome as u32);
    put_tlv(buf, param::RESET_RESPONSE, &value);
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::Tlvs;

    #[test]
    fn requests_and_responses_are_read_as_written() {
        let mut buf = Vec::new();
        put_outgoing(&mut buf, 1, 2, 3, &[4, 5, 6]);
        put_response(&mut buf, 7, Outcome::InProgress);
        let read: Vec<_> = Tlvs::new(&buf).collect();
        let Some(Reconfig::Outgoing {
            request,
            last_tsn,
            streams,
        }) = Reconfig::read(&read[0])
        else {
            panic!("an outgoing request");
        };
        assert_eq!((request, last_tsn), (1, 3));
        assert_eq!(streams.iter().collect::<Vec<_>>(), [4, 5, 6]);
        assert_eq!(
            Reconfig::read(&read[1]),
            Some(Reconfig::Response {
                request: 7,
                outcome: Outcome::InProgress
            })
        );
    }

    #[test]
    fn short_and_unknown_parameters_are_refused() {
        for (kind, len) in [
            (13, 11),
            (14, 3),
            (15, 0),
            (16, 7),
            (17, 5),
            (18, 3),
            (19, 40),
        ] {
            let mut buf = Vec::new();
            put_tlv(&mut buf, kind, &vec![0; len]);
            let parameter = Tlvs::new(&buf).next().expect("parameter");
            assert_eq!(Reconfig::read(&parameter), None);
        }
        let mut buf = Vec::new();
        put_tlv(&mut buf, 16, &[0, 0, 0, 1, 0, 0, 0, 7]);
        assert_eq!(
            Reconfig::read(&Tlvs::new(&buf).next().expect("parameter")),
            None
        );
    }
}
