use super::{pair::*, *};

#[test]
fn a_shutdown_of_one_or_both_ends_waits_for_outstanding_data() {
    for both in [false, true] {
        let mut pair = Pair::default_connected();
        let mut count = 0;
        pair.filter(move |_, _| {
            count += 1;
            if count % 7 == 0 {
                Verdict::Drop
            } else {
                Verdict::Pass
            }
        });
        for index in 0..20 {
            pair.send(Side::A, 0, content(index, 10_000));
            pair.send(Side::B, 0, content(index, 10_000));
        }
        pair.a.shutdown(pair.now);
        if both {
            pair.b.shutdown(pair.now);
        }
        let refused = pair
            .a
            .send(pair.now, 0, 53, content(0, 1), SendOptions::default());
        assert_eq!(refused, Err(SendError::Closed));
        pair.run(Duration::from_secs(30));
        for side in [Side::A, Side::B] {
            assert_eq!(pair.take_messages(side).len(), 20);
            let events = pair.take_events(side);
            assert_eq!(events.last(), Some(&Event::Closed(CloseReason::Shutdown)));
            assert_eq!(pair.end(side).state(), State::Closed);
            assert_eq!(pair.end(side).poll_timeout(), None);
        }
    }
}

#[test]
fn each_packet_of_the_shutdown_may_be_lost() {
    for lost in 0..3 {
        let mut pair = Pair::default_connected();
        let mut count = 0;
        pair.filter(move |_, _| {
            count += 1;
            if count == lost + 1 {
                Verdict::Drop
            } else {
                Verdict::Pass
            }
        });
        pair.a.shutdown(pair.now);
        pair.run(Duration::from_secs(10));
        assert_eq!(
            pair.take_events(Side::A),
            [Event::Closed(CloseReason::Shutdown)],
            "{lost}"
        );
        // Also if the SHUTDOWN COMPLETE was lost: the next SHUTDOWN ACK is out of the blue at A.
        assert_eq!(
            pair.take_events(Side::B),
            [Event::Closed(CloseReason::Shutdown)],
            "{lost}"
        );
    }
}

#[test]
fn an_abort_carries_its_reason() {
    let mut pair = Pair::default_connected();
    pair.a.abort("enough");
    pair.run(Duration::from_secs(1));
    assert_eq!(
        pair.take_events(Side::A),
        [Event::Closed(CloseReason::Aborted)]
    );
    let reason = CloseReason::AbortedByPeer {
        code: 12,
        reason: "enough".into(),
    };
    assert_eq!(
        reason.to_string(),
        "the peer aborted the association: enough (cause 12)"
    );
    assert_eq!(pair.take_events(Side::B), [Event::Closed(reason)]);
}

#[test]
fn an_end_without_association_answers_with_an_abort() {
    let mut pair = Pair::default_connected();
    // The ABORT is lost, and data comes later.
    pair.filter(|side, _| {
        if side == Side::A {
            Verdict::Drop
        } else {
            Verdict::Pass
        }
    });
    pair.a.abort("lost");
    pair.run(Duration::from_secs(1));
    pair.filter(|_, _| Verdict::Pass);
    pair.send(Side::B, 0, "hello");
    pair.run(Duration::from_secs(1));
    let events = pair.take_events(Side::B);
    assert!(
        matches!(
            events[..],
            [Event::Closed(CloseReason::AbortedByPeer { .. })]
        ),
        "{events:?}"
    );
}

#[test]
fn an_association_without_answers_fails_after_its_time() {
    let config = Config {
        failed_after: Some(Duration::from_secs(10)),
        ..Config::default()
    };
    let mut pair = Pair::connected(config.clone(), config.clone());
    pair.run(Duration::from_secs(100));
    assert_eq!(
        pair.take_events(Side::A),
        [],
        "an idle association does not fail"
    );
    pair.filter(|_, _| Verdict::Drop);
    pair.send(Side::A, 0, "hello");
    pair.run(Duration::from_secs(9));
    assert_eq!(pair.take_events(Side::A), []);
    pair.run(Duration::from_secs(2));
    assert_eq!(
        pair.take_events(Side::A),
        [Event::Closed(CloseReason::Failed)]
    );
    let mut pair = Pair::new(config.clone(), config);
    pair.filter(|_, _| Verdict::Drop);
    pair.a.connect(pair.now);
    pair.run(Duration::from_secs(11));
    assert_eq!(
        pair.take_events(Side::A),
        [Event::Closed(CloseReason::Failed)]
    );
}

#[test]
fn an_idle_association_with_heartbeats_finds_that_the_peer_is_gone() {
    let config = Config {
        failed_after: Some(Duration::from_secs(10)),
        heartbeat_interval: Some(Duration::from_secs(5)),
        ..Config::default()
    };
    let mut pair = Pair::connected(config, Config::default());
    pair.run(Duration::from_secs(60));
    assert_eq!(pair.take_events(Side::A), []);
    assert!(pair.b.stats().packets_received > 8);
    pair.filter(|_, _| Verdict::Drop);
    pair.run(Duration::from_secs(20));
    assert_eq!(
        pair.take_events(Side::A),
        [Event::Closed(CloseReason::Failed)]
    );
}

#[test]
fn a_peer_that_begins_anew_is_a_restart() {
    let mut pair = Pair::default_connected();
    pair.send(Side::A, 0, "before");
    pair.run(Duration::from_secs(1));
    assert_eq!(pair.take_messages(Side::B).len(), 1);
    pair.b = Association::new(Config::default(), 99, pair.now);
    pair.b.connect(pair.now);
    pair.run(Duration::from_secs(1));
    assert_eq!(pair.take_events(Side::A), [Event::Restarted]);
    assert_eq!(pair.take_events(Side::B), [Event::Connected]);
    pair.send(Side::A, 0, "after");
    pair.send(Side::B, 0, "after");
    pair.run(Duration::from_secs(1));
    assert_eq!(pair.take_messages(Side::A).len(), 1);
    assert_eq!(pair.take_messages(Side::B).len(), 1);
}
