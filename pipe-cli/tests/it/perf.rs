//! `pipe perf`.

use rustix::process::Signal;
use serde_json::Value;

use crate::pipe::{Pipe, bare};
use crate::route::{Route, on_every_route};

on_every_route! { everything_is_measured }

fn everything_is_measured(route: &Route) {
    let server = Pipe::start(&["perf", "--serve", &route.addr]);
    let addr = server.addr();
    let ended = Pipe::run(
        &["--json", "perf", &addr, "--time", "200ms", "--stream", "2"],
        b"",
    )
    .ok();
    let result: Value = serde_json::from_str(&ended.text()).unwrap();
    assert_eq!(result["addr"], addr);
    for field in [
        &result["connect_ms"],
        &result["idle"]["median_ms"],
        &result["up"]["bytes"],
        &result["up"]["round_trip"]["max_ms"],
        &result["down"]["bytes_per_second"],
        &result["streams_per_second"],
    ] {
        assert!(field.as_f64().unwrap() > 0.0, "{result}");
    }
    server.signal(Signal::TERM);
    server.wait().ok();
}

#[test]
fn people_get_a_table() {
    let server = Pipe::start(&["perf", "--serve", "tcp://127.0.0.1:0"]);
    let ended = Pipe::run(&["perf", &server.addr(), "--time", "50ms"], b"").ok();
    let text = ended.text();
    for part in [
        "up, 4 streams",
        "down, 4 streams",
        "ping median",
        "streams, opened",
        "B/s",
    ] {
        assert!(text.contains(part), "{part}: {text}");
    }
}

#[test]
fn wrong_uses_are_told() {
    let dir = tempfile::tempdir().unwrap();
    let to = dir.path().to_str().unwrap();
    let receiver = Pipe::start(&["receive", "--keep", "tcp://127.0.0.1:0", to]);
    let addr = receiver.addr();
    let shown = bare(&addr);
    let parts = [&*shown, "this is `pipe receive`", "it speaks pipe-perf/1"];
    Pipe::run(&["perf", &addr], b"").fails(1, &parts);
    Pipe::run(&["perf", "tcp://127.0.0.1:1"], b"").fails(3, &["tcp://127.0.0.1:1"]);
    Pipe::run(&["perf", "tcp://a:1", "--time", "1h"], b"").fails(2, &["10 minutes"]);
    Pipe::run(&["perf", "tcp://a:1", "--time", "long"], b"").fails(2, &["--time", "long"]);
}
