use super::{pair::*, *};

#[test]
fn an_association_is_set_up_and_features_are_agreed_on() {
    let mut pair = Pair::default_connected();
    for side in [Side::A, Side::B] {
        assert_eq!(pair.end(side).state(), State::Established);
        let stats = pair.end(side).stats();
        assert!(stats.interleaving && stats.zero_checksum && stats.reconfig);
        assert!(stats.partial_reliability);
        assert_eq!(
            pair.end(side).poll_timeout(),
            None,
            "no timer of an idle association"
        );
    }
}

#[test]
fn both_ends_connect_at_once() {
    for gap in [0, 2, 5, 7, 10, 12, 15, 30] {
        let mut pair = Pair::new(Config::default(), Config::default());
        pair.a.connect(pair.now);
        pair.run(Duration::from_millis(gap));
        pair.b.connect(pair.now);
        pair.send(Side::A, 1, "a");
        pair.send(Side::B, 2, "b");
        pair.run(Duration::from_millis(100));
        assert_eq!(pair.take_events(Side::A), [Event::Connected], "{gap}");
        assert_eq!(pair.take_events(Side::B), [Event::Connected], "{gap}");
        assert_eq!(pair.take_messages(Side::B).len(), 1);
        assert_eq!(pair.take_messages(Side::A).len(), 1);
    }
}

#[test]
fn each_packet_of_the_handshake_may_be_lost() {
    for both in [false, true] {
        for lost in 0..6 {
            let mut pair = Pair::new(Config::default(), Config::default());
            let mut count = 0;
            pair.filter(move |_, _| {
                count += 1;
                if count == lost + 1 {
                    Verdict::Drop
                } else {
                    Verdict::Pass
                }
            });
            pair.a.connect(pair.now);
            if both {
                pair.b.connect(pair.now);
            }
            pair.send(Side::A, 0, "hello");
            pair.send(Side::B, 0, "hello");
            pair.run(Duration::from_secs(5));
            assert_eq!(pair.take_events(Side::A), [Event::Connected]);
            assert_eq!(pair.take_events(Side::B), [Event::Connected]);
            assert_eq!(pair.take_messages(Side::A).len(), 1);
            assert_eq!(pair.take_messages(Side::B).len(), 1);
        }
    }
}
