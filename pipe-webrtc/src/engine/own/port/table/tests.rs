use stun_types::message::MessageClass;

use super::super::inbox::Datagrams;
use super::*;
use crate::engine::own::stun::{BINDING, USERNAME, Writer};

const DTLS: &[u8] = &[22, 254, 253];

fn addr(port: u16) -> SocketAddr {
    SocketAddr::from(([192, 0, 2, 1], port))
}

fn message(class: MessageClass, id: TransactionId, username: &str) -> Vec<u8> {
    let writer = Writer::new(class, BINDING, id);
    writer.bytes(USERNAME, username.as_bytes()).finish(None)
}

/// A request to the author of a user fragment.
fn check(ufrag: &str) -> Vec<u8> {
    let id = TransactionId::generate();
    message(MessageClass::Request, id, &format!("{ufrag}:theirs"))
}

/// A request that a connection sends, and the response to it.
fn question() -> (Vec<u8>, Vec<u8>) {
    let id = TransactionId::generate();
    let question = message(MessageClass::Request, id, "theirs:ours");
    (question, message(MessageClass::Success, id, "theirs:ours"))
}

/// A table with as many connections, whose user fragments are their numbers.
fn table(count: u64) -> Table {
    let mut table = Table::default();
    for id in 0..count {
        table.join(id, Arc::default(), id as usize);
        assert!(table.set_ufrags(id, &[&id.to_string()]));
    }
    table
}

/// Returns the connection that a datagram is for. Its number is also that of its socket here.
fn owner(table: &Table, from: SocketAddr, datagram: &[u8]) -> Option<Id> {
    let (_, socket) = table.route(from, datagram)?;
    Some(socket as Id)
}

#[test]
fn a_request_is_for_the_author_of_its_user_fragment_from_wherever_it_comes() {
    let mut table = table(3);
    for id in 0..3 {
        assert_eq!(owner(&table, addr(1), &check(&id.to_string())), Some(id));
    }
    assert_eq!(owner(&table, addr(1), &check("3")), None);
    // The address is no reason to give a request to another connection.
    table.claim(2, addr(1), Proof::Response);
    assert_eq!(owner(&table, addr(1), &check("0")), Some(0));
    assert_eq!(owner(&table, addr(1), &check("3")), None);
    assert!(!table.set_ufrags(1, &["1", "0"]), "0 is another's");
    assert_eq!(owner(&table, addr(1), &check("0")), Some(0));
}

#[test]
fn data_is_for_the_connection_whose_peer_was_proved_to_be_at_the_source() {
    let mut table = table(2);
    assert_eq!(owner(&table, addr(1), DTLS), None);
    let (question, _) = question();
    table.note_sent(1, addr(1), &question);
    assert_eq!(owner(&table, addr(1), DTLS), None, "sending proves nothing");
    table.claim(1, addr(1), Proof::Request);
    assert_eq!(owner(&table, addr(1), DTLS), Some(1));
    let indication = message(MessageClass::Indication, TransactionId::generate(), "0:1");
    assert_eq!(owner(&table, addr(1), &indication), Some(1));
    assert_eq!(owner(&table, addr(2), DTLS), None);
    // Neither of DTLS nor of ICE, as the channels of TURN and RTP (RFC 7983, section 7).
    for first in [4, 19, 64, 79, 128, 255] {
        assert_eq!(owner(&table, addr(1), &[first, 0, 0]), None);
    }
    assert_eq!(owner(&table, addr(1), b""), None);
}

#[test]
fn an_address_goes_over_to_a_connection_only_if_its_peer_receives_there() {
    let mut table = table(2);
    table.claim(0, addr(1), Proof::Request);
    // The source of a request may be forged.
    table.claim(1, addr(1), Proof::Request);
    assert_eq!(owner(&table, addr(1), DTLS), Some(0));
    let (question, response) = question();
    table.note_sent(1, addr(1), &question);
    assert_eq!(owner(&table, addr(1), &response), Some(1));
    table.claim(1, addr(1), Proof::Response);
    assert_eq!(owner(&table, addr(1), DTLS), Some(1));
    // What the connection before had is gone, so that its end takes nothing along.
    table.leave(0);
    assert_eq!(owner(&table, addr(1), DTLS), Some(1));
}

#[test]
fn a_response_is_let_through_only_from_where_its_request_went() {
    let mut table = table(2);
    let (question, response) = question();
    table.note_sent(0, addr(9), &question);
    assert_eq!(owner(&table, addr(9), &response), Some(0));
    assert_eq!(owner(&table, addr(8), &response), None);
    let (_, forged) = self::question();
    assert_eq!(owner(&table, addr(9), &forged), None);
    // Another connection cannot have it by sending the same.
    table.note_sent(1, addr(9), &question);
    assert_eq!(owner(&table, addr(9), &response), Some(0));
    // Only requests count.
    let (_, response) = self::question();
    table.note_sent(0, addr(9), &response);
    table.note_sent(0, addr(9), DTLS);
    assert_eq!(owner(&table, addr(9), &response), None);
}

#[test]
fn restarts_change_the_user_fragments() {
    let mut table = table(1);
    assert!(table.set_ufrags(0, &["0", "next"]));
    assert_eq!(owner(&table, addr(1), &check("0")), Some(0));
    assert_eq!(owner(&table, addr(1), &check("next")), Some(0));
    assert!(table.set_ufrags(0, &["next"]));
    assert_eq!(owner(&table, addr(1), &check("0")), None);
    assert_eq!(owner(&table, addr(1), &check("next")), Some(0));
}

#[test]
fn nothing_leads_to_a_connection_that_has_left() {
    let mut table = table(2);
    let (question, response) = question();
    table.claim(0, addr(1), Proof::Request);
    table.note_sent(0, addr(2), &question);
    table.leave(0);
    for (from, datagram) in [
        (addr(1), DTLS),
        (addr(2), &*response),
        (addr(1), &*check("0")),
    ] {
        assert_eq!(owner(&table, from, datagram), None);
    }
    // What a connection does in the moment of its end leaves nothing behind.
    table.claim(0, addr(1), Proof::Response);
    table.note_sent(0, addr(2), &question);
    assert!(table.set_ufrags(0, &["0"]));
    assert_eq!(owner(&table, addr(1), DTLS), None);
    table.leave(1);
    let left = [table.addrs.len(), table.requests.len()];
    assert_eq!((left, table.ufrags.len(), table.len()), ([0, 0], 0, 0));
}

#[test]
fn what_is_kept_for_a_connection_is_bounded_and_its_path_stays() {
    let mut table = table(2);
    table.claim(1, addr(5), Proof::Request);
    for port in 1000..2000 {
        // The path in use is proved again and again.
        table.claim(0, addr(1), Proof::Response);
        table.claim(0, addr(port), Proof::Request);
        table.note_sent(0, addr(port + 1000), &question().0);
    }
    assert_eq!(table.addrs.len(), MAX_ADDRS + 1);
    assert_eq!(table.requests.len(), MAX_REQUESTS);
    assert_eq!(owner(&table, addr(1), DTLS), Some(0));
    assert_eq!(owner(&table, addr(1999), DTLS), Some(0));
    assert_eq!(owner(&table, addr(1000), DTLS), None);
    assert_eq!(owner(&table, addr(5), DTLS), Some(1), "another's");
    // Requests to where the peer is known to be take no room.
    let before = table.members[&1].requests.len();
    table.note_sent(1, addr(5), &question().0);
    assert_eq!(table.members[&1].requests.len(), before);
}

#[test]
fn a_datagram_of_a_socket_carries_its_number() {
    let table = table(3);
    let (inbox, socket) = table.route(addr(1), &check("2")).unwrap();
    inbox.push(socket, addr(1), b"x");
    let mut taken = Datagrams::default();
    inbox.swap(&mut taken);
    assert_eq!(taken.next(), Some((2, addr(1), &b"x"[..])));
}
