//! What happens on a connection to a stack of another make.

use std::collections::{HashMap, HashSet};
use std::time::Duration;

use bytes::Bytes;
use futures::future::join_all;
use pipewerks::prelude::*;
use pipewerks::webrtc::{Message, WebRtcStream};
use pipewerks::{CloseReason, Error, ErrorKind};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::Stage;
use crate::interop::tools::hash;

/// How long a message on a channel is, in bytes.
const MESSAGE: usize = 16_000;

/// How many of them go each way.
const MESSAGES: usize = 50;

/// How many channels each side opens at a time.
const CHANNELS: usize = 50;

/// Random bytes, and the hash of them.
fn payload() -> (Vec<u8>, String) {
    let mut bytes = vec![0; MESSAGES * MESSAGE];
    fastrand::fill(&mut bytes);
    let hash = hash(&bytes);
    (bytes, hash)
}

/// Both sides ping at once: each gets its own 64 bytes back.
pub(super) async fn pings(stage: Stage) {
    for _ in 0..3 {
        let (time, words) = tokio::join!(stage.conn.ping(), stage.peer.tell("ping"));
        assert!(time.expect("a ping") > Duration::ZERO);
        let [sent, back] = &words[..] else {
            panic!("a ping of {words:?}");
        };
        assert_eq!(sent.len(), 2 * 64);
        assert_eq!(sent, back);
        assert_eq!(stage.peer.word("echoed").await, "64");
    }
}

/// What this side sends comes back, and the peer sees this side's close.
pub(super) async fn our_channel(stage: Stage) {
    let (stream, number) = stage.opened("ours").await;
    let (sent, _) = payload();
    let (mut send, mut receive) = stream.into_split();
    let write = async {
        for message in sent.chunks(MESSAGE) {
            send.write_all(message).await.expect("a write");
        }
    };
    let mut back = vec![0; sent.len()];
    let echo = format!("echo {number} {}", sent.len());
    let ((), echoed, read) =
        tokio::join!(write, stage.peer.tell(&echo), receive.read_exact(&mut back));
    assert!(echoed.is_empty());
    read.expect("the echo");
    assert_eq!(hash(&back), hash(&sent));

    send.shutdown().await.expect("a shutdown");
    drop((send, receive));
    stage.peer.tell(&format!("closed {number}")).await;

    stage.lives().await;
    stage.opened("more").await;
}

/// What the peer sends comes back to it, and this side sees its close.
pub(super) async fn its_channel(stage: Stage) {
    let (mut stream, number) = stage.accepted("theirs").await;
    let len = MESSAGES * MESSAGE;
    let send = format!("send {number} {MESSAGES} {MESSAGE}");
    let echo = async {
        let mut bytes = vec![0; len];
        stream.read_exact(&mut bytes).await.expect("its bytes");
        stream.write_all(&bytes).await.expect("an echo");
        bytes
    };
    let receive = format!("receive {number} {len}");
    let (sent, bytes, received) =
        tokio::join!(stage.peer.word(&send), echo, stage.peer.word(&receive));
    assert_eq!(hash(&bytes), sent);
    assert_eq!(received, sent);

    let close = format!("close {number}");
    let mut rest = Vec::new();
    let (_, read) = tokio::join!(stage.peer.tell(&close), stream.read_to_end(&mut rest));
    read.expect("the end");
    assert!(rest.is_empty());
    drop(stream);

    stage.lives().await;
    stage.accepted("more").await;
}

pub(super) async fn our_close(stage: Stage) {
    let (mut stream, number) = stage.opened("ours").await;
    stream.write_all(b"last words").await.expect("a write");
    stage.conn.close(5, "enough");
    let receive = format!("receive {number} 10");
    assert_eq!(stage.peer.word(&receive).await, hash(b"last words"));
    stage.peer.tell("ended").await;
    let CloseReason::Local { code, reason } = stage.conn.closed().await else {
        panic!("this side has closed it");
    };
    assert_eq!((code, &*reason), (5, "enough"));
}

pub(super) async fn its_close(stage: Stage) {
    let (mut stream, _) = stage.accepted("theirs").await;
    stage.peer.tell("end").await;
    // It has no code and no reason on this wire.
    let CloseReason::Remote { code, reason } = stage.conn.closed().await else {
        panic!("the peer has closed it");
    };
    assert_eq!((code, &*reason), (0, ""));
    let error = stage.conn.open_stream().await.expect_err("the end");
    assert_eq!(error.kind(), ErrorKind::Closed);
    // A channel may end by itself before the connection does.
    if let Err(error) = stream.read_to_end(&mut Vec::new()).await {
        assert_eq!(Error::from(error).kind(), ErrorKind::Closed);
    }
}

/// Whole messages arrive whole in both directions, up to the largest that the peer takes.
pub(super) async fn messages(stage: Stage) {
    let largest = stage.make.largest;
    let mut sizes = vec![
        1,
        1_150,
        1_200,
        MESSAGE,
        16 * 1024,
        65_535,
        largest - 1,
        largest,
    ];
    if stage.make.empty {
        sizes.insert(1, 0);
    }
    let (mut ours, ours_number) = stage.opened("ours").await;
    let (mut theirs, theirs_number) = stage.accepted("theirs").await;
    for (stream, number) in [(&mut ours, ours_number), (&mut theirs, theirs_number)] {
        let messages: Vec<_> = sizes.iter().map(|size| random(*size)).collect();
        let sum: usize = sizes.iter().sum();
        let echo = format!("echo {number} {sum}");
        let exchange = async {
            for message in &messages {
                let message = Message::Binary(message.clone());
                stream.send_message(message).await.expect("a message");
            }
            for message in &messages {
                let back = stream.receive_message().await.expect("an echo");
                let same = back == Some(Message::Binary(message.clone()));
                assert!(same, "a message of {} bytes", message.len());
            }
        };
        tokio::join!(stage.peer.tell(&echo), exchange);
    }
}

/// Many channels of both sides carry messages at a time, and all close.
pub(super) async fn many_channels(stage: Stage) {
    let stage = &stage;
    let labels: Vec<_> = (0..CHANNELS)
        .map(|number| format!("ours-{number}"))
        .collect();
    let open = labels
        .iter()
        .map(|label| stage.conn.open_channel(label, "", true));
    let accept = (0..CHANNELS).map(|_| stage.peer.tell("accept"));
    let (opened, accepted) = tokio::join!(join_all(open), join_all(accept));
    let numbers = accepted.iter().map(|words| (&*words[1], &*words[0]));
    let numbers: HashMap<_, _> = numbers.collect();
    let ours = labels
        .iter()
        .zip(opened)
        .map(|(label, stream)| (stream.expect("a channel"), numbers[&**label].to_owned()));

    let accept = async {
        let mut streams = Vec::new();
        for _ in 0..CHANNELS {
            streams.push(stage.conn.accept_stream().await.expect("its channel"));
        }
        streams
    };
    let labels: Vec<_> = (0..CHANNELS)
        .map(|number| format!("theirs-{number}"))
        .collect();
    let open = labels.iter().map(|label| async move {
        (
            label.clone(),
            stage.peer.word(&format!("open {label}")).await,
        )
    });
    let (accepted, opened) = tokio::join!(accept, join_all(open));
    let numbers: HashMap<_, _> = opened.into_iter().collect();
    let theirs = accepted.into_iter().map(|stream| {
        let label = stream
            .channel_info()
            .expect("what it was opened with")
            .label;
        let number = numbers[&label].clone();
        (stream, number)
    });

    let all = ours.chain(theirs).map(|(mut stream, number)| async move {
        exchange(stage, &mut stream, &number).await;
        close(stage, stream, &number).await;
    });
    join_all(all).await;
    stage.lives().await;
}

/// The id of a channel that was closed is used again, and nothing of the last channel is left on it.
pub(super) async fn ids_again(stage: Stage) {
    let mut seen = HashSet::new();
    // The peer may tell its close before it sends the reset of its side, until which the id is taken.
    for round in 0.. {
        let label = format!("ours-{round}");
        let (mut stream, number) = stage.opened(&label).await;
        exchange(&stage, &mut stream, &number).await;
        close(&stage, stream, &number).await;
        let is_used_again = !seen.insert(number) || !stage.make.ids;
        if is_used_again && round >= 5 {
            break;
        }
    }
    // Which ids the peer uses is up to it.
    for round in 0..10 {
        let label = format!("theirs-{round}");
        let (mut stream, number) = stage.accepted(&label).await;
        exchange(&stage, &mut stream, &number).await;
        let shut = format!("close {number}");
        let mut rest = Vec::new();
        let (_, read) = tokio::join!(stage.peer.tell(&shut), stream.read_to_end(&mut rest));
        read.expect("the end");
        assert!(rest.is_empty());
    }
    stage.lives().await;
}

/// Sends a message each way.
pub(super) async fn exchange(stage: &Stage, stream: &mut WebRtcStream, number: &str) {
    let message = random(1_000);
    stream.write_all(&message).await.expect("a write");
    let receive = format!("receive {number} 1000");
    assert_eq!(stage.peer.word(&receive).await, hash(&message));
    let mut back = [0; 2_000];
    let send = format!("send {number} 2 1000");
    let (sent, read) = tokio::join!(stage.peer.word(&send), stream.read_exact(&mut back));
    read.expect("its messages");
    assert_eq!(hash(&back), sent);
}

/// Closes a channel, and waits until the peer has seen it.
async fn close(stage: &Stage, mut stream: WebRtcStream, number: &str) {
    stream.shutdown().await.expect("a shutdown");
    drop(stream);
    stage.peer.tell(&format!("closed {number}")).await;
}

fn random(size: usize) -> Bytes {
    let mut bytes = vec![0; size];
    fastrand::fill(&mut bytes);
    bytes.into()
}
