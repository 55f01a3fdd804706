use std::future::poll_fn;
use std::net::{Ipv4Addr, Ipv6Addr, UdpSocket};
use std::task::Poll;
use std::time::Duration;

use stun_types::message::{MessageClass, TransactionId};
use tokio::time::timeout;

use super::super::inbox::Datagrams;
use super::super::membership::Membership;
use super::super::socket::PortSender;
use super::super::table::Proof;
use super::*;
use crate::engine::own::outgoing::Outgoing;
use crate::engine::own::stun::{BINDING, USERNAME, Writer};

const HERE: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);

fn port(number: u16) -> Arc<SharedPort> {
    SharedPort::new(number, 1 << 20)
}

fn member(port: &Arc<SharedPort>, ufrag: &str) -> Membership {
    let member = Membership::new(port.open(&[HERE]).unwrap());
    member.set_ufrags(&[ufrag]).unwrap();
    member
}

fn check(ufrag: &str) -> Vec<u8> {
    let writer = Writer::new(MessageClass::Request, BINDING, TransactionId::generate());
    let username = format!("{ufrag}:theirs");
    writer.bytes(USERNAME, username.as_bytes()).finish(None)
}

/// Returns what comes next for a connection.
async fn received(member: &Membership) -> Vec<(SocketAddr, Vec<u8>)> {
    let mut taken = Datagrams::default();
    let coming = poll_fn(|cx| {
        member.inbox().register(cx.waker());
        member.inbox().swap(&mut taken);
        if taken.is_empty() {
            return Poll::Pending;
        }
        let mut all = Vec::new();
        while let Some((_, from, datagram)) = taken.next() {
            all.push((from, datagram.to_vec()));
        }
        Poll::Ready(all)
    });
    timeout(Duration::from_secs(10), coming)
        .await
        .expect("a datagram")
}

async fn until(port: &SharedPort, holds: impl Fn(UdpPortStats) -> bool) {
    let counted = async {
        while !holds(port.stats()) {
            tokio::task::yield_now().await;
        }
    };
    timeout(Duration::from_secs(10), counted)
        .await
        .unwrap_or_else(|_| panic!("{:?}", port.stats()));
}

#[tokio::test]
async fn each_connection_receives_what_is_for_it_and_strangers_are_counted() {
    let port = port(0);
    let [one, two] = ["one", "two"].map(|ufrag| member(&port, ufrag));
    let to = port.addrs()[0];
    let peer = UdpSocket::bind((HERE, 0)).unwrap();
    let from = peer.local_addr().unwrap();
    peer.send_to(&check("two"), to).unwrap();
    assert_eq!(received(&two).await[0].0, from);
    peer.send_to(&check("guessed"), to).unwrap();
    peer.send_to(b"garbage", to).unwrap();
    peer.send_to(&[22, 0, 0], to).unwrap();
    until(&port, |stats| stats.strangers == 3).await;
    one.claim(0, from, Proof::Request);
    peer.send_to(&[22, 1, 1], to).unwrap();
    assert_eq!(received(&one).await, [(from, vec![22, 1, 1])]);
    drop(one);
    peer.send_to(&[22, 2, 2], to).unwrap();
    until(&port, |stats| stats.strangers == 4).await;
    assert_eq!((port.stats().connections, port.stats().overflowed), (1, 0));
}

#[tokio::test]
async fn a_connection_that_reads_nothing_loses_its_own_datagrams_alone() {
    let port = port(0);
    let [slow, other] = ["slow", "other"].map(|ufrag| member(&port, ufrag));
    let to = port.addrs()[0];
    let peer = UdpSocket::bind((HERE, 0)).unwrap();
    slow.claim(0, peer.local_addr().unwrap(), Proof::Request);
    while port.stats().overflowed == 0 {
        for _ in 0..10 {
            peer.send_to(&[22; 1200], to).unwrap();
        }
        tokio::task::yield_now().await;
    }
    let check = check("other");
    peer.send_to(&check, to).unwrap();
    assert_eq!(received(&other).await[0].1, check);
}

#[tokio::test]
async fn what_connections_send_comes_from_the_port() {
    let port = port(0);
    let sockets = port.open(&[HERE]).unwrap();
    let mut senders = [(); 2].map(|()| PortSender::new(sockets.sockets[0].clone()));
    let peer = UdpSocket::bind((HERE, 0)).unwrap();
    let mut out = Outgoing::new(senders[0].max_segments());
    for _ in 0..8 {
        out.push(0, peer.local_addr().unwrap(), &[7; 1200]);
    }
    for sender in &mut senders {
        let batch = out.front().unwrap();
        poll_fn(|cx| sender.poll_send(cx, batch)).await;
    }
    let sent = 2 * out.front().unwrap().count;
    for _ in 0..sent {
        let (count, from) = peer.recv_from(&mut [0; 1500]).unwrap();
        assert_eq!((count, from), (1200, port.addrs()[0]));
    }
}

#[tokio::test]
async fn a_port_that_is_taken_is_an_error_that_names_it() {
    let taken = UdpSocket::bind((HERE, 0)).unwrap();
    let number = taken.local_addr().unwrap().port();
    let error = port(number).open(&[HERE]).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::AddrInUse, "{error}");
    let text = error.to_string();
    assert!(
        text.contains(&format!("UDP port {number} of 127.0.0.1")),
        "{text}"
    );

    // One that is bound already takes further addresses as far as it can.
    let free = port(0);
    let (first, number) = (free.open(&[HERE]).unwrap(), free.addrs()[0].port());
    let other = IpAddr::from([127, 0, 0, 2]);
    let _taken = UdpSocket::bind((other, number)).unwrap();
    assert_eq!(free.open(&[HERE, other]).unwrap().sockets.len(), 1);
    assert_eq!(
        free.open(&[other]).unwrap_err().kind(),
        ErrorKind::AddrInUse
    );
    drop(first);
}

#[tokio::test]
async fn one_number_is_found_for_all_addresses_and_is_free_at_the_end() {
    let v6 = IpAddr::V6(Ipv6Addr::LOCALHOST);
    let third = IpAddr::from([127, 0, 0, 3]);
    let shared = port(0);
    let opened = shared.open(&[HERE, v6, third]).unwrap();
    let addrs = shared.addrs();
    assert_eq!(addrs.len(), opened.sockets.len());
    assert!(
        addrs.iter().all(|addr| addr.port() == addrs[0].port()),
        "{addrs:?}"
    );
    assert!(addrs.len() >= 2, "{addrs:?}");
    // The same sockets serve again.
    let again = shared.open(&[third, HERE]).unwrap();
    assert_eq!(again.sockets[1].addr(), opened.sockets[0].addr());
    drop((shared, opened));
    assert!(UdpSocket::bind(addrs[0]).is_err(), "a connection has it");
    drop(again);
    UdpSocket::bind(addrs[0]).expect("the port is free");
}

#[test]
fn sockets_of_a_runtime_that_has_ended_are_bound_anew() {
    let runtime = || {
        let builder = &mut tokio::runtime::Builder::new_current_thread();
        builder.enable_all().build().unwrap()
    };
    let shared = port(0);
    let first = runtime();
    drop(first.block_on(async { shared.open(&[HERE]).unwrap() }));
    drop(first);
    runtime().block_on(async {
        let member = member(&shared, "here");
        let peer = UdpSocket::bind((HERE, 0)).unwrap();
        peer.send_to(&check("here"), shared.addrs()[0]).unwrap();
        assert_eq!(received(&member).await.len(), 1);
    });
}
