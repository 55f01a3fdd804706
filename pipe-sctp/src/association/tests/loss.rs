use super::{pair::*, *};
use std::{cell::RefCell, rc::Rc};

fn plain() -> Config {
    Config {
        interleaving: false,
        ..Config::default()
    }
}

#[test]
fn a_lost_packet_is_sent_again_within_two_round_trips() {
    for lost in [1, 5, 19, 20] {
        let mut pair = Pair::default_connected();
        let mut count = 0;
        pair.filter(move |side, packet| {
            if side == Side::A && packet.len() > 1000 {
                count += 1;
                if count == lost {
                    return Verdict::Drop;
                }
            }
            Verdict::Pass
        });
        let start = pair.now;
        pair.send(Side::A, 0, content(1, 20 * 1100));
        while pair.take_messages(Side::B).is_empty() {
            pair.run(Duration::from_millis(1));
            assert!(
                pair.now < start + Duration::from_millis(60),
                "{lost}: {:?}",
                pair.a.stats()
            );
        }
        pair.run(Duration::from_secs(1));
        assert_eq!(pair.a.stats().timeouts, 0);
        assert!(
            pair.a.stats().chunks_retransmitted <= 2,
            "{:?}",
            pair.a.stats()
        );
    }
}

#[test]
fn a_reduction_for_reordered_packets_is_undone() {
    let mut pair = Pair::default_connected();
    let mut count = 0;
    pair.filter(move |side, packet| {
        if side == Side::A && packet.len() > 1000 {
            count += 1;
            if count == 40 {
                return Verdict::Delay(Duration::from_millis(8));
            }
        }
        Verdict::Pass
    });
    pair.send(Side::A, 0, content(1, 200_000));
    pair.run(Duration::from_secs(2));
    assert_eq!(pair.take_messages(Side::B).len(), 1);
    let stats = pair.a.stats();
    assert_eq!(stats.spurious_losses, 1, "{stats:?}");
    assert_eq!(stats.slow_start_threshold, usize::MAX, "{stats:?}");
}

#[test]
fn a_blackout_of_minutes_heals_within_a_second_of_its_end() {
    let mut pair = Pair::default_connected();
    for index in 0..10 {
        pair.send(Side::A, index, content(1, 30_000));
    }
    pair.run(Duration::from_millis(12));
    pair.filter(|_, _| Verdict::Drop);
    pair.run(Duration::from_secs(300));
    pair.filter(|_, _| Verdict::Pass);
    pair.run(Duration::from_millis(1200));
    assert_eq!(pair.take_messages(Side::B).len(), 10);
    assert_eq!(pair.a.buffered(), 0);
}

#[test]
fn a_path_that_works_again_is_used_at_once() {
    let mut pair = Pair::default_connected();
    pair.send(Side::A, 0, content(1, 20_000));
    pair.run(Duration::from_millis(12));
    pair.filter(|_, _| Verdict::Drop);
    pair.a.reset_outgoing(1);
    // The timeout is a second long by then, and began anew 20 ms before the end.
    while pair.a.stats().timeouts < 8 {
        pair.run(Duration::from_millis(20));
    }
    pair.filter(|_, _| Verdict::Pass);
    pair.a.path_restored(pair.now);
    pair.poll(Side::A);
    pair.run(Duration::from_millis(300));
    assert_eq!(pair.take_messages(Side::B).len(), 1);
    assert_eq!(pair.a.buffered(), 0);
    // Where nothing waits, nothing is sent.
    let sent = pair.a.stats().packets_sent;
    pair.a.path_restored(pair.now);
    assert_eq!(pair.a.poll_transmit(pair.now), None);
    assert_eq!(pair.a.stats().packets_sent, sent);
}

#[test]
fn a_closed_window_is_probed_and_opens_again() {
    for config in [Config::default(), plain()] {
        let small = Config {
            receive_buffer: 20_000,
            ..config.clone()
        };
        let mut pair = Pair::connected(config, small);
        pair.reading = false;
        for index in 0..100 {
            pair.send(Side::A, 0, content(index, 1000));
        }
        pair.run(Duration::from_secs(60));
        let held = pair.b.stats();
        assert!(held.receive_window < 4 * held.mtu, "{held:?}");
        let sent = pair.a.stats().packets_sent;
        assert!(sent < 300, "probes back off: {sent}");
        pair.reading = true;
        pair.run(Duration::from_secs(3));
        let messages = pair.take_messages(Side::B);
        assert_eq!(messages.len(), 100);
        for (index, message) in messages.iter().enumerate() {
            assert_eq!(message.payload, content(index, 1000));
        }
    }
}

#[test]
fn messages_with_a_limit_are_given_up_and_others_go_on() {
    for config in [Config::default(), plain()] {
        for unordered in [false, true] {
            let mut pair = Pair::connected(config.clone(), config.clone());
            let mut count = 0;
            pair.filter(move |side, packet| {
                count += u32::from(side == Side::A && packet.len() > 600);
                let lost = side == Side::A && packet.len() > 600 && count % 3 == 0;
                if lost { Verdict::Drop } else { Verdict::Pass }
            });
            let limited = SendOptions {
                unordered,
                max_retransmits: Some(0),
                ..SendOptions::default()
            };
            for index in 0..100 {
                pair.send_with(Side::A, 0, content(index, 3000), limited);
            }
            pair.send_with(
                Side::A,
                0,
                Bytes::from_static(b"last"),
                SendOptions {
                    unordered,
                    ..SendOptions::default()
                },
            );
            pair.run(Duration::from_secs(20));
            let messages = pair.take_messages(Side::B);
            let stats = pair.a.stats();
            assert!(stats.messages_abandoned > 20, "{stats:?}");
            assert_eq!(
                messages.len() as u64 + stats.messages_abandoned,
                101,
                "{stats:?}"
            );
            assert!(
                messages
                    .iter()
                    .any(|message| &message.payload[..] == b"last")
            );
            assert_eq!(pair.a.buffered(), 0);
            assert_eq!(pair.a.poll_timeout(), None);
            assert_eq!(pair.b.stats().receive_window, pair.b.config.receive_buffer);
        }
    }
}

/// A FORWARD-TSN that is made again, or comes late, names messages of before a reset. It may not come after the reset,
/// where it would skip the numbers of the stream's next life.
#[test]
fn the_reset_of_a_stream_waits_until_no_forward_tsn_names_it() {
    for config in [Config::default(), plain()] {
        let mut pair = Pair::connected(config.clone(), config);
        let sent = Rc::new(RefCell::new(Vec::new()));
        let kept = sent.clone();
        // What has a limit is large and lost, and so is what the peer answers.
        pair.filter(move |side, packet| {
            if side == Side::A {
                kept.borrow_mut().extend(kinds(packet));
            }
            let is_lost = side == Side::B || packet.len() > 600;
            if is_lost {
                Verdict::Drop
            } else {
                Verdict::Pass
            }
        });
        let limited = SendOptions {
            max_retransmits: Some(0),
            ..SendOptions::default()
        };
        pair.send_with(Side::A, 0, content(0, 700), limited);
        pair.a.reset_outgoing(0);
        pair.run(Duration::from_secs(2));
        assert_eq!(pair.a.stats().messages_abandoned, 1);
        let named = [kind::FORWARD_TSN, kind::I_FORWARD_TSN];
        assert!(sent.borrow().iter().any(|kind| named.contains(kind)));
        assert!(!sent.borrow().contains(&kind::RE_CONFIG));

        pair.filter(|_, _| Verdict::Pass);
        pair.run(Duration::from_secs(2));
        let performed = Event::OutgoingReset { stream: 0 };
        assert!(pair.take_events(Side::A).contains(&performed));
        pair.send(Side::A, 0, "of the next life");
        pair.run(Duration::from_secs(2));
        let messages = pair.take_messages(Side::B);
        assert_eq!(messages.len(), 1);
        assert_eq!(messages[0].payload, "of the next life");
    }
}

#[test]
fn a_message_expires_in_the_queue() {
    let mut pair = Pair::default_connected();
    pair.filter(|_, _| Verdict::Drop);
    pair.send(Side::A, 0, content(0, 100_000));
    let lifetime = Some(Duration::from_millis(100));
    let limited = SendOptions {
        lifetime,
        ..SendOptions::default()
    };
    pair.send_with(Side::A, 0, content(1, 1000), limited);
    pair.run(Duration::from_secs(1));
    pair.filter(|_, _| Verdict::Pass);
    pair.send(Side::A, 0, content(2, 1000));
    pair.run(Duration::from_secs(5));
    let messages = pair.take_messages(Side::B);
    assert_eq!(messages.len(), 2);
    assert_eq!(messages[1].payload, content(2, 1000));
    assert_eq!(pair.a.stats().messages_abandoned, 1);
}

#[test]
fn a_stream_does_not_wait_for_the_lost_packet_of_another() {
    let mut pair = Pair::default_connected();
    let mut lost = false;
    pair.filter(move |side, _| {
        if side == Side::A && !lost {
            lost = true;
            return Verdict::Drop;
        }
        Verdict::Pass
    });
    pair.send(Side::A, 1, "lost");
    pair.run(Duration::from_millis(1));
    pair.send(Side::A, 2, "other");
    pair.run(Duration::from_millis(8));
    let messages = pair.take_messages(Side::B);
    assert_eq!(messages.len(), 1);
    assert_eq!(messages[0].stream, 2);
    pair.run(Duration::from_secs(1));
    assert_eq!(pair.take_messages(Side::B)[0].stream, 1);
}

#[test]
fn a_reset_waits_for_lost_data() {
    for config in [Config::default(), plain()] {
        let mut pair = Pair::connected(config.clone(), config);
        let mut count = 0;
        pair.filter(move |side, packet| {
            let data = side == Side::A && packet.len() > 600;
            count += u32::from(data);
            // Also the first retransmission.
            if data && (count == 3 || count > 9 && count < 14) {
                return Verdict::Drop;
            }
            Verdict::Pass
        });
        for index in 0..8 {
            pair.send(Side::A, 4, content(index, 1000));
        }
        pair.a.reset_outgoing(4);
        pair.run(Duration::from_secs(5));
        assert_eq!(pair.take_messages(Side::B).len(), 8);
        assert_eq!(
            pair.take_events(Side::B),
            [Event::IncomingReset { stream: 4 }]
        );
        assert_eq!(
            pair.take_events(Side::A),
            [Event::OutgoingReset { stream: 4 }]
        );
        assert_eq!(pair.a.poll_timeout(), None);
    }
}

#[test]
fn a_lost_reset_or_answer_is_sent_again() {
    for lost in 1..3 {
        let mut pair = Pair::default_connected();
        let mut count = 0;
        pair.filter(move |_, packet| {
            if kinds(packet).contains(&kind::RE_CONFIG) {
                count += 1;
                if count == lost {
                    return Verdict::Drop;
                }
            }
            Verdict::Pass
        });
        pair.a.reset_outgoing(9);
        pair.run(Duration::from_secs(3));
        assert_eq!(
            pair.take_events(Side::B),
            [Event::IncomingReset { stream: 9 }],
            "{lost}"
        );
        assert_eq!(
            pair.take_events(Side::A),
            [Event::OutgoingReset { stream: 9 }]
        );
    }
}

#[test]
fn a_reset_is_reported_behind_the_messages_of_its_stream() {
    let mut pair = Pair::default_connected();
    pair.reading = false;
    pair.send(Side::A, 1, "first");
    pair.a.reset_outgoing(1);
    pair.run(Duration::from_secs(1));
    assert_eq!(
        pair.take_events(Side::A),
        [Event::OutgoingReset { stream: 1 }]
    );
    pair.send(Side::A, 1, "second");
    pair.run(Duration::from_secs(1));
    assert_eq!(pair.take_events(Side::B), []);
    let b = &mut pair.b;
    assert_eq!(
        b.poll_message().map(|message| message.payload),
        Some("first".into())
    );
    assert_eq!(b.poll_message(), None, "the reset comes first");
    assert_eq!(b.poll_event(), Some(Event::IncomingReset { stream: 1 }));
    assert_eq!(
        b.poll_message().map(|message| message.payload),
        Some("second".into())
    );
    assert_eq!(b.poll_event(), None);
}

#[test]
fn what_arrives_twice_is_delivered_once_and_reported() {
    let mut pair = Pair::default_connected();
    pair.filter(|side, _| {
        if side == Side::A {
            Verdict::Duplicate
        } else {
            Verdict::Pass
        }
    });
    for index in 0..20 {
        pair.send(Side::A, 0, content(index, 3000));
    }
    pair.run(Duration::from_secs(1));
    assert_eq!(pair.take_messages(Side::B).len(), 20);
    assert!(pair.b.stats().chunks_duplicated >= 20);
    // The network made the copies: nothing was sent again, and nothing is undone.
    let stats = pair.a.stats();
    assert_eq!((stats.chunks_retransmitted, stats.spurious_losses), (0, 0));
}
