//! Both codecs: what they write they read, and what others write costs an error at most.

use bytes::BytesMut;
use pipe_proto::codec::text::{ControlLine, StreamLine, StreamWord, decode_control, decode_stream};
use pipe_proto::codec::{binary, text};
use pipe_proto::{Frame, Hello, MAX_REASON_LEN, PING_LEN, StreamFrame};
use proptest::collection::vec;
use proptest::prelude::*;

/// A frame about a stream, but OPEN.
fn stream_frame() -> impl Strategy<Value = StreamFrame> {
    prop_oneof![
        any::<u64>().prop_map(StreamFrame::End),
        any::<u32>().prop_map(StreamFrame::Reset),
        any::<u32>().prop_map(StreamFrame::Stop),
        any::<u32>().prop_map(StreamFrame::Credit),
        Just(StreamFrame::Taken),
        Just(StreamFrame::Done),
    ]
}

fn binary_frame() -> impl Strategy<Value = Frame> {
    prop_oneof![
        any::<(u32, u32, u64, bool)>().prop_map(
            |(max_streams, stream_window, connection_window, takes_growth)| {
                Frame::Hello(Hello {
                    max_streams,
                    stream_window,
                    connection_window,
                    flight: 0,
                    takes_growth,
                })
            }
        ),
        any::<[u8; PING_LEN]>().prop_map(Frame::Ping),
        any::<[u8; PING_LEN]>().prop_map(Frame::Pong),
        (any::<u64>(), stream_frame()).prop_map(|(id, frame)| Frame::Stream { id, frame }),
        Just(Frame::Drain),
        Just(Frame::Drained { streams: 0 }),
        (any::<u32>(), "\\PC{0,200}").prop_map(|(code, reason)| Frame::Close {
            code,
            messages: 0,
            reason,
        }),
    ]
}

fn control_frame() -> impl Strategy<Value = Frame> {
    prop_oneof![
        (
            1..=u32::MAX,
            1..=u32::MAX,
            any::<u64>(),
            any::<u32>(),
            any::<bool>()
        )
            .prop_map(
                |(max_streams, stream_window, connection_window, flight, takes_growth)| {
                    Frame::Hello(Hello {
                        max_streams,
                        stream_window,
                        connection_window,
                        flight,
                        takes_growth,
                    })
                }
            ),
        any::<u32>().prop_map(|bytes| Frame::Received(bytes.into())),
        Just(Frame::Drain),
        any::<u64>().prop_map(|streams| Frame::Drained { streams }),
        (any::<u32>(), any::<u64>(), "\\PC{0,200}").prop_map(|(code, messages, reason)| {
            Frame::Close {
                code,
                messages,
                reason,
            }
        }),
        Just(Frame::Closed),
    ]
}

/// A line that is nearly one of the protocol.
fn line() -> impl Strategy<Value = String> {
    let verb = prop_oneof![
        Just("open"),
        Just("end"),
        Just("reset"),
        Just("stop"),
        Just("credit"),
        Just("taken"),
        Just("done"),
        Just("hello pipe/1"),
        Just("got"),
        Just("drained"),
        Just("close"),
        Just("x-later"),
        Just("\u{fffd}"),
    ];
    let word = prop_oneof![
        any::<u64>().prop_map(|number| number.to_string()),
        any::<u32>().prop_map(|number| format!("max_streams={number}")),
        any::<u128>().prop_map(|number| format!("flight={number}")),
        "\\PC{0,20}",
        Just(String::new()),
        Just("-1".to_owned()),
    ];
    (verb, vec(word, 0..5)).prop_map(|(verb, words)| format!("{verb} {}", words.join(" ")))
}

fn encode(frames: &[Frame]) -> BytesMut {
    let mut out = BytesMut::new();
    for frame in frames {
        binary::encode(frame, &mut out);
    }
    out
}

/// Reads bytes in pieces: the frames, and how it ended.
fn decode(bytes: &[u8], pieces: &[usize]) -> (Vec<Frame>, Option<String>) {
    let mut input = BytesMut::new();
    let mut frames = Vec::new();
    let mut rest = bytes;
    let mut pieces = pieces.iter().cycle();
    while !rest.is_empty() {
        let next = pieces.next().map_or(rest.len(), |piece| *piece);
        let (piece, later) = rest.split_at(rest.len().min(next));
        input.extend_from_slice(piece);
        rest = later;
        loop {
            match binary::decode(&mut input) {
                Ok(Some(frame)) => frames.push(frame),
                Ok(None) => break,
                Err(violation) => return (frames, Some(violation.to_string())),
            }
        }
        assert!(
            input.len() < binary::MAX_PAYLOAD + 3,
            "a frame is held back"
        );
    }
    (frames, None)
}

proptest! {
    #[test]
    fn frames_are_read_from_bytes_in_any_pieces(
        frames in vec(binary_frame(), 1..20),
        pieces in vec(1..200_usize, 1..50),
    ) {
        let bytes = encode(&frames);
        prop_assert_eq!(decode(&bytes, &pieces), (frames, None));
    }

    #[test]
    fn any_bytes_cost_an_error_at_most(
        start in vec(binary_frame(), 0..3),
        bytes in vec(any::<u8>(), 0..10_000),
        pieces in vec(1..200_usize, 1..50),
    ) {
        let bytes = [&encode(&start)[..], &bytes].concat();
        let whole = decode(&bytes, &[]);
        prop_assert_eq!(&whole, &decode(&bytes, &pieces));
        // What was read is written and read again without a change.
        prop_assert_eq!(decode(&encode(&whole.0), &[]), (whole.0, None));
    }

    #[test]
    fn fields_of_later_versions_are_skipped(
        mut frame in binary_frame(),
        more in vec(any::<u8>(), 0..50),
    ) {
        // The reason of a close runs to the end of its payload.
        prop_assume!(!matches!(frame, Frame::Close { .. }));
        let mut bytes = encode(std::slice::from_ref(&frame));
        let length = (bytes.len() - 3 + more.len()) as u16;
        bytes[1..3].copy_from_slice(&length.to_be_bytes());
        bytes.extend_from_slice(&more);
        if let (Frame::Hello(hello), Some(flags)) = (&mut frame, more.first()) {
            // The flags may be left out; bits of later versions mean nothing.
            hello.takes_growth |= flags & 1 == 1;
        }
        prop_assert_eq!(binary::decode(&mut bytes), Ok(Some(frame)));
        prop_assert!(bytes.is_empty());
    }

    #[test]
    fn frames_are_read_from_their_lines(
        id in any::<u64>(),
        about in stream_frame(),
        control in control_frame(),
    ) {
        let line = StreamLine(id, about).to_string();
        prop_assert_eq!(decode_stream(line.as_bytes()), Ok(Some(StreamWord::About(about))));
        let line = StreamLine(id, StreamFrame::Open).to_string();
        prop_assert_eq!(decode_stream(line.as_bytes()), Ok(Some(StreamWord::Open(id))));
        let line = ControlLine(&control).to_string();
        prop_assert!(line.len() <= text::MAX_LEN);
        prop_assert_eq!(decode_control(line.as_bytes()), Ok(Some(control)));
    }

    #[test]
    fn any_line_costs_an_error_at_most(line in line(), bytes in vec(any::<u8>(), 0..5000)) {
        for line in [line.as_bytes(), &bytes] {
            if let Ok(Some(StreamWord::About(frame))) = decode_stream(line) {
                let again = StreamLine(0, frame).to_string();
                prop_assert_eq!(decode_stream(again.as_bytes()), Ok(Some(StreamWord::About(frame))));
            }
            if let Ok(Some(frame)) = decode_control(line) {
                if let Frame::Close { reason, .. } = &frame {
                    prop_assert!(reason.len() <= MAX_REASON_LEN);
                }
                let again = ControlLine(&frame).to_string();
                prop_assert_eq!(decode_control(again.as_bytes()), Ok(Some(frame)));
            }
        }
    }
}

#[test]
fn a_long_reason_is_cut_by_its_sender() {
    let bytes = encode(&[Frame::Close {
        code: 0,
        messages: 0,
        reason: "ä".repeat(40_000),
    }]);
    let (frames, _) = decode(&bytes, &[]);
    let [Frame::Close { reason, .. }] = &frames[..] else {
        panic!("no close: {frames:?}")
    };
    assert_eq!(*reason, "ä".repeat(MAX_REASON_LEN / 2));
}
