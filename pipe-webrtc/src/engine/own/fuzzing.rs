//! Entry points of the fuzz targets. They are in builds for fuzzing and in tests.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use super::candidate::RemoteCandidate;
use super::credentials::Credentials;
use super::fingerprint::Fingerprint;
use super::gather::Gatherer;
use super::mdns::Machine;
use super::sdp::{Description, Local, Session};
use super::turn::{TurnClient, TurnConfig, TurnInput};

/// Reads any text as a session description. One that is read is written and read alike, and has an answer that
/// fits.
pub fn description(text: &str) {
    let Ok(read) = text.parse::<Description>() else {
        return;
    };
    let again = read.to_string().parse::<Description>();
    assert_eq!(again.expect("a description"), read);
    let answer = read.answer(
        Local {
            session: Session { id: 1, version: 1 },
            credentials: Credentials::new("user", &"p".repeat(24)).expect("credentials"),
            fingerprint: Fingerprint::sha256(text.as_bytes()),
            max_message_size: 1,
            candidates: Vec::new(),
            end_of_candidates: true,
        },
        None,
    );
    let answer = answer.expect("an answer");
    read.role_after(&answer).expect("a role");
    let again = answer.to_string().parse::<Description>();
    assert_eq!(again.expect("a description"), answer);
    for candidate in &read.candidates {
        self::candidate(candidate);
    }
}

/// Reads any text as a candidate. One that is read is written and read alike.
pub fn candidate(text: &str) {
    match RemoteCandidate::parse(text) {
        Ok(RemoteCandidate::Addr(read)) => {
            match RemoteCandidate::parse(&read.to_sdp_string()).expect("a candidate") {
                RemoteCandidate::Addr(again) => assert_eq!(again, read),
                other => panic!("{other:?}"),
            }
        }
        Ok(RemoteCandidate::Name(named)) => {
            let _ = named.resolved([192, 0, 2, 1].into());
        }
        Ok(RemoteCandidate::End | RemoteCandidate::Unused(_)) | Err(_) => {}
    }
}

/// Gives packets to the clients of STUN, TURN and multicast DNS. `answers` is whether each packet is made an
/// answer to the last request.
pub fn packets(packets: &[Vec<u8>], answers: bool) {
    let start = Instant::now();
    let [base, server, peer]: [SocketAddr; 3] = [
        ([10, 0, 0, 1], 1000).into(),
        ([192, 0, 2, 1], 3478).into(),
        ([192, 0, 2, 9], 9).into(),
    ];
    let mut turn = TurnClient::new(
        start,
        TurnConfig {
            name: "turn:fuzzed".to_owned(),
            username: "user".to_owned(),
            password: "password".to_owned(),
            is_stream: false,
            is_alternate: false,
            realm: None,
            ipv6: false,
        },
    );
    let mut gatherer = Gatherer::default();
    gatherer.ask(start, base, server);
    let mut names = Machine::default();
    names.look_up(start, "name.local");
    names.publish(start, "own.local", vec![base.ip()]);

    let (mut now, mut out) = (start, Vec::new());
    let mut last = [0; 12];
    for packet in packets.iter().take(256) {
        now += Duration::from_secs(1);
        let mut packet = packet.clone();
        if answers && packet.len() >= 20 {
            let length = (packet.len() - 20) as u16;
            packet[2..4].copy_from_slice(&length.to_be_bytes());
            packet[4..8].copy_from_slice(&[0x21, 0x12, 0xa4, 0x42]);
            packet[8..20].copy_from_slice(&last);
        }
        if let TurnInput::Data { range, .. } = turn.handle_packet(now, &packet) {
            assert!(packet.get(range).is_some());
        }
        out.clear();
        turn.send(now, peer, &packet, &mut out);
        turn.handle_timeout(now);
        gatherer.handle_packet(base, server, &packet);
        gatherer.handle_timeout(now);
        names.handle_packet(now, (peer.ip(), 5353).into(), &packet);
        names.handle_timeout(now);
        while let Some(request) = turn.poll_transmit() {
            if let Some(id) = request.get(8..20).and_then(|id| id.first_chunk()) {
                last = *id;
            }
        }
        while let Some(question) = gatherer.poll_transmit() {
            if let Some(id) = question.payload.get(8..20).and_then(|id| id.first_chunk()) {
                last = *id;
            }
        }
        while names.poll_transmit().is_some() {}
        while turn.poll_event().is_some() {}
        while gatherer.poll_event().is_some() {}
        while names.poll_event().is_some() {}
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn any_packets_are_taken(
            all in prop::collection::vec(
                (0..2_u8, any::<u8>(), prop::collection::vec(any::<u8>(), 0..100)), 0..40,
            ),
            answers in any::<bool>(),
        ) {
            let begin = |(high, low, rest): (u8, u8, Vec<u8>)| [&[high, low], &rest[..]].concat();
            packets(&all.into_iter().map(begin).collect::<Vec<_>>(), answers);
        }

        #[test]
        fn any_text_is_read(text in "(candidate:[ -~]{0,80})|(v=0\n([a-z]=[ -~]{0,40}\n){0,20})") {
            description(&text);
            candidate(&text);
        }
    }
}
