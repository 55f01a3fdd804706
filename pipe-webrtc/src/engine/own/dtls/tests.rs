use super::*;

/// An association, with what came out of it.
struct Side {
    association: Association,
    out: Vec<Vec<u8>>,
    packets: Vec<Vec<u8>>,
    is_closed: bool,
}

impl Side {
    fn new(certificate: &Certificate, is_client: bool, peer: &Certificate, now: Instant) -> Self {
        let fingerprints = vec![Fingerprint::sha256(peer.der())];
        let association = Association::new(certificate, is_client, fingerprints, now);
        Self {
            association: association.unwrap(),
            out: Vec::new(),
            packets: Vec::new(),
            is_closed: false,
        }
    }

    fn poll(&mut self) -> Result<()> {
        let (out, packets, is_closed) = (&mut self.out, &mut self.packets, &mut self.is_closed);
        self.association.poll(|event| {
            match event {
                Event::Datagram(datagram) => out.push(datagram.to_vec()),
                Event::Packet(packet) => packets.push(packet.to_vec()),
                Event::Closed => *is_closed = true,
                Event::Connected => {}
            }
            Ok(())
        })
    }

    fn take(&mut self, datagram: &[u8]) -> Result<()> {
        self.association.handle_datagram(datagram)?;
        self.poll()
    }

    fn take_out(&mut self) -> Vec<Vec<u8>> {
        std::mem::take(&mut self.out)
    }
}

/// Returns a client that has begun its handshake, and its server.
fn begun() -> (Side, Side, Instant) {
    let now = Instant::now();
    let [a, b] = [(); 2].map(|()| Certificate::generate().unwrap());
    let mut client = Side::new(&a, true, &b, now);
    let mut server = Side::new(&b, false, &a, now);
    client.association.start(now).unwrap();
    for side in [&mut client, &mut server] {
        side.poll().unwrap();
    }
    assert!(!client.out.is_empty() && server.out.is_empty());
    (client, server, now)
}

/// Carries datagrams both ways until nothing is left, with something before each.
fn carry(client: &mut Side, server: &mut Side, mut before: impl FnMut(&mut Side, &[u8])) {
    while !client.out.is_empty() || !server.out.is_empty() {
        for datagram in client.take_out() {
            before(server, &datagram);
            server.take(&datagram).unwrap();
        }
        for datagram in server.take_out() {
            before(client, &datagram);
            client.take(&datagram).unwrap();
        }
    }
}

fn connected() -> (Side, Side, Instant) {
    let (mut client, mut server, now) = begun();
    carry(&mut client, &mut server, |_, _| ());
    assert!(client.association.is_connected() && server.association.is_connected());
    (client, server, now)
}

/// Sends a packet each way, and checks that it arrives.
fn exchange(client: &mut Side, server: &mut Side) {
    client.association.send(b"ping").unwrap();
    client.poll().unwrap();
    server.association.send(b"pong").unwrap();
    server.poll().unwrap();
    carry(client, server, |_, _| ());
    assert_eq!(client.packets.pop().as_deref(), Some(&b"pong"[..]));
    assert_eq!(server.packets.pop().as_deref(), Some(&b"ping"[..]));
    assert!(!client.is_closed && !server.is_closed);
}

/// Datagrams of DTLS by their first byte that prove nothing.
fn forged(genuine: &[u8], random: &mut fastrand::Rng) -> Vec<Vec<u8>> {
    // A fatal alert, a goodbye, both without keys, and application data without them.
    let mut forged = vec![
        vec![21, 0xfe, 0xfd, 0, 0, 0, 0, 0, 0, 0, 9, 0, 2, 2, 40],
        vec![21, 0xfe, 0xfd, 0, 0, 0, 0, 0, 0, 0, 9, 0, 2, 1, 0],
        vec![23, 0xfe, 0xfd, 0, 0, 0, 0, 0, 0, 0, 9, 0, 4, 1, 2, 3, 4],
        vec![20, 0xfe, 0xfd, 0, 0, 0, 0, 0, 0, 0, 9, 0, 1, 1],
        vec![22],
        vec![63; 3],
    ];
    for first in [20, 21, 22, 23, 25, 26, 32, 44, 47, 60, 63] {
        let mut bytes: Vec<u8> = (0..random.usize(1..200)).map(|_| random.u8(..)).collect();
        bytes[0] = first;
        forged.push(bytes);
    }
    for _ in 0..8 {
        let mut altered = genuine.to_vec();
        let at = random.usize(..altered.len());
        // The first byte decides who reads it.
        altered[at.max(1).min(genuine.len() - 1)] ^= random.u8(1..);
        if random.bool() {
            altered.truncate(random.usize(1..=altered.len()));
        }
        forged.push(altered);
    }
    forged
}

#[test]
fn forged_datagrams_do_not_end_an_association() {
    let (mut client, mut server, now) = connected();
    let mut random = fastrand::Rng::with_seed(7);
    for _ in 0..200 {
        client.association.send(b"some packet").unwrap();
        client.poll().unwrap();
        server.association.send(b"some packet").unwrap();
        server.poll().unwrap();
        let (up, down) = (client.take_out(), server.take_out());
        for (side, genuine) in [(&mut server, &up[0]), (&mut client, &down[0])] {
            for datagram in forged(genuine, &mut random) {
                // The connection goes on, whatever the error of one datagram is.
                let taken = side.take(&datagram);
                assert!(taken.is_ok(), "{taken:?} of {datagram:02x?}");
                side.association.handle_timeout(now).unwrap();
                side.poll().unwrap();
            }
            assert!(!side.is_closed && side.packets.is_empty());
            side.take(genuine).unwrap();
            assert_eq!(side.packets.pop().as_deref(), Some(&b"some packet"[..]));
            // A copy of it is none.
            side.take(genuine).unwrap();
            assert!(side.packets.is_empty());
            side.out.clear();
        }
    }
    exchange(&mut client, &mut server);
}

#[test]
fn a_goodbye_ends_an_association_for_its_peer() {
    let (mut client, mut server, _) = connected();
    client.association.close();
    client.poll().unwrap();
    let goodbye = client.take_out();
    assert!(!goodbye.is_empty());
    for datagram in goodbye {
        server.take(&datagram).unwrap();
    }
    assert!(server.is_closed);
}

#[test]
fn a_handshake_is_made_though_datagrams_come_twice_and_in_other_order() {
    let (mut client, mut server, now) = begun();
    for _ in 0..50 {
        let mut up = client.take_out();
        up.reverse();
        for datagram in up.iter().chain(&up) {
            server.take(datagram).unwrap();
        }
        let mut down = server.take_out();
        down.reverse();
        for datagram in down.iter().chain(&down) {
            client.take(datagram).unwrap();
        }
        if client.out.is_empty() && server.out.is_empty() {
            break;
        }
    }
    let mut now = now;
    while !(client.association.is_connected() && server.association.is_connected()) {
        now += Duration::from_millis(100);
        for side in [&mut client, &mut server] {
            side.association.handle_timeout(now).unwrap();
            side.poll().unwrap();
        }
        carry(&mut client, &mut server, |_, _| ());
    }
    exchange(&mut client, &mut server);
}

#[test]
fn a_hello_that_comes_before_anything_else_is_answered_once_more() {
    // It came before the peer was described, and the client sends it again.
    let (mut client, mut server, now) = begun();
    let hello = client.take_out();
    for datagram in &hello {
        server.take(datagram).unwrap();
        server.take(datagram).unwrap();
    }
    let later = client.association.deadline().unwrap() + Duration::from_millis(1);
    assert!(later > now);
    client.association.handle_timeout(later).unwrap();
    client.poll().unwrap();
    carry(&mut client, &mut server, |_, _| ());
    let mut now = later;
    while !(client.association.is_connected() && server.association.is_connected()) {
        now += Duration::from_millis(100);
        for side in [&mut client, &mut server] {
            side.association.handle_timeout(now).unwrap();
            side.poll().unwrap();
        }
        carry(&mut client, &mut server, |_, _| ());
    }
    exchange(&mut client, &mut server);
}

#[test]
fn another_certificate_than_the_announced_one_is_refused() {
    let now = Instant::now();
    let [a, b, other] = [(); 3].map(|()| Certificate::generate().unwrap());
    for is_client_wrong in [true, false] {
        let (expected_of_client, expected_of_server) = match is_client_wrong {
            true => (&other, &b),
            false => (&a, &other),
        };
        let mut client = Side::new(&a, true, expected_of_server, now);
        let mut server = Side::new(&b, false, expected_of_client, now);
        client.association.start(now).unwrap();
        client.poll().unwrap();
        let mut refused = None;
        for _ in 0..20 {
            for datagram in client.take_out() {
                let outcome = server.take(&datagram).err();
                refused = refused.or(outcome);
            }
            for datagram in server.take_out() {
                let outcome = client.take(&datagram).err();
                refused = refused.or(outcome);
            }
        }
        assert_eq!(refused.unwrap().kind(), ErrorKind::Unauthenticated);
    }
}
