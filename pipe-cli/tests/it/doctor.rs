//! `pipe doctor`, and what helps without a connection.

use std::net::UdpSocket;

use serde_json::Value;

use crate::pipe::Pipe;
use crate::route::{Route, on_every_transport};

on_every_transport! { each_step_is_told_when_all_is_well }

fn each_step_is_told_when_all_is_well(route: &Route) {
    let listener = Pipe::start(&["listen", &route.addr]);
    let addr = listener.addr();
    let ended = Pipe::run(&["--json", "doctor", &addr], b"").ok();
    let told: Value = serde_json::from_str(&ended.text()).unwrap();
    assert_eq!(told["ok"], true);
    let steps = told["steps"].as_array().unwrap();
    let names: Vec<_> = steps
        .iter()
        .map(|step| step["name"].as_str().unwrap())
        .collect();
    let expected: &[&str] = match addr.split_once(':').unwrap().0 {
        "tcp" => &["address", "name", "socket", "connection", "ping"],
        "tls" | "quic" => &[
            "address",
            "name",
            "socket",
            "trust",
            "connection",
            "certificate",
            "ping",
        ],
        "unix" => &["address", "file", "socket", "connection", "peer", "ping"],
        _ => &[
            "address",
            "name",
            "socket",
            "connection",
            "candidates",
            "ping",
        ],
    };
    // The peer of WebRTC may show a certificate, too.
    let names: Vec<_> = if addr.starts_with("webrtc") {
        names
            .into_iter()
            .filter(|name| *name != "certificate")
            .collect()
    } else {
        names
    };
    assert_eq!(names, expected, "{told}");
    let text = Pipe::run(&["doctor", &addr], b"").ok().text();
    assert!(text.ends_with("all is well\n"), "{text}");
}

#[test]
fn what_is_wrong_is_said_with_what_to_do() {
    let udp = UdpSocket::bind("127.0.0.1:0").unwrap();
    let silent = format!(
        "quic://{}?cert-sha256={}",
        udp.local_addr().unwrap(),
        "00".repeat(32)
    );
    let listener = Pipe::start(&["listen", "tls://127.0.0.1:0"]);
    let addr = listener.addr();
    let (bare, _) = addr.split_once('?').unwrap();
    let pinned = format!("{bare}?cert-sha256={}", "00".repeat(32));
    let plain = bare.replace("tls", "tcp");
    for (addr, code, step, advice) in [
        (
            "nonsense",
            2,
            "FAIL  address",
            "The address itself is wrong",
        ),
        (
            "gopher://a:1",
            2,
            "FAIL  address",
            "The address itself is wrong",
        ),
        (
            "tcp://127.0.0.1",
            2,
            "FAIL  connection",
            "The address itself is wrong",
        ),
        (
            "tcp://127.0.0.1:1",
            3,
            "FAIL  socket",
            "there is no listener at this port",
        ),
        ("unix:///nowhere/socket", 3, "FAIL  file", ""),
        (
            &pinned,
            4,
            "ok    socket",
            "use the address that it prints now",
        ),
        (
            &plain,
            3,
            "FAIL  connection",
            "both sides use the same scheme",
        ),
        (&silent, 3, "FAIL  connection", "UDP has to pass"),
        (
            "tcp://name.invalid:1",
            3,
            "FAIL  name",
            "No path leads there",
        ),
    ] {
        let ended = Pipe::run(&["doctor", addr, "--connect-timeout", "1s"], b"");
        ended.fails(code, &[addr]);
        let text = ended.text();
        assert!(
            text.contains(step) && text.contains(advice),
            "{addr}: {text}"
        );
    }
}

#[test]
fn help_manual_and_completions_know_every_command() {
    let commands = [
        "listen",
        "dial",
        "ping",
        "perf",
        "forward",
        "expose",
        "send",
        "receive",
        "doctor",
        "completions",
        "man",
    ];
    let help = Pipe::run(&["help"], b"").ok().text();
    let manual = Pipe::run(&["man"], b"").ok().text();
    let bash = Pipe::run(&["completions", "bash"], b"").ok().text();
    for command in commands {
        for text in [&help, &manual, &bash] {
            assert!(text.contains(command), "{command}");
        }
        let page = Pipe::run(&["man", command], b"").ok().text();
        assert!(page.contains(&format!("pipe\\-{command}")), "{page}");
        assert!(page.contains("Exit codes"), "{page}");
    }
    assert!(help.contains("Exit codes:"));
    for shell in ["zsh", "fish", "powershell", "elvish"] {
        assert!(
            Pipe::run(&["completions", shell], b"")
                .ok()
                .text()
                .contains("pipe")
        );
    }
    Pipe::run(&["man", "fly"], b"").fails(2, &["\"fly\""]);
    Pipe::run(&["completions", "abacus"], b"").fails(2, &["abacus"]);
}
