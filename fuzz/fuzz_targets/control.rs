//! Any bytes, in any pieces, on the control channel of `pipe/1`: messages, or a protocol error.
//!
//! The first byte chooses whether the peer has said hello before, the second the pieces.

#![no_main]

use bytes::BytesMut;
use libfuzzer_sys::fuzz_target;
use pipe_core::backend::wire::{Control, ControlEvent, Hello, MAX_PAYLOAD, Message, PING_LEN};
use pipe_core::{ErrorKind, MAX_REASON_LEN, Result};

const HELLO: Hello = Hello {
    max_streams: 8,
    stream_window: 1 << 18,
    connection_window: 0,
};

/// What may wait to be sent at most: a hello, a ping, 64 KiB of answers, and the last one.
const MAX_OUTPUT: usize = 64 * 1024 + 1024;

fuzz_target!(|data: &[u8]| {
    let [greeted, size, wire @ ..] = data else {
        return;
    };
    let greeted = greeted % 2 == 1;
    let pieces = usize::from(*size) + 1;
    codec(wire, pieces);

    let (whole, whole_end) = hear(greeted, wire, usize::MAX, false);
    let (parts, parts_end) = hear(greeted, wire, pieces, false);
    assert_eq!(whole, parts, "the pieces change what is heard");
    assert_eq!(
        whole_end.map_err(|e| e.to_string()),
        parts_end.map_err(|e| e.to_string()),
        "the pieces change how it ends"
    );
    // A peer that takes its answers never floods.
    let (taken, _) = hear(greeted, wire, pieces, true);
    assert!(taken.starts_with(&parts));
});

/// What is decoded is encoded and decoded again without a change, and pieces make no difference.
fn codec(wire: &[u8], pieces: usize) {
    let whole = decode(wire, usize::MAX);
    assert_eq!(whole, decode(wire, pieces));
    for message in &whole.0 {
        if let Message::Close { reason, .. } = message {
            assert!(reason.len() <= MAX_REASON_LEN, "{} bytes", reason.len());
        }
        let mut bytes = BytesMut::new();
        message.encode(&mut bytes);
        let again = Message::decode(&mut bytes).expect("what was encoded");
        assert_eq!(again.as_ref(), Some(message));
        assert!(bytes.is_empty());
    }
}

fn decode(wire: &[u8], pieces: usize) -> (Vec<Message>, Option<String>) {
    let mut input = BytesMut::new();
    let mut messages = Vec::new();
    for piece in wire.chunks(pieces) {
        input.extend_from_slice(piece);
        loop {
            match Message::decode(&mut input) {
                Ok(Some(message)) => messages.push(message),
                Ok(None) => break,
                Err(error) => {
                    assert_eq!(error.kind(), ErrorKind::Protocol);
                    return (messages, Some(error.to_string()));
                }
            }
        }
        assert!(
            input.len() < MAX_PAYLOAD + 3,
            "a whole message was kept back"
        );
    }
    (messages, None)
}

/// Says the bytes to a side: its events, and the error.
fn hear(
    greeted: bool,
    wire: &[u8],
    pieces: usize,
    answers_are_taken: bool,
) -> (Vec<ControlEvent>, Result<()>) {
    let mut control = Control::new(HELLO);
    // One ping that the bytes may answer.
    control.ping([0; PING_LEN]);
    let mut heard = Vec::new();
    if greeted {
        let mut hello = BytesMut::new();
        Message::Hello(HELLO).encode(&mut hello);
        control.receive(&hello).expect("a hello");
    }
    for piece in wire.chunks(pieces) {
        let result = control.receive(piece);
        heard.extend(std::iter::from_fn(|| control.next_event()));
        let waiting = control.output().len();
        assert!(waiting <= MAX_OUTPUT, "{waiting} bytes wait to be sent");
        assert!(control.pings_under_way() <= 1);
        if answers_are_taken {
            control.output().clear();
        }
        if let Err(error) = result {
            let known = [ErrorKind::Handshake, ErrorKind::Protocol];
            assert!(known.contains(&error.kind()), "{error:?}");
            check(&heard, wire);
            return (heard, Err(error));
        }
    }
    heard.extend(std::iter::from_fn(|| control.next_event()));
    check(&heard, wire);
    (heard, Ok(()))
}

fn check(heard: &[ControlEvent], wire: &[u8]) {
    // The shortest message has three bytes.
    assert!(heard.len() <= 1 + wire.len() / 3);
    for (at, event) in heard.iter().enumerate() {
        assert_eq!(matches!(event, ControlEvent::Hello(_)), at == 0);
        if matches!(event, ControlEvent::Close { .. }) {
            assert_eq!(at + 1, heard.len(), "something came after a close");
        }
    }
}
