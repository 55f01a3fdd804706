//! `pipe forward` and `pipe expose`.

use std::io::{ErrorKind, Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::sync::mpsc::{Receiver, channel};
use std::thread;
use std::time::Duration;

use rustix::process::Signal;
use socket2::SockRef;

use crate::pipe::{LIMIT, Pipe};
use crate::route::{Route, on_every_route};

on_every_route! { connections_are_carried_at_once_and_end_as_they_would }

/// A port that answers what it has heard, backwards, when its client has ended its direction. Tells what
/// each connection came to.
fn target() -> (String, Receiver<Result<usize, ErrorKind>>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let addr = listener.local_addr().unwrap().to_string();
    let (done, ends) = channel();
    thread::spawn(move || {
        for tcp in listener.incoming() {
            let (mut tcp, done) = (tcp.unwrap(), done.clone());
            thread::spawn(move || {
                let mut heard = Vec::new();
                let end = tcp.read_to_end(&mut heard).and_then(|read| {
                    heard.reverse();
                    tcp.write_all(&heard)?;
                    Ok(read)
                });
                let _ = done.send(end.map_err(|error| error.kind()));
            });
        }
    });
    (addr, ends)
}

fn connect(addr: &str) -> TcpStream {
    let tcp = TcpStream::connect(addr).unwrap();
    tcp.set_read_timeout(Some(LIMIT)).unwrap();
    tcp
}

fn forwarder(addr: &str) -> (Pipe, String) {
    let forwarder = Pipe::start(&["forward", "--local", "127.0.0.1:0", addr]);
    let line = forwarder.err_line("forwarding ");
    let local = line.split(' ').nth(1).unwrap().to_owned();
    (forwarder, local)
}

/// Says something, and checks the answer.
fn converse(mut tcp: TcpStream, bytes: &[u8]) {
    tcp.write_all(bytes).unwrap();
    tcp.shutdown(Shutdown::Write).unwrap();
    let mut answer = Vec::new();
    tcp.read_to_end(&mut answer).unwrap();
    answer.reverse();
    assert!(answer == bytes, "{} of {} bytes", answer.len(), bytes.len());
}

fn connections_are_carried_at_once_and_end_as_they_would(route: &Route) {
    let (target, ends) = target();
    let exposer = Pipe::start(&["expose", &route.addr, "--to", &target]);
    let (forwarder, local) = forwarder(&exposer.addr());

    let clients: Vec<_> = (0..20).map(|_| connect(&local)).collect();
    thread::scope(|scope| {
        for (number, tcp) in clients.into_iter().enumerate() {
            scope.spawn(move || converse(tcp, &vec![number as u8 + 1; number * 10_007]));
        }
    });
    for _ in 0..20 {
        ends.recv_timeout(LIMIT).unwrap().unwrap();
    }

    let mut tcp = connect(&local);
    tcp.write_all(b"to be cut").unwrap();
    SockRef::from(&tcp)
        .set_linger(Some(Duration::ZERO))
        .unwrap();
    drop(tcp);
    assert_eq!(
        ends.recv_timeout(LIMIT).unwrap(),
        Err(ErrorKind::ConnectionReset)
    );

    for pipe in [forwarder, exposer] {
        pipe.signal(Signal::TERM);
        pipe.wait().ok();
    }
}

#[test]
fn a_target_that_is_not_there_resets_the_client_and_is_named() {
    let target = "127.0.0.1:1";
    let exposer = Pipe::start(&["expose", "tcp://127.0.0.1:0", "--to", target]);
    let (forwarder, local) = forwarder(&exposer.addr());
    let error = connect(&local).read(&mut [0]).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::ConnectionReset);
    exposer.err_line(&format!("pipe: {target}: Connection refused"));
    forwarder.err_line("cannot reach its target");
}

#[test]
fn a_lost_peer_is_dialed_again() {
    let (target, _ends) = target();
    let exposer = Pipe::start(&["expose", &Route::of("tcp").lasting(), "--to", &target]);
    let addr = exposer.addr();
    let (forwarder, local) = forwarder(&addr);
    converse(connect(&local), b"before");
    exposer.kill();
    forwarder.err_line("lost ");
    // It waits for the peer.
    let waiting = connect(&local);
    let _exposer = Pipe::start(&["expose", &addr, "--to", &target]);
    converse(waiting, b"after");
}

#[test]
fn what_is_open_may_end_after_a_signal() {
    let (target, ends) = target();
    let exposer = Pipe::start(&["expose", "tcp://127.0.0.1:0", "--to", &target]);
    let (forwarder, local) = forwarder(&exposer.addr());
    converse(connect(&local), b"one");
    assert_eq!(ends.recv_timeout(LIMIT).unwrap(), Ok(3));
    let mut tcp = connect(&local);
    tcp.write_all(b"two").unwrap();
    // Accepted before the signal: a later connection was.
    converse(connect(&local), b"three");
    assert_eq!(ends.recv_timeout(LIMIT).unwrap(), Ok(5));
    forwarder.signal(Signal::TERM);
    tcp.shutdown(Shutdown::Write).unwrap();
    let mut answer = String::new();
    tcp.read_to_string(&mut answer).unwrap();
    assert_eq!(answer, "owt");
    forwarder.wait().ok();
}

#[test]
fn wrong_uses_are_told() {
    let busy = TcpListener::bind("127.0.0.1:0").unwrap();
    let local = busy.local_addr().unwrap().to_string();
    Pipe::run(&["forward", "--local", &local, "tcp://127.0.0.1:1"], b"")
        .fails(3, &[&local, "Address already in use"]);
    Pipe::run(
        &["forward", "--local", "127.0.0.1:0", "tcp://127.0.0.1:1"],
        b"",
    )
    .fails(3, &["tcp://127.0.0.1:1", "there is no listener"]);
    Pipe::run(&["expose", "tcp://127.0.0.1:0", "--to", "nowhere"], b"").fails(2, &["--to nowhere"]);
    Pipe::run(&["expose", "tcp://127.0.0.1:0"], b"").fails(2, &["--to"]);
}

#[test]
fn more_connections_than_one_peer_lets_are_carried_at_once() {
    let (target, _ends) = target();
    let exposer = Pipe::start(&["expose", "tcp://127.0.0.1:0", "--to", &target]);
    let (forwarder, local) = forwarder(&exposer.addr());
    let clients: Vec<_> = (0..300)
        .map(|number: u32| {
            let mut tcp = connect(&local);
            tcp.write_all(&number.to_be_bytes()).unwrap();
            tcp
        })
        .collect();
    // The last one is served while all others are there.
    for tcp in clients.iter().rev() {
        tcp.shutdown(Shutdown::Write).unwrap();
        let mut answer = Vec::new();
        (&*tcp).read_to_end(&mut answer).unwrap();
        assert_eq!(answer.len(), 4);
    }
    drop(forwarder);
}

#[test]
fn a_connection_beyond_the_limit_is_reset_at_once() {
    let (target, _ends) = target();
    let exposer = Pipe::start(&["expose", "tcp://127.0.0.1:0", "--to", &target]);
    let args = [
        "forward",
        "--max-streams",
        "2",
        "--local",
        "127.0.0.1:0",
        &exposer.addr(),
    ];
    let forwarder = Pipe::start(&args);
    let line = forwarder.err_line("forwarding ");
    let local = line.split(' ').nth(1).unwrap();
    let held: Vec<_> = (0..2).map(|_| connect(local)).collect();
    let error = connect(local).read(&mut [0]).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::ConnectionReset);
    forwarder.err_line("--max-streams");
    for tcp in held {
        converse(tcp, b"still carried");
    }
}
