//! The control protocol: its codec, and its state against a model of the peer.

use std::collections::HashMap;

use bytes::BytesMut;
use pipe_core::backend::wire::{Control, ControlEvent, Hello, MAX_PAYLOAD, Message, PING_LEN};
use pipe_core::{ErrorKind, MAX_REASON_LEN};
use proptest::collection::vec;
use proptest::prelude::*;

const HELLO: Hello = Hello {
    max_streams: 256,
    stream_window: 1 << 18,
    connection_window: 0,
};

fn message() -> impl Strategy<Value = Message> {
    let id = any::<u64>;
    prop_oneof![
        any::<(u32, u32, u64)>().prop_map(|(max_streams, stream_window, connection_window)| {
            Message::Hello(Hello {
                max_streams,
                stream_window,
                connection_window,
            })
        }),
        any::<[u8; PING_LEN]>().prop_map(Message::Ping),
        any::<[u8; PING_LEN]>().prop_map(Message::Pong),
        (id(), any::<u64>()).prop_map(|(stream, bytes)| Message::End { stream, bytes }),
        (id(), any::<u32>()).prop_map(|(stream, code)| Message::Reset { stream, code }),
        (id(), any::<u32>()).prop_map(|(stream, code)| Message::Stop { stream, code }),
        id().prop_map(|stream| Message::Done { stream }),
        id().prop_map(|stream| Message::Taken { stream }),
        (id(), any::<u32>()).prop_map(|(stream, bytes)| Message::Credit { stream, bytes }),
        Just(Message::Drain),
        Just(Message::Drained),
        (any::<u32>(), "\\PC{0,300}").prop_map(|(code, reason)| Message::Close { code, reason }),
    ]
}

fn encode(messages: &[Message]) -> BytesMut {
    let mut out = BytesMut::new();
    messages.iter().for_each(|message| message.encode(&mut out));
    out
}

/// Says these messages to a side that has been greeted.
fn hear(messages: &[Message]) -> (Control, pipe_core::Result<()>) {
    let mut control = Control::new(HELLO);
    control.receive(&encode(&[Message::Hello(HELLO)])).unwrap();
    assert_eq!(control.next_event(), Some(ControlEvent::Hello(HELLO)));
    control.output().clear();
    let heard = control.receive(&encode(messages));
    (control, heard)
}

proptest! {
    #[test]
    fn what_is_encoded_is_decoded_in_any_pieces(
        messages in vec(message(), 1..20),
        pieces in vec(1..200_usize, 1..50),
    ) {
        let bytes = encode(&messages);
        let mut input = BytesMut::new();
        let mut decoded = Vec::new();
        let mut rest = &bytes[..];
        let mut pieces = pieces.iter().cycle();
        while !rest.is_empty() {
            let (piece, later) = rest.split_at(rest.len().min(*pieces.next().unwrap()));
            input.extend_from_slice(piece);
            rest = later;
            while let Some(message) = Message::decode(&mut input).unwrap() {
                decoded.push(message);
            }
        }
        prop_assert_eq!(decoded, messages);
    }

    #[test]
    fn any_bytes_cost_an_error_at_most(bytes in vec(any::<u8>(), 0..10_000)) {
        let mut control = Control::new(HELLO);
        let first = control.receive(&bytes);
        if let Err(error) = first {
            prop_assert!(matches!(error.kind(), ErrorKind::Handshake | ErrorKind::Protocol));
        }
    }

    #[test]
    fn fields_of_later_versions_are_passed_over(message in message(), more in vec(any::<u8>(), 0..50)) {
        // The reason of a close runs to the end of its payload.
        prop_assume!(!matches!(message, Message::Close { .. }));
        let mut bytes = encode(std::slice::from_ref(&message));
        let length = (bytes.len() - 3 + more.len()) as u16;
        bytes[1..3].copy_from_slice(&length.to_be_bytes());
        bytes.extend_from_slice(&more);
        prop_assert_eq!(Message::decode(&mut bytes).unwrap(), Some(message));
        prop_assert!(bytes.is_empty());
    }

    #[test]
    fn two_sides_understand_each_other(said in vec(message(), 0..40)) {
        let mut expected = Vec::new();
        let mut here = Control::new(HELLO);
        let mut drained = false;
        let mut credited = HashMap::new();
        for message in &said {
            match message.clone() {
                Message::Ping(bytes) => here.ping(bytes),
                Message::End { stream, bytes } => {
                    here.end(stream, bytes);
                    expected.push(ControlEvent::End { stream, bytes });
                }
                Message::Reset { stream, code } => {
                    here.reset(stream, code);
                    expected.push(ControlEvent::Reset { stream, code });
                }
                Message::Stop { stream, code } => {
                    here.stop(stream, code);
                    expected.push(ControlEvent::Stop { stream, code });
                }
                Message::Done { stream } => {
                    here.done(stream);
                    expected.push(ControlEvent::Done { stream });
                }
                Message::Taken { stream } => {
                    here.taken(stream);
                    expected.push(ControlEvent::Taken { stream });
                }
                Message::Credit { stream, bytes } => {
                    here.credit(stream, bytes);
                    let sum: &mut u32 = credited.entry(stream).or_default();
                    *sum = sum.saturating_add(bytes);
                }
                Message::Drain if !std::mem::replace(&mut drained, true) => {
                    here.drain();
                    expected.push(ControlEvent::Drain);
                }
                Message::Close { code, reason } => {
                    here.close(code, &reason);
                    expected.push(ControlEvent::Close { code, reason });
                    break;
                }
                _ => {}
            }
        }
        let mut there = Control::new(HELLO);
        while !here.output().is_empty() {
            there.receive(&here.output().split()).unwrap();
        }
        prop_assert_eq!(there.next_event(), Some(ControlEvent::Hello(HELLO)));
        let mut heard = Vec::new();
        let mut room = HashMap::new();
        while let Some(event) = there.next_event() {
            match event {
                // Credit adds up by stream, behind everything else.
                ControlEvent::Credit { stream, bytes } => {
                    prop_assert_eq!(room.insert(stream, bytes), None);
                }
                event => heard.push(event),
            }
        }
        let closed = matches!(expected.last(), Some(ControlEvent::Close { .. }));
        prop_assert_eq!(heard, expected);
        prop_assert!(closed || room == credited);

        here.receive(&there.output().split()).unwrap();
        prop_assert_eq!(here.pings_under_way(), 0);
    }
}

#[test]
fn a_peer_of_another_make_fails_the_handshake() {
    for bytes in [&b"GET / HTTP/1.1\r\n"[..], b"\x02\0\0", b"\x01\0\x06gopher"] {
        let error = Control::new(HELLO).receive(bytes).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Handshake, "{error}");
    }
}

#[test]
fn a_huge_length_is_refused_before_its_payload_comes() {
    let (mut control, _) = hear(&[]);
    let [high, low] = (MAX_PAYLOAD as u16 + 1).to_be_bytes();
    let error = control.receive(&[0x80, high, low]).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Protocol);
    assert_eq!(
        error.to_string(),
        "a message of 4097 bytes is above the limit"
    );
}

#[test]
fn what_breaks_the_rules_is_a_protocol_error() {
    for (messages, why) in [
        (vec![Message::Hello(HELLO)], "a second hello"),
        (vec![Message::Drain, Message::Drain], "a second drain"),
        (
            vec![Message::Pong([7; PING_LEN])],
            "an answer to a ping that was not sent",
        ),
        (vec![Message::Ping([7; PING_LEN]); 2000], "a flood of pings"),
    ] {
        let error = hear(&messages).1.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Protocol);
        assert_eq!(
            error.to_string(),
            format!("the peer broke the protocol: {why}")
        );
    }
    for bytes in [&[0x7f, 0, 0][..], &[0x04, 0, 1, 0], &[0x00, 0, 0]] {
        let (mut control, _) = hear(&[]);
        assert_eq!(
            control.receive(bytes).unwrap_err().kind(),
            ErrorKind::Protocol
        );
    }
}

#[test]
fn optional_messages_that_are_unknown_are_passed_over() {
    let (mut control, _) = hear(&[]);
    control.receive(&[0xff, 0, 2, 1, 2, 0x08, 0, 0]).unwrap();
    assert_eq!(control.next_event(), Some(ControlEvent::Drain));
    assert_eq!(&control.output()[..], [0x09, 0, 0]);
}

#[test]
fn nothing_counts_after_a_close() {
    let close = Message::Close {
        code: 5,
        reason: "bye".into(),
    };
    let (mut control, heard) = hear(&[close, Message::Drain, Message::Hello(HELLO)]);
    heard.unwrap();
    assert_eq!(
        control.next_event(),
        Some(ControlEvent::Close {
            code: 5,
            reason: "bye".into()
        })
    );
    assert_eq!(control.next_event(), None);
    control.receive(b"anything").unwrap();
}

#[test]
fn a_reason_is_cut_by_the_sender_and_made_readable_by_the_receiver() {
    let (mut control, heard) = hear(&[Message::Close {
        code: 0,
        reason: "ä".repeat(40_000),
    }]);
    heard.unwrap();
    let Some(ControlEvent::Close { reason, .. }) = control.next_event() else {
        panic!("no close")
    };
    assert_eq!(reason, "ä".repeat(MAX_REASON_LEN / 2));

    let (mut control, _) = hear(&[]);
    control
        .receive(&[0x0a, 0, 6, 0, 0, 0, 0, 0xff, b'x'])
        .unwrap();
    let Some(ControlEvent::Close { reason, .. }) = control.next_event() else {
        panic!("no close")
    };
    assert_eq!(reason, "\u{fffd}x");
    // Each of these bytes becomes a character of three.
    let mut bytes = vec![0x0a, 0x04, 0x04, 0, 0, 0, 0];
    bytes.extend([0xff; MAX_REASON_LEN]);
    let (mut control, _) = hear(&[]);
    control.receive(&bytes).unwrap();
    let Some(ControlEvent::Close { reason, .. }) = control.next_event() else {
        panic!("no close")
    };
    assert_eq!(reason, "\u{fffd}".repeat(MAX_REASON_LEN / 3));
}
