use super::{pair::*, *};

fn plain() -> Config {
    Config {
        interleaving: false,
        zero_checksum: false,
        ..Config::default()
    }
}

#[test]
fn messages_of_all_sizes_arrive_in_order() {
    for config in [Config::default(), plain()] {
        let mut pair = Pair::connected(config.clone(), config);
        let sizes = [
            1, 3, 100, 1000, 1150, 1160, 1170, 1200, 5000, 65_536, 262_144,
        ];
        for (index, size) in sizes.into_iter().enumerate() {
            pair.send(Side::A, 3, content(index, size));
        }
        pair.run(Duration::from_secs(2));
        let messages = pair.take_messages(Side::B);
        assert_eq!(messages.len(), sizes.len());
        for (index, message) in messages.iter().enumerate() {
            assert_eq!((message.stream, message.ppid), (3, 53));
            assert_eq!(message.payload, content(index, sizes[index]));
        }
        assert_eq!(pair.a.buffered(), 0);
        assert_eq!(pair.take_events(Side::A), [Event::BufferedLow]);
        assert_eq!(pair.a.stats().chunks_retransmitted, 0);
    }
}

#[test]
fn streams_are_reset_in_both_directions_and_used_again() {
    for config in [Config::default(), plain()] {
        let mut pair = Pair::connected(config.clone(), config);
        for round in 0..3 {
            for index in 0..50 {
                pair.send(Side::A, 1, content(index, 3000));
            }
            pair.a.reset_outgoing(1);
            let refused = pair.a.send(
                pair.now,
                1,
                53,
                Bytes::from_static(b"x"),
                SendOptions::default(),
            );
            assert_eq!(refused, Err(SendError::Resetting));
            pair.run(Duration::from_secs(1));
            assert_eq!(pair.take_messages(Side::B).len(), 50, "{round}");
            assert_eq!(
                pair.take_events(Side::B),
                [Event::IncomingReset { stream: 1 }]
            );
            assert_eq!(
                pair.take_events(Side::A),
                [Event::OutgoingReset { stream: 1 }]
            );
            pair.b.reset_outgoing(1);
            pair.run(Duration::from_secs(1));
            assert_eq!(
                pair.take_events(Side::A),
                [Event::IncomingReset { stream: 1 }]
            );
            assert_eq!(
                pair.take_events(Side::B),
                [Event::OutgoingReset { stream: 1 }]
            );
        }
    }
}

#[test]
fn what_waits_to_be_sent_is_told_from_what_waits_for_its_acknowledgement() {
    let mut pair = Pair::default_connected();
    assert_eq!(pair.a.unsent(), 0);
    pair.filter(|_, _| Verdict::Drop);
    pair.send(Side::A, 0, content(1, 100_000));
    assert_eq!(pair.a.unsent(), 100_000);
    pair.poll(Side::A);
    let first_flight = 100_000 - pair.a.unsent();
    assert!((1..100_000).contains(&first_flight), "{first_flight}");
    assert_eq!(pair.a.buffered(), 100_000);
    // Lost, it waits to be sent again.
    while pair.a.stats().timeouts < 3 {
        pair.run(Duration::from_millis(20));
    }
    assert!(100_000 - pair.a.unsent() < first_flight);
    pair.filter(|_, _| Verdict::Pass);
    pair.run(Duration::from_secs(5));
    assert_eq!((pair.a.unsent(), pair.a.buffered()), (0, 0));
}

#[test]
fn a_receive_buffer_that_was_raised_lets_more_fly() {
    for raised in [0, 400_000] {
        let small = Config {
            receive_buffer: 50_000,
            ..Config::default()
        };
        let mut pair = Pair::connected(Config::default(), small);
        pair.b.raise_receive_buffer(raised);
        pair.delay = Duration::from_millis(100);
        // What is taken as it comes leaves the buffer empty, so that the window is what bounds the rate.
        for index in 0..40 {
            pair.send(Side::A, 0, content(index, 25_000));
        }
        let mut most = 0;
        for _ in 0..100 {
            pair.run(Duration::from_millis(20));
            most = most.max(pair.a.stats().in_flight);
        }
        let is_raised = most > 100_000;
        assert_eq!(is_raised, raised > 0, "{most}");
    }
}
