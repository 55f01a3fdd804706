//! Requests that do not end, or come too often.

use std::net::SocketAddr;
use std::time::Duration;

use pipe_core::{Config, Listener, Transport};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::task::JoinSet;

use super::{answer, connect, echo, listen, request, socket, whip};
use crate::common::{soon, transport};

const SDP: (&str, &str) = ("Content-Type", "application/sdp");

/// Sends a text again and again, until the peer takes no more, and reads what it has said.
async fn pour(to: SocketAddr, begin: &str, again: &str) -> Option<u16> {
    let mut stream = TcpStream::connect(to).await.expect("a connection");
    stream.write_all(begin.as_bytes()).await.expect("a write");
    let (mut reader, mut writer) = stream.split();
    let pouring = async {
        // What comes after the answer is read away for a second.
        while writer.write_all(again.as_bytes()).await.is_ok() {}
    };
    let reading = async {
        let mut bytes = Vec::new();
        let _ = reader.read_to_end(&mut bytes).await;
        bytes
    };
    let (bytes, ()) = soon("the end", async { tokio::join!(reading, pouring) }).await;
    let text = String::from_utf8_lossy(&bytes).into_owned();
    text.split(' ').nth(1).and_then(|code| code.parse().ok())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_request_without_an_end_is_refused() {
    let transport = whip();
    let listener = listen(&transport, "webrtc+http://127.0.0.1:0/a").await;
    let to = socket(&listener);
    let post = "POST /a HTTP/1.1\r\nHost: a\r\nContent-Type: application/sdp\r\n";
    let chunked = format!("{post}Transfer-Encoding: chunked\r\n\r\n");
    let long = format!("{post}Content-Length: 99999999\r\n\r\n");
    let data = "x".repeat(1024);
    for (begin, again, codes) in [
        (post, "A: b\r\n", [431, 400]),
        (post, &data, [431, 400]),
        ("POST /", &data, [414, 431]),
        ("", &data, [400, 431]),
        (&chunked, &format!("400\r\n{data}\r\n"), [413, 413]),
        (&long, &data, [413, 413]),
    ] {
        let code = pour(to, begin, again).await;
        // Where the end comes as a reset, nothing may be left of the answer.
        assert!(
            code.is_none_or(|code| codes.contains(&code)),
            "{begin:?}: {code:?}"
        );
    }
    let (here, there) = connect(&transport, &listener).await;
    echo(&here, &there).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_request_that_stops_half_way_is_given_up() {
    let limit = Duration::from_millis(700);
    let config = Config::default().with_handshake_timeout(limit);
    let transport = whip().with_config(config).expect("a configuration");
    let listener = listen(&transport, "webrtc+http://127.0.0.1:0/a").await;
    let post = "POST /a HTTP/1.1\r\nHost: a\r\nContent-Type: application/sdp\r\n";
    for begin in [
        "P".to_owned(),
        post.to_owned(),
        format!("{post}Content-Length: 1000\r\n\r\nv=0"),
        format!("{post}Transfer-Encoding: chunked\r\n\r\n400\r\nv=0"),
    ] {
        let mut stream = TcpStream::connect(socket(&listener))
            .await
            .expect("a connection");
        stream.write_all(begin.as_bytes()).await.expect("a write");
        let answer = soon("the end", answer(&mut stream)).await;
        assert!(
            answer.as_ref().is_none_or(|answer| answer.status == 408),
            "{answer:?}"
        );
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn connections_that_ask_nothing_keep_no_peer_out() {
    let transport = whip();
    let listener = listen(&transport, "webrtc+http://127.0.0.1:0/a").await;
    let to = socket(&listener);
    let mut idle = Vec::new();
    for number in 0..700 {
        let Ok(mut stream) = TcpStream::connect(to).await else {
            break;
        };
        if number % 2 == 0 {
            let _ = stream.write_all(b"POST /a HTTP/1.1\r\n").await;
        }
        idle.push(stream);
    }
    for _ in 0..3 {
        let (here, there) = connect(&transport, &listener).await;
        echo(&here, &there).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn offers_that_nothing_follows_keep_no_peer_out() {
    let config = Config::default().with_max_handshakes(8);
    let transport = whip().with_config(config).expect("a configuration");
    let listener = listen(&transport, "webrtc+http://127.0.0.1:0/a").await;
    let to = socket(&listener);
    let offered = transport_offer().await;
    let mut flood = JoinSet::new();
    for _ in 0..4 {
        let offer = offered.clone();
        flood.spawn(async move {
            for _ in 0..60 {
                let head = format!(
                    "POST /a HTTP/1.1\r\nHost: a\r\n{}: {}\r\nContent-Length: {}\r\n\r\n",
                    SDP.0,
                    SDP.1,
                    offer.len()
                );
                if let Ok(mut stream) = TcpStream::connect(to).await {
                    let _ = stream.write_all(format!("{head}{offer}").as_bytes()).await;
                    let answer = answer(&mut stream).await;
                    let is_known = |status| matches!(status, 201 | 503);
                    assert!(
                        answer.as_ref().is_none_or(|a| is_known(a.status)),
                        "{answer:?}"
                    );
                }
            }
        });
    }
    for _ in 0..3 {
        let (here, there) = connect(&transport, &listener).await;
        echo(&here, &there).await;
    }
    soon("the end of the flood", flood.join_all()).await;
    let (here, there) = connect(&transport, &listener).await;
    echo(&here, &there).await;
}

async fn transport_offer() -> String {
    let offered = soon("an offer", transport().offer_by_hand()).await;
    offered.expect("an offer").sdp()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_flood_of_patches_harms_only_its_own_negotiation() {
    let listener = listen(&whip(), "webrtc+http://127.0.0.1:0/a").await;
    let to = socket(&listener);
    let offered = soon("an offer", transport().offer_by_hand())
        .await
        .expect("an offer");
    let sdp = offered.sdp();
    let answer = request(to, "POST /a", &[SDP], &sdp).await;
    let resource = answer.header("location").expect("a resource").to_owned();
    let own: String = sdp
        .lines()
        .filter(|line| line.starts_with("a=ice-ufrag") || line.starts_with("a=ice-pwd"))
        .map(|line| format!("{line}\r\n"))
        .collect();
    let both = async { tokio::try_join!(offered.accept(&answer.body), listener.accept()) };
    let (here, there) = soon("a connection", both).await.expect("a connection");
    let candidates = "a=candidate:1 1 udp 1 127.0.0.1 9 typ host\r\n".repeat(200);
    let headers = [
        ("Content-Type", "application/trickle-ice-sdpfrag"),
        ("If-Match", "*"),
    ];
    for _ in 0..20 {
        let line = format!("PATCH {resource}");
        let answer = request(to, &line, &headers, &format!("{own}{candidates}")).await;
        assert!(matches!(answer.status, 204 | 409 | 429), "{answer:?}");
    }
    echo(&here, &there).await;
    let transport = whip();
    let addr = listener.local_addr();
    let both = async { tokio::try_join!(transport.dial(&addr), listener.accept()) };
    let (here, there) = soon("a connection", both).await.expect("a connection");
    echo(&here, &there).await;
}
