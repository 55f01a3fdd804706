//! Addresses that are lists. What every command does over one is tested with the [routes](crate::route).

use std::net::TcpListener;

use rustix::process::Signal;
use serde_json::Value;

use crate::pipe::{Pipe, bare};

/// An address of a port that nobody listens on. It is free while this test needs it.
fn vacant() -> String {
    let socket = TcpListener::bind("127.0.0.1:0").unwrap();
    format!("tcp://{}", socket.local_addr().unwrap())
}

#[test]
fn a_listener_on_several_addresses_prints_them_all_with_its_token() {
    let listen = [
        "listen",
        "tls://127.0.0.1:0,quic://127.0.0.1:0,tcp://127.0.0.1:0",
        "--exec",
        "cat",
    ];
    let listener = Pipe::start(&listen);
    let list = listener.addr();
    let parts: Vec<_> = list.split(',').collect();
    assert_eq!(parts.len(), 3, "{list}");
    for part in &parts {
        assert!(part.contains("token="), "{list}");
        assert!(!part.contains(":0?"), "{list}");
    }
    let refuses = format!("{},{list}", vacant());
    for addr in parts.iter().copied().chain([list.as_str(), &refuses]) {
        let dialed = Pipe::run(&["dial", addr], b"hello").ok();
        assert_eq!(dialed.text(), "hello", "{addr}");
    }
    // Without the token of the address that it reaches, nobody is served.
    let dialed = Pipe::run(&["dial", &bare(&list)], b"hello");
    assert_ne!(dialed.code, Some(0));
    listener.signal(Signal::TERM);
    listener.wait().ok();
}

#[test]
fn each_address_of_a_list_is_shown_its_own_token() {
    let listen = |addr: &str| Pipe::start(&["listen", addr, "--exec", "cat"]);
    let (one, other) = (listen("tcp://127.0.0.1:0"), listen("tls://127.0.0.1:0"));
    let addrs = [one.addr(), other.addr()];
    let both = addrs.join(",");
    assert_eq!(Pipe::run(&["dial", &both], b"a").ok().text(), "a");
    one.kill();
    assert_eq!(Pipe::run(&["dial", &both], b"b").ok().text(), "b");
    other.kill();
    let failed = Pipe::run(&["dial", &both], b"");
    let shown = addrs.map(|addr| bare(&addr));
    failed.fails(3, &[&shown[0], &shown[1], "no listener"]);
    assert!(!failed.err.contains("token="), "{}", failed.err);
}

#[test]
fn a_peer_that_takes_no_token_lets_the_next_address_go_on() {
    let without = Pipe::start(&["listen", "tcp://127.0.0.1:0", "--exec", "cat", "--no-token"]);
    let with = Pipe::start(&["listen", "tcp://127.0.0.1:0", "--exec", "cat"]);
    let list = format!("{}?token=0123456789abcdef,{}", without.addr(), with.addr());
    let args = ["dial", &list, "--connect-timeout", "5s"];
    assert_eq!(Pipe::run(&args, b"hello").ok().text(), "hello");
}

#[test]
fn a_list_that_makes_no_sense_is_refused() {
    let tokens =
        "tcp://127.0.0.1:0?token=0123456789abcdef,tls://127.0.0.1:0?token=fedcba9876543210";
    Pipe::run(&["listen", tokens], b"").fails(2, &["a listener has one token"]);
    let wrong = "tcp://127.0.0.1:1,tls://127.0.0.1:x";
    Pipe::run(&["dial", wrong], b"").fails(2, &["number 2 of the 2 in a list", "port"]);
    let inside = "tcp://127.0.0.1:1,inproc://x";
    Pipe::run(&["dial", inside], b"").fails(2, &["inproc://x: names of inproc:// live"]);
    let socket = TcpListener::bind("127.0.0.1:0").unwrap();
    let taken = format!("tcp://{}", socket.local_addr().unwrap());
    let list = format!("tls://127.0.0.1:0,{taken}");
    Pipe::run(&["listen", &list], b"").fails(3, &[&taken, "there is a listener already"]);
}

#[test]
fn the_doctor_looks_at_each_address_by_itself() {
    let listener = Pipe::start(&["listen", "tls://127.0.0.1:0"]);
    let (good, bad) = (listener.addr(), vacant());
    let list = format!("{bad},{good}");
    let ended = Pipe::run(&["doctor", &list], b"").ok();
    let text = ended.text();
    let place = |part: &str| {
        text.find(part)
            .unwrap_or_else(|| panic!("no {part}: {text}"))
    };
    assert!(place(&bad) < place("FAIL  socket"), "{text}");
    assert!(
        place("there is no listener at this port") < place(&good),
        "{text}"
    );
    assert!(place(&good) < place("ok    ping"), "{text}");
    assert!(text.ends_with("all is well\n"), "{text}");

    let ended = Pipe::run(&["--json", "doctor", &list], b"").ok();
    let events: Vec<Value> = ended
        .text()
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();
    let told: Vec<_> = events
        .iter()
        .map(|event| (event["addr"].as_str().unwrap(), event["ok"] == true))
        .collect();
    assert_eq!(told, [(bad.as_str(), false), (good.as_str(), true)]);

    let list = format!("{bad},unix:///nowhere/socket");
    let ended = Pipe::run(&["doctor", &list], b"");
    ended.fails(3, &["no address of the list is well"]);
    assert!(ended.text().contains("FAIL  file"), "{}", ended.text());
}
