//! `pipe ping`.

use rustix::process::Signal;

use crate::pipe::Pipe;
use crate::route::{Route, on_every_route};

on_every_route! {
    round_trips_are_shown_as_ping_shows_them
    the_other_side_hears_that_the_connection_was_closed
}

fn round_trips_are_shown_as_ping_shows_them(route: &Route) {
    let listener = Pipe::start(&["listen", &route.addr]);
    let addr = listener.addr();
    let ended = Pipe::run(&["ping", &addr, "--count", "3", "--interval", "10ms"], b"").ok();
    let text = ended.text();
    let lines: Vec<_> = text.lines().collect();
    assert!(
        lines[0].starts_with(&format!("PING {addr} from ")),
        "{text}"
    );
    for seq in 1..=3 {
        let line = format!("seq={seq} time=");
        assert!(
            lines
                .iter()
                .any(|l| l.starts_with(&line) && l.ends_with(" ms")),
            "{text}"
        );
    }
    assert!(lines.contains(&"3 sent, 3 answered, 0% lost"), "{text}");
    assert!(
        lines.last().unwrap().starts_with("rtt min/avg/max/mdev = "),
        "{text}"
    );
    // The listener still waits for its stream.
    let mut dialer = Pipe::start(&["dial", &addr]);
    dialer.write(b"after\n");
    listener.out_line("after");
}

fn the_other_side_hears_that_the_connection_was_closed(route: &Route) {
    let listener = Pipe::start(&["-v", "listen", &route.addr, "--exec", "cat"]);
    let addr = listener.addr();
    for _ in 0..5 {
        Pipe::run(&["ping", &addr, "--count", "1"], b"").ok();
    }
    listener.signal(Signal::INT);
    let ended = listener.wait().ok();
    // It has a word for every other end.
    assert!(!ended.err.contains("a connection ended"), "{}", ended.err);
}

#[test]
fn an_interrupted_ping_ends_with_its_statistics() {
    let listener = Pipe::start(&["listen", "tcp://127.0.0.1:0"]);
    let ping = Pipe::start(&["ping", &listener.addr(), "--interval", "20ms"]);
    ping.out_line("seq=2");
    ping.signal(Signal::INT);
    let ended = ping.wait().ok();
    assert!(ended.text().contains(" 0% lost\nrtt "), "{}", ended.text());
}

#[test]
fn the_end_of_the_connection_is_shown_and_told_by_the_exit_code() {
    let listener = Pipe::start(&["listen", "tcp://127.0.0.1:0"]);
    let ping = Pipe::start(&["ping", &listener.addr(), "--interval", "20ms"]);
    ping.out_line("seq=1");
    listener.kill();
    let ended = ping.wait();
    ended.fails(5, &["tcp://127.0.0.1:"]);
    assert!(ended.text().contains("ping statistics"), "{}", ended.text());
}

#[test]
fn a_silent_peer_is_shown_as_disconnected_and_then_failed() {
    let listener = Pipe::start(&["listen", "tcp://127.0.0.1:0"]);
    let ping = Pipe::start(&[
        "ping",
        &listener.addr(),
        "--interval",
        "100ms",
        "--timeout",
        "300ms",
        "--failed-after",
        "5s",
        "--disconnected-after",
        "700ms",
    ]);
    ping.out_line("seq=1");
    listener.signal(Signal::STOP);
    ping.out_line("no answer within 300ms");
    ping.out_line("the connection is disconnected");
    listener.signal(Signal::CONT);
    ping.out_line("the connection is connected");
    listener.signal(Signal::STOP);
    let ended = ping.wait();
    listener.signal(Signal::CONT);
    ended.fails(5, &["tcp://127.0.0.1:"]);
    assert!(
        ended.text().contains("the connection is failed"),
        "{}",
        ended.text()
    );
}

#[test]
fn json_has_one_object_a_line() {
    let listener = Pipe::start(&["listen", "tcp://127.0.0.1:0"]);
    let ended = Pipe::run(&["--json", "ping", &listener.addr(), "-c", "1"], b"").ok();
    let events: Vec<serde_json::Value> = ended
        .text()
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();
    let names: Vec<_> = events
        .iter()
        .map(|event| event["event"].as_str().unwrap())
        .collect();
    assert_eq!(names, ["connected", "answer", "statistics"]);
    assert!(events[1]["time_ms"].as_f64().unwrap() > 0.0);
    assert_eq!(events[2]["statistics"]["answered"], 1);
}
