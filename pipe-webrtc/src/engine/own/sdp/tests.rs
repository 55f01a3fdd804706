use proptest::prelude::*;

use pipe_core::ErrorKind;

use super::*;

const SHA: &str = "sha-256 3C:4A:EE:12:70:9D:51:0B:77:A1:C2:5E:90:08:64:F3:\
                   1D:22:B8:4F:E7:66:03:9C:D5:58:AA:31:0E:94:7B:20";

fn parsed(text: &str) -> Description {
    text.parse()
        .unwrap_or_else(|error| panic!("{error}\n{text}"))
}

fn crlf(lines: &[&str]) -> String {
    lines.iter().map(|line| format!("{line}\r\n")).collect()
}

fn local() -> Local {
    Local {
        session: Session { id: 7, version: 1 },
        credentials: Credentials::new("ownU", &"p".repeat(24)).unwrap(),
        fingerprint: Fingerprint::sha256(b"own"),
        max_message_size: 262_144,
        candidates: Vec::new(),
        end_of_candidates: false,
    }
}

/// The offer of Chromium with a data channel alone.
fn chromium() -> String {
    let fingerprint = format!("a=fingerprint:{SHA}");
    crlf(&[
        "v=0",
        "o=- 4215775240449105457 2 IN IP4 127.0.0.1",
        "s=-",
        "t=0 0",
        "a=group:BUNDLE 0",
        "a=extmap-allow-mixed",
        "a=msid-semantic: WMS",
        "m=application 9 UDP/DTLS/SCTP webrtc-datachannel",
        "c=IN IP4 0.0.0.0",
        "a=ice-ufrag:Xo4x",
        "a=ice-pwd:5C4k2s5Yxn7gYlXrIyDZWvUK",
        "a=ice-options:trickle",
        &fingerprint,
        "a=setup:actpass",
        "a=mid:0",
        "a=sctp-port:5000",
        "a=max-message-size:262144",
    ])
}

#[test]
fn chromium_is_understood() {
    let offer = parsed(&chromium());
    assert_eq!(offer.session.id, 4_215_775_240_449_105_457);
    assert_eq!(offer.credentials.ufrag(), "Xo4x");
    assert_eq!(offer.credentials.pwd(), "5C4k2s5Yxn7gYlXrIyDZWvUK");
    assert_eq!(offer.fingerprints[0].to_string(), SHA);
    assert_eq!(offer.setup, Setup::ActPass);
    assert_eq!(offer.mid.as_deref(), Some("0"));
    assert!(offer.trickle && offer.bundle && !offer.ice_lite);
    assert_eq!((offer.sctp_port, offer.max_message_size), (5000, 262_144));
    assert!(offer.others.is_empty() && offer.candidates.is_empty());
}

#[test]
fn a_call_of_chromium_keeps_its_channels_and_loses_its_media() {
    let transport = format!(
        "c=IN IP4 0.0.0.0\r\na=ice-ufrag:Xo4x\r\na=ice-pwd:5C4k2s5Yxn7gYlXrIyDZWvUK\r\n\
         a=ice-options:trickle\r\na=fingerprint:{SHA}\r\na=setup:actpass\r\n"
    );
    let offer = parsed(&format!(
        "v=0\r\no=- 1 2 IN IP4 127.0.0.1\r\ns=-\r\nt=0 0\r\na=group:BUNDLE a d v\r\n\
         m=audio 9 UDP/TLS/RTP/SAVPF 111 63 9\r\n{transport}a=mid:a\r\na=rtpmap:111 opus/48000/2\r\n\
         a=ssrc:17 cname:x\r\n\
         m=application 9 UDP/DTLS/SCTP webrtc-datachannel\r\n{transport}a=mid:d\r\na=sctp-port:5000\r\n\
         m=video 9 UDP/TLS/RTP/SAVPF 96 97\r\n{transport}a=mid:v\r\na=setup:passive\r\n"
    ));
    assert_eq!((offer.index, offer.others.len()), (1, 2));
    // The attributes of others are not taken for those of the channels.
    assert_eq!(offer.setup, Setup::ActPass);
    let answer = offer.answer(local(), None).unwrap().to_string();
    let of_sections: Vec<_> = answer
        .lines()
        .filter(|line| {
            ["m=", "a=mid", "a=group", "a=setup"]
                .iter()
                .any(|beginning| line.starts_with(beginning))
        })
        .collect();
    assert_eq!(
        of_sections,
        [
            "a=group:BUNDLE d",
            "m=audio 0 UDP/TLS/RTP/SAVPF 111",
            "a=mid:a",
            "m=application 9 UDP/DTLS/SCTP webrtc-datachannel",
            "a=setup:active",
            "a=mid:d",
            "m=video 0 UDP/TLS/RTP/SAVPF 96",
            "a=mid:v",
        ]
    );
}

#[test]
fn channels_within_the_transport_of_another_section_use_its_credentials() {
    let offer = parsed(&format!(
        "v=0\r\no=- 1 2 IN IP4 127.0.0.1\r\ns=-\r\nt=0 0\r\na=group:BUNDLE a d\r\n\
         m=audio 9 UDP/TLS/RTP/SAVPF 111\r\na=mid:a\r\na=ice-ufrag:Xo4x\r\n\
         a=ice-pwd:5C4k2s5Yxn7gYlXrIyDZWvUK\r\na=fingerprint:{SHA}\r\na=setup:active\r\n\
         m=application 0 UDP/DTLS/SCTP webrtc-datachannel\r\na=mid:d\r\na=bundle-only\r\n"
    ));
    assert_eq!(offer.credentials.ufrag(), "Xo4x");
    assert_eq!((offer.setup, offer.sctp_port), (Setup::Active, SCTP_PORT));
}

#[test]
fn firefox_is_understood() {
    // Its fingerprint and options are those of the session, and its largest message has 30 bits.
    let text = format!(
        "v=0\r\no=mozilla...THIS_IS_SDPARTA-99.0 2846331904834562873 0 IN IP4 0.0.0.0\r\ns=-\r\nt=0 0\r\n\
         a=sendrecv\r\na=fingerprint:{SHA}\r\na=group:BUNDLE 0\r\na=ice-options:trickle\r\n\
         a=msid-semantic:WMS *\r\n\
         m=application 47321 UDP/DTLS/SCTP webrtc-datachannel\r\nc=IN IP4 192.168.1.20\r\n\
         a=candidate:0 1 UDP 2122252543 9b36eaac-bb2e-49bb-bb78-21c41c499900.local 47321 typ host\r\n\
         a=candidate:2 1 TCP 2105524479 9b36eaac-bb2e-49bb-bb78-21c41c499900.local 9 typ host tcptype active\r\n\
         a=candidate:1 1 UDP 1686052863 203.0.113.9 47321 typ srflx raddr 0.0.0.0 rport 0\r\n\
         a=sendrecv\r\na=end-of-candidates\r\na=ice-pwd:11b7da1e1c1ee1e9ec4c4ac5ea4b2c26\r\n\
         a=ice-ufrag:3e6bd7c8\r\na=mid:0\r\na=setup:actpass\r\na=sctp-port:5000\r\n\
         a=max-message-size:1073741823\r\n"
    );
    let offer = parsed(&text);
    assert_eq!(offer.fingerprints[0].to_string(), SHA);
    assert_eq!(offer.candidates.len(), 3);
    assert!(offer.candidates[2].starts_with("candidate:1 1 UDP 1686052863 203.0.113.9"));
    assert!(offer.end_of_candidates && offer.trickle);
    assert_eq!(offer.max_message_size, 1_073_741_823);
}

#[test]
fn the_draft_form_of_older_stacks_is_read_and_answered_alike() {
    // aiortc before version 1.0, and Firefox before version 63.
    let offer = parsed(&format!(
        "v=0\r\no=- 3720000000 3720000000 IN IP4 0.0.0.0\r\ns=-\r\nt=0 0\r\na=group:BUNDLE 0\r\n\
         m=application 9 DTLS/SCTP 5001\r\nc=IN IP4 0.0.0.0\r\na=mid:0\r\n\
         a=sctpmap:5001 webrtc-datachannel 65535\r\na=max-message-size:65536\r\na=ice-ufrag:a1b2\r\n\
         a=ice-pwd:abcdefghijklmnopqrstuv\r\na=fingerprint:{SHA}\r\na=setup:actpass\r\n"
    ));
    assert_eq!((offer.transport, offer.sctp_port), (Transport::Draft, 5001));
    let answer = offer.answer(local(), None).unwrap().to_string();
    for line in [
        "m=application 9 DTLS/SCTP 5000\r\n",
        "a=sctpmap:5000 webrtc-datachannel 65535\r\n",
    ] {
        assert!(answer.contains(line), "{answer}");
    }
    assert!(!answer.contains("sctp-port"), "{answer}");
}

#[test]
fn pion_libdatachannel_werift_and_str0m_are_understood() {
    let end = format!("a=fingerprint:{SHA}\r\n");
    let pion = format!(
        "v=0\r\no=- 8186713318013402317 1700000000 IN IP4 0.0.0.0\r\ns=-\r\nt=0 0\r\n\
         a=msid-semantic:WMS*\r\n{end}a=extmap-allow-mixed\r\na=group:BUNDLE 0\r\n\
         m=application 9 UDP/DTLS/SCTP webrtc-datachannel\r\nc=IN IP4 0.0.0.0\r\na=setup:actpass\r\n\
         a=mid:0\r\na=sendrecv\r\na=sctp-port:5000\r\na=max-message-size:1073741823\r\n\
         a=ice-ufrag:lEBrSDtEVHGWMdLL\r\na=ice-pwd:NqNhdzWNgOPSPRJdTpnZtByzNAeTzlEp\r\n"
    );
    let libdatachannel = format!(
        "v=0\r\no=rtc 2367913546 0 IN IP4 127.0.0.1\r\ns=-\r\nt=0 0\r\na=group:BUNDLE 0\r\n\
         a=group:LS 0\r\na=msid-semantic:WMS *\r\na=ice-options:ice2,trickle\r\n{end}\
         m=application 9 UDP/DTLS/SCTP webrtc-datachannel\r\nc=IN IP4 0.0.0.0\r\na=mid:0\r\na=sendrecv\r\n\
         a=sctp-port:5000\r\na=max-message-size:262144\r\na=setup:actpass\r\na=ice-ufrag:bMY1\r\n\
         a=ice-pwd:YZ0cS7FyWkJ8bcjIhMg7lJ\r\n"
    );
    let werift = format!(
        "v=0\r\no=- 12345678 0 IN IP4 0.0.0.0\r\ns=-\r\nt=0 0\r\na=group:BUNDLE 0\r\na=extmap-allow-mixed\r\n\
         a=msid-semantic:WMS *\r\nm=application 9 UDP/DTLS/SCTP webrtc-datachannel\r\nc=IN IP4 0.0.0.0\r\n\
         a=ice-ufrag:4a2f\r\na=ice-pwd:0c5ff8bd36a34c1e9bd4a6\r\na=ice-options:trickle\r\n{end}\
         a=setup:actpass\r\na=sendrecv\r\na=mid:0\r\na=sctp-port:5000\r\na=max-message-size:65536\r\n"
    );
    let str0m = format!(
        "v=0\r\no=str0m-0.25.0 5058682828002148772 2 IN IP4 0.0.0.0\r\ns=-\r\nt=0 0\r\na=group:BUNDLE 0\r\n\
         a=msid-semantic:WMS *\r\n{end}a=ice-options:trickle\r\na=setup:actpass\r\n\
         m=application 9 UDP/DTLS/SCTP webrtc-datachannel\r\nc=IN IP4 0.0.0.0\r\na=mid:0\r\n\
         a=sctp-port:5000\r\na=max-message-size:262144\r\na=ice-ufrag:aBcDeFgHiJkLmNoP\r\n\
         a=ice-pwd:aBcDeFgHiJkLmNoPqRsTuV\r\n\
         a=candidate:7effffff1 1 udp 2130706175 192.0.2.7 40000 typ host ufrag aBcDeFgHiJkLmNoP\r\n"
    );
    for (name, text, size) in [
        ("pion", pion, 1_073_741_823),
        ("libdatachannel", libdatachannel, 262_144),
        ("werift", werift, 65_536),
        ("str0m", str0m, 262_144),
    ] {
        let offer = parsed(&text);
        assert_eq!(offer.max_message_size, size, "{name}");
        assert_eq!(offer.setup, Setup::ActPass, "{name}");
        assert_eq!(offer.trickle, name != "pion");
        assert_eq!(offer.fingerprints[0].to_string(), SHA, "{name}");
        let answer = offer.answer(local(), None).unwrap();
        assert_eq!(parsed(&answer.to_string()), answer, "{name}");
        assert_eq!(offer.role_after(&answer).unwrap(), Setup::Passive, "{name}");
    }
}

#[test]
fn the_size_of_messages_is_the_default_or_unlimited_or_what_is_named() {
    let with = |line: &str| chromium().replace("a=max-message-size:262144\r\n", line);
    for (line, size, limit) in [
        ("", 65_536, Some(65_536)),
        ("a=max-message-size:0\r\n", 0, None),
        ("a=max-message-size:1200\r\n", 1200, Some(1200)),
        (
            "a=max-message-size:18446744073709551616\r\n",
            u32::MAX,
            Some(u32::MAX),
        ),
    ] {
        let offer = parsed(&with(line));
        assert_eq!(
            (offer.max_message_size, offer.message_limit()),
            (size, limit)
        );
    }
}

#[test]
fn roles_follow_from_offer_answer_and_what_they_were() {
    let with =
        |setup: &str| parsed(&chromium().replace("a=setup:actpass", &format!("a=setup:{setup}")));
    for (offered, was, answered) in [
        ("actpass", None, Setup::Active),
        ("active", None, Setup::Passive),
        ("passive", None, Setup::Active),
        ("actpass", Some(Setup::Passive), Setup::Passive),
        ("active", Some(Setup::Passive), Setup::Passive),
    ] {
        let offer = with(offered);
        let answer = offer.answer(local(), was).unwrap();
        assert_eq!(answer.setup, answered, "{offered}");
        assert!(offer.role_after(&answer).is_ok(), "{offered}");
    }
    let refused = with("active").answer(local(), Some(Setup::Active));
    assert_eq!(refused.unwrap_err().kind(), ErrorKind::Unsupported);
    // An answer has to choose.
    let error = with("actpass").role_after(&with("actpass")).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Protocol);
    assert!(with("active").role_after(&with("active")).is_err());
}

#[test]
fn errors_name_the_line() {
    let replaced = |from: &str, to: &str| chromium().replace(from, to);
    for (text, line, about) in [
        ("", 1, "v=0"),
        ("hello", 1, "v=0"),
        ("v=0\r\ns=-\r\n", 2, "data channels"),
        ("v=0\nnonsense\n", 2, "x=value"),
        (&replaced("s=-", "s=\u{7}"), 3, "control"),
        (&replaced("o=- 42", "o=- x"), 2, "origin"),
        (&replaced("application 9", "application 70000"), 8, "port"),
        (&replaced("application 9", "application 0"), 8, "rejected"),
        (&replaced("application 9", "audio 9"), 17, "data channels"),
        (&replaced("a=ice-ufrag:Xo4x\r\n", ""), 8, "ice-ufrag"),
        (&replaced("a=setup:actpass\r\n", ""), 8, "setup"),
        (&replaced("Xo4x", "Xo4"), 10, "ice-ufrag"),
        (&replaced("a=fingerprint", "a=x"), 8, "fingerprint"),
        (&replaced("sha-256 3C", "sha-256 3"), 13, "sha-256"),
        (&replaced("sha-256", "sha-1"), 13, "sha-1"),
        (&replaced("actpass", "holdconn"), 14, "holdconn"),
        (&replaced("mid:0", "mid:a b"), 15, "token"),
        (&replaced("sctp-port:5000", "sctp-port:x"), 16, "SCTP"),
        (&replaced("sctp-port:5000", "sctp-port:0"), 16, "closed"),
        (&replaced("size:262144", "size:-1"), 17, "size"),
    ] {
        let error = text.parse::<Description>().unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Handshake);
        let text = error.to_string();
        assert!(text.contains(&format!("line {line}:")), "{text} ≠ {line}");
        assert!(text.contains(about), "{text} ≠ {about}");
    }
}

#[test]
fn lengths_and_counts_are_bounded() {
    let long = format!("{}a={}\r\n", chromium(), "x".repeat(MAX_LEN));
    assert!(long.parse::<Description>().is_err());
    let many = "m=audio 9 UDP/TLS/RTP/SAVPF 0\r\n".repeat(MAX_SECTIONS);
    let error = format!("{}{many}", chromium()).parse::<Description>();
    assert!(error.unwrap_err().to_string().contains("sections"));
    let many = format!("a=fingerprint:{SHA}\r\n").repeat(MAX_FINGERPRINTS);
    let error = format!("{}{many}", chromium()).parse::<Description>();
    assert!(error.unwrap_err().to_string().contains("fingerprints"));
    // Candidates beyond the limit are no fault.
    let host = "a=candidate:1 1 udp 1 192.0.2.1 9 typ host\r\n";
    let offer = parsed(&format!("{}{}", chromium(), host.repeat(1000)));
    assert_eq!(offer.candidates.len(), MAX_CANDIDATES);
    let long = format!("a=candidate:{}\r\n", "1".repeat(MAX_CANDIDATE_LEN));
    assert!(
        parsed(&format!("{}{long}", chromium()))
            .candidates
            .is_empty()
    );
}

#[test]
fn an_offer_of_this_side_is_read_back() {
    let offer = Description::offer(Local {
        candidates: vec!["candidate:1 1 udp 2130706431 192.0.2.1 4711 typ host".to_owned()],
        end_of_candidates: true,
        ..local()
    });
    assert_eq!(parsed(&offer.to_string()), offer);
    assert!(offer.to_string().ends_with("a=end-of-candidates\r\n"));
}

#[test]
fn the_next_description_of_a_session_has_the_next_version() {
    let session = Session::generate().unwrap();
    assert_eq!(session.next().id, session.id);
    assert_eq!(session.next().version, session.version + 1);
}

fn token() -> impl Strategy<Value = String> {
    "[a-zA-Z0-9!#$%&'*+.^_`{|}~-]{1,64}"
}

prop_compose! {
    fn other_section()(
        kind in "[a-z]{1,10}",
        protocol in "[A-Z]{1,6}(/[A-Z]{1,6}){0,3}",
        format in "[0-9a-z-]{1,8}",
        mid in proptest::option::of(token()),
    ) -> OtherSection {
        OtherSection { kind, protocol, format, mid }
    }
}

prop_compose! {
    fn description()(
        (id, version, max_message_size) in any::<(u64, u64, u32)>(),
        (ice_lite, trickle, end_of_candidates) in any::<(bool, bool, bool)>(),
        ufrag in "[a-zA-Z0-9+/]{4,96}",
        pwd in "[a-zA-Z0-9+/]{22,256}",
        setup in prop::sample::select(vec![Setup::Active, Setup::Passive, Setup::ActPass]),
        certificates in prop::collection::vec(any::<u64>(), 1..MAX_FINGERPRINTS),
        candidates in prop::collection::vec("candidate:[ -~]{0,99}[!-~]", 0..MAX_CANDIDATES),
        transport in prop::sample::select(
            vec![Transport::Udp, Transport::Tcp, Transport::Dtls, Transport::Draft]
        ),
        mid in proptest::option::of(token()),
        in_group in any::<bool>(),
        sctp_port in 1..=u16::MAX,
        others in prop::collection::vec(other_section(), 0..6),
        at in any::<prop::sample::Index>(),
    ) -> Description {
        let bundle = in_group && mid.is_some();
        Description {
            session: Session { id, version },
            ice_lite,
            trickle,
            credentials: Credentials::new(&ufrag, &pwd).unwrap(),
            setup,
            fingerprints: certificates
                .into_iter()
                .map(|certificate| Fingerprint::sha256(&certificate.to_ne_bytes()))
                .collect(),
            candidates,
            end_of_candidates,
            transport,
            mid,
            bundle,
            sctp_port,
            max_message_size,
            index: at.index(others.len() + 1),
            others,
        }
    }
}

proptest! {
    #[test]
    fn what_is_written_is_read(written in description()) {
        let text = written.to_string();
        let read: Description = text.parse().unwrap();
        prop_assert_eq!(&read, &written, "{}", text);
        // Lines may end in LF alone.
        let read: Description = text.replace('\r', "").parse().unwrap();
        prop_assert_eq!(read, written);
    }

    #[test]
    fn an_answer_has_the_sections_of_its_offer(offer in description()) {
        let answer = offer.answer(local(), None).unwrap();
        let kinds = |text: String| -> Vec<String> {
            let sections = text.lines().filter(|line| line.starts_with("m="));
            sections.map(|line| line.split(' ').next().unwrap().to_owned()).collect()
        };
        prop_assert_eq!(kinds(answer.to_string()), kinds(offer.to_string()));
        prop_assert!(offer.role_after(&answer).is_ok());
    }

    #[test]
    fn any_text_is_read_or_refused(text in "(v=0\n)?([ -~]{0,40}\n){0,20}") {
        let _ = text.parse::<Description>();
    }

    #[test]
    fn altered_descriptions_are_read_or_refused(
        at in any::<prop::sample::Index>(), length in 0..40_usize, with in "[ -~\r\n]{0,20}",
    ) {
        let text = chromium();
        let start = at.index(text.len());
        let end = (start + length).min(text.len());
        let altered = format!("{}{with}{}", &text[..start], &text[end..]);
        if let Ok(read) = altered.parse::<Description>() {
            prop_assert_eq!(&read.to_string().parse::<Description>().unwrap(), &read);
        }
    }
}
