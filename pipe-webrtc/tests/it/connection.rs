//! Connections between two sides in this process.

use std::time::{Duration, Instant};

use pipe_core::{CloseReason, Conn, ErrorKind, Listener, Stream, Transport};
use pipe_inproc::InprocTransport;
use pipe_webrtc::{MemorySignaling, WebRtcConn, WebRtcTransport};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::time::timeout;

/// Far above what is usual, for a machine that is busy.
const LIMIT: Duration = Duration::from_secs(20);

fn transport() -> WebRtcTransport<InprocTransport> {
    WebRtcTransport::new(InprocTransport::new())
}

async fn pair() -> (WebRtcConn, WebRtcConn) {
    let transport = transport();
    let (here, there) = MemorySignaling::pair();
    let both = async { tokio::join!(transport.offer_over(here), transport.answer_over(there)) };
    let (here, there) = timeout(LIMIT, both).await.expect("a connection");
    (here.expect("the offerer's"), there.expect("the answerer's"))
}

async fn streams(
    here: &WebRtcConn,
    there: &WebRtcConn,
) -> (pipe_webrtc::WebRtcStream, pipe_webrtc::WebRtcStream) {
    let both = async { tokio::join!(here.open_stream(), there.accept_stream()) };
    let (here, there) = timeout(LIMIT, both).await.expect("a stream");
    (here.expect("an open"), there.expect("an accept"))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn bytes_go_both_ways_and_end() {
    let (here, there) = pair().await;
    for (opener, acceptor) in [(&here, &there), (&there, &here)] {
        let (mut opened, mut accepted) = streams(opener, acceptor).await;
        assert_eq!(opened.id(), accepted.id());
        let exchange = async {
            opened.write_all(b"question").await.unwrap();
            opened.shutdown().await.unwrap();
            let mut text = String::new();
            accepted.read_to_string(&mut text).await.unwrap();
            assert_eq!(text, "question");
            accepted.write_all(b"answer").await.unwrap();
            accepted.shutdown().await.unwrap();
            text.clear();
            opened.read_to_string(&mut text).await.unwrap();
            assert_eq!(text, "answer");
        };
        timeout(LIMIT, exchange).await.expect("an exchange");
    }
    assert!(here.ping().await.unwrap() > Duration::ZERO);
    here.close(5, "bye");
    let reason = timeout(LIMIT, there.closed()).await.expect("a close");
    let CloseReason::Remote { code: 5, reason } = reason else {
        panic!("closed as {reason:?}")
    };
    assert_eq!(&*reason, "bye");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_connection_is_made_within_a_moment() {
    let transport = transport();
    let listener = transport
        .listen(&"webrtc+inproc://".parse().unwrap())
        .await
        .unwrap();
    let addr = listener.local_addr();
    let mut times = Vec::new();
    for _ in 0..20 {
        let start = Instant::now();
        let (here, there) = tokio::try_join!(transport.dial(&addr), listener.accept()).unwrap();
        let made = start.elapsed();
        let (mut opened, mut accepted) = streams(&here, &there).await;
        opened.write_u8(1).await.unwrap();
        accepted.read_u8().await.unwrap();
        times.push((start.elapsed(), made));
    }
    times.sort();
    println!("times to connect: {times:?}");
    let median = times[10].0;
    // The engine by itself takes 600 ms.
    assert!(median < Duration::from_millis(300), "{median:?}");
}

#[tokio::test]
async fn an_address_of_another_scheme_is_refused() {
    let transport = transport();
    for addr in ["inproc://x", "webrtc+tcp://127.0.0.1:1"] {
        let error = transport.dial(&addr.parse().unwrap()).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::AddrUnsupported);
    }
}
