use super::{pair::*, *};
use crate::{
    chunk,
    packet::{self, Header},
};

/// Returns a packet to B as its peer would send it.
fn forge(pair: &Pair, kind: u8, flags: u8, body: &[u8]) -> Bytes {
    let header = Header {
        source_port: 5000,
        destination_port: 5000,
        tag: pair.b.local_tag,
    };
    let mut buf = Vec::new();
    packet::put_header(&mut buf, header);
    chunk::put(&mut buf, kind, flags, body);
    packet::seal(&mut buf);
    Bytes::from(buf)
}

fn words(words: &[u32]) -> Vec<u8> {
    words.iter().flat_map(|word| word.to_be_bytes()).collect()
}

#[test]
fn packets_of_another_association_or_with_a_wrong_checksum_are_dropped() {
    let mut pair = Pair::default_connected();
    let good = forge(&pair, kind::ABORT, 0, &[]);
    for at in [0, 2, 4, 8] {
        let mut bad = good.to_vec();
        bad[at] ^= 1;
        if at != 8 {
            packet::seal(&mut bad);
        }
        pair.inject(Side::B, Bytes::from(bad));
        assert_eq!(pair.b.state(), State::Established);
    }
    assert_eq!(pair.b.stats().packets_dropped, 4);
    pair.inject(Side::B, good);
    assert_eq!(pair.b.state(), State::Closed);
}

#[test]
fn a_zero_checksum_is_taken_only_if_it_was_announced() {
    for announced in [false, true] {
        let config = Config {
            zero_checksum: announced,
            ..Config::default()
        };
        let mut pair = Pair::connected(Config::default(), config);
        let mut packet = forge(&pair, kind::ABORT, 0, &[]).to_vec();
        packet[8..12].fill(0);
        pair.inject(Side::B, Bytes::from(packet));
        assert_eq!(pair.b.state() == State::Closed, announced);
        assert_eq!(pair.a.stats().zero_checksum, announced);
    }
}

#[test]
fn the_handshake_carries_checksums() {
    let mut pair = Pair::new(Config::default(), Config::default());
    pair.filter(|_, packet| {
        let first = kinds(packet)[0];
        if matches!(first, kind::INIT | kind::INIT_ACK | kind::COOKIE_ECHO) {
            assert_eq!(packet::check(packet, false), packet::Checksum::Valid);
        } else {
            assert_eq!(packet[8..12], [0; 4], "{first}");
        }
        Verdict::Pass
    });
    pair.a.connect(pair.now);
    pair.run(Duration::from_secs(1));
    assert_eq!(pair.b.state(), State::Established);
}

#[test]
fn a_forward_tsn_far_ahead_is_ignored() {
    let mut pair = Pair::default_connected();
    let cumulative = pair.b.receiver.cumulative() as u32;
    for ahead in [0x7fff_ffff, 0x8000_0000, 65_536, 0] {
        let body = words(&[cumulative.wrapping_add(ahead)]);
        let packet = forge(&pair, kind::I_FORWARD_TSN, 0, &body);
        pair.inject(Side::B, packet);
        assert_eq!(pair.b.receiver.cumulative() as u32, cumulative);
    }
    pair.send(Side::A, 0, "hello");
    pair.run(Duration::from_secs(1));
    assert_eq!(pair.take_messages(Side::B).len(), 1);
}

#[test]
fn an_acknowledgement_of_what_was_not_sent_ends_the_association() {
    let mut pair = Pair::default_connected();
    let next = pair.b.sender.last_tsn().wrapping_add(1);
    let packet = forge(&pair, kind::SACK, 0, &words(&[next, 1000, 0]));
    pair.inject(Side::B, packet);
    pair.run(Duration::from_secs(1));
    let events = pair.take_events(Side::B);
    assert!(matches!(
        events[..],
        [Event::Closed(CloseReason::ProtocolViolation(_))]
    ));
    let events = pair.take_events(Side::A);
    assert!(
        matches!(
            events[..],
            [Event::Closed(CloseReason::AbortedByPeer { code: 13, .. })]
        ),
        "{events:?}"
    );
}

#[test]
fn data_without_data_or_of_the_wrong_kind_ends_the_association() {
    for (kind, body, code) in [
        (kind::I_DATA, words(&[1, 0, 0, 53]), 9),
        (kind::DATA, words(&[1, 0, 53, 0]), 13),
        (kind::I_DATA, words(&[1, 0]), 13),
    ] {
        let mut pair = Pair::default_connected();
        let packet = forge(&pair, kind, 3, &body);
        pair.inject(Side::B, packet);
        pair.run(Duration::from_secs(1));
        assert!(matches!(pair.take_events(Side::B)[..], [Event::Closed(_)]));
        let events = pair.take_events(Side::A);
        let [Event::Closed(CloseReason::AbortedByPeer { code: got, .. })] = events[..] else {
            panic!("{events:?}");
        };
        assert_eq!(got, code);
    }
}

#[test]
fn unknown_chunks_are_handled_by_their_top_bits() {
    for (unknown, continues, reported) in [
        (0x3f, false, false),
        (0x7f, false, true),
        (0xbf, true, false),
        (0xff, true, true),
    ] {
        let mut pair = Pair::default_connected();
        let mut packet = forge(&pair, unknown, 0, b"abcd").to_vec();
        chunk::put(&mut packet, kind::HEARTBEAT, 0, &[0, 1, 0, 4]);
        packet::seal(&mut packet);
        pair.inject(Side::B, Bytes::from(packet));
        let answer = pair
            .b
            .poll_transmit(pair.now)
            .map_or(Vec::new(), |packet| kinds(&packet));
        assert_eq!(
            answer.contains(&kind::HEARTBEAT_ACK),
            continues,
            "{unknown}"
        );
        assert_eq!(answer.contains(&kind::ERROR), reported, "{unknown}");
    }
}

#[test]
fn answers_that_wait_are_bounded() {
    let mut pair = Pair::default_connected();
    for number in 0..1000u32 {
        for (kind, body) in [
            (kind::HEARTBEAT, words(&[0x0001_0008, number])),
            (0xff, words(&[number])),
            (kind::RE_CONFIG, words(&[0x000e_0008, number])),
        ] {
            let packet = forge(&pair, kind, 0, &body);
            pair.inject(Side::B, packet);
        }
        let mut init = words(&[7, 100_000, 0x0001_0001, number]);
        init.extend_from_slice(&[0xc0, 0, 0, 4]);
        let mut packet = forge(&pair, kind::INIT, 0, &init).to_vec();
        packet[4..8].fill(0);
        packet::seal(&mut packet);
        pair.inject(Side::B, Bytes::from(packet));
    }
    let mut packets = 0;
    while pair.b.poll_transmit(pair.now).is_some() {
        packets += 1;
    }
    assert!(packets <= 20, "{packets}");
    assert_eq!(pair.b.state(), State::Established);
}

#[test]
fn a_message_beyond_the_limit_or_a_full_buffer_of_parts_ends_the_association() {
    let small = Config {
        max_message_size: 10_000,
        ..Config::default()
    };
    let mut pair = Pair::connected(Config::default(), small);
    pair.send(Side::A, 0, content(0, 10_000));
    pair.run(Duration::from_secs(1));
    assert_eq!(pair.take_messages(Side::B).len(), 1);
    pair.send(Side::A, 0, content(0, 10_001));
    pair.run(Duration::from_secs(1));
    assert!(matches!(pair.take_events(Side::B)[..], [Event::Closed(_)]));

    let mut pair = Pair::default_connected();
    let first = pair.b.receiver.cumulative() as u32 + 1;
    let mut mid = 0;
    while pair.b.state() == State::Established {
        // One byte of each of many messages.
        let mut body = words(&[first.wrapping_add(mid), 0, mid, 53]);
        body.push(1);
        let packet = forge(&pair, kind::I_DATA, 2, &body);
        pair.inject(Side::B, packet);
        while pair.b.poll_transmit(pair.now).is_some() {}
        mid += 1;
        assert!(mid < 3000, "parts of messages are bounded");
    }
}

#[test]
fn one_byte_does_not_keep_a_packet() {
    let mut pair = Pair::default_connected();
    pair.send(Side::A, 0, "x");
    pair.send(Side::A, 0, content(1, 1000));
    let packet = pair.a.poll_transmit(pair.now).expect("a packet");
    let range = packet.as_ptr_range();
    pair.inject(Side::B, packet);
    let small = pair.b.poll_message().expect("a message").payload;
    assert!(!range.contains(&small.as_ptr()), "copied");
    let large = pair.b.poll_message().expect("a message").payload;
    assert!(range.contains(&large.as_ptr()), "a slice");
}

/// Returns the RE-CONFIG chunk's body of B's peer that asks for the reset of `streams`, none for all.
fn reset_request(pair: &Pair, number: u32, streams: &[u16]) -> Vec<u8> {
    let mut body = words(&[
        0x000d_0000 + 16 + 2 * streams.len() as u32,
        pair.a.local_initial_tsn.wrapping_add(number),
        0,
        pair.b.receiver.cumulative() as u32,
    ]);
    body.extend(streams.iter().flat_map(|id| id.to_be_bytes()));
    body
}

/// Returns the outcome of the request that the next packet of B answers.
fn outcome(pair: &mut Pair) -> Option<u8> {
    let packet = pair.b.poll_transmit(pair.now)?;
    let chunk = chunk::Chunks::new(&packet).find(|chunk| chunk.kind == kind::RE_CONFIG)?;
    chunk.body.get(11).copied()
}

#[test]
fn the_id_of_no_stream_is_reported_and_not_used() {
    const NONE: u16 = u16::MAX;
    let mut pair = Pair::default_connected();
    let sent = pair
        .b
        .send(pair.now, NONE, 53, "x".into(), SendOptions::default());
    assert_eq!(sent, Err(SendError::InvalidStream));
    pair.b.set_weight(NONE, 7);
    pair.b.reset_outgoing(NONE);
    assert_eq!(
        pair.b.poll_event(),
        Some(Event::ResetDenied { stream: NONE })
    );
    assert_eq!(pair.b.poll_transmit(pair.now), None);

    // Data is acknowledged, reported and dropped (RFC 9260, section 6.5).
    let first = pair.b.receiver.cumulative() as u32 + 1;
    let mut body = words(&[first, u32::from(NONE) << 16, 0, 53]);
    body.push(1);
    let packet = forge(&pair, kind::I_DATA, 3, &body);
    pair.inject(Side::B, packet);
    assert_eq!(pair.b.receiver.cumulative() as u32, first);
    assert_eq!(pair.b.poll_message(), None);
    let answer = pair.b.poll_transmit(pair.now).expect("a packet");
    let error = chunk::Chunks::new(&answer)
        .find(|chunk| chunk.kind == kind::ERROR)
        .expect("an ERROR chunk");
    assert_eq!(error.body, [0, 1, 0, 8, 0xff, 0xff, 0, 0]);

    // A request of its reset is refused (RFC 6525, section 4.4), with all that it names.
    let body = reset_request(&pair, 0, &[1, NONE]);
    let packet = forge(&pair, kind::RE_CONFIG, 0, &body);
    pair.inject(Side::B, packet);
    assert_eq!(outcome(&mut pair), Some(3));
    assert_eq!(pair.b.poll_event(), None);
    assert_eq!(pair.b.state(), State::Established);
}

#[test]
fn resets_that_wait_to_be_reported_are_bounded() {
    let mut pair = Pair::default_connected();
    pair.reading = false;
    pair.send(Side::A, 0, "waits");
    pair.run(Duration::from_secs(1));
    let mut performed = 0;
    for number in 0..20_000 {
        // A stream is used and reset, with a message that is not taken before it.
        let cumulative = pair.b.receiver.cumulative() as u32;
        let skip = words(&[cumulative.wrapping_add(1), 5 << 16, number]);
        let packet = forge(&pair, kind::I_FORWARD_TSN, 0, &skip);
        pair.inject(Side::B, packet);
        let body = reset_request(&pair, number, &[5]);
        let packet = forge(&pair, kind::RE_CONFIG, 0, &body);
        pair.inject(Side::B, packet);
        performed += usize::from(outcome(&mut pair) == Some(1));
        while pair.b.poll_transmit(pair.now).is_some() {}
    }
    assert!(performed < 5_000, "{performed}");
    // They are performed once there is room.
    assert!(pair.b.poll_message().is_some());
    while pair.b.poll_event().is_some() {}
    let body = reset_request(&pair, 20_000, &[5]);
    let packet = forge(&pair, kind::RE_CONFIG, 0, &body);
    pair.inject(Side::B, packet);
    assert!(pair.b.poll_event().is_some());
    assert_eq!(pair.b.state(), State::Established);
}
