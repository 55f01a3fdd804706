//! A peer that speaks well-formed yamux and `pipe/1`, in any order: after an honest handshake, any sequence of
//! frames and messages about a few streams, with small limits.
//!
//! The connection goes on, or ends with an error: it neither panics nor hangs, nor holds more than its windows
//! and a fixed cost. Time is paused: whatever waits for ever is seen at once, as a task that is left over.

#![no_main]

use std::alloc::System;
use std::time::Duration;

use bytes::BytesMut;
use libfuzzer_sys::arbitrary::{self, Arbitrary};
use libfuzzer_sys::fuzz_target;
use pipe_core::backend::proto::codec::binary;
use pipe_core::backend::proto::{Frame, Hello, PING_LEN, StreamFrame};
use pipe_core::{Config, Conn, Stream};
use pipe_mux::{Mux, MuxConn, MuxStream};
use stats_alloc::{INSTRUMENTED_SYSTEM, StatsAlloc};
use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream};
use tokio::runtime::Builder;
use tokio::time::{sleep, timeout};

#[global_allocator]
static HEAP: &StatsAlloc<System> = &INSTRUMENTED_SYSTEM;

/// Longer than every time limit of a connection together.
const LONG: Duration = Duration::from_secs(300);

const MAX_STREAMS: u32 = 4;
const STREAM_WINDOW: u32 = 4 * 1024;
const CONNECTION_WINDOW: u64 = 8 * 1024;

/// What both sides may hold while they play: the windows twice, buffers of a connection, and a few tasks.
const MAX_HEAP: usize = 1 << 20;

/// What is done at most, so that a run stays short.
const MAX_STEPS: usize = 512;

#[derive(Arbitrary, Debug)]
struct Play {
    /// What the application does with its streams, in turns.
    handlers: [Handler; 4],
    /// Whether the peer takes what it is sent from the start.
    reads: bool,
    /// The client opens streams of its own as well.
    opens: u8,
    /// Whether the peer offers small windows itself.
    small_windows: bool,
    steps: Vec<Step>,
}

#[derive(Arbitrary, Clone, Copy, Debug)]
enum Handler {
    Echo,
    Hold,
    Drop,
    Sink,
    Reset,
    Split,
}

/// A stream of the peer, or one of the side under test.
#[derive(Arbitrary, Clone, Copy, Debug)]
struct Which(u8);

impl Which {
    fn number(self) -> u32 {
        let nth = u32::from(self.0 % 12);
        if self.0 < 192 {
            3 + 2 * nth
        } else {
            2 + 2 * nth
        }
    }
}

#[derive(Arbitrary, Debug)]
enum Step {
    /// Opens a stream: the next one.
    Open {
        by_update: bool,
    },
    /// Opens a stream by its number, in order or not.
    OpenAt(Which),
    Data(Which, u16),
    Empty(Which),
    OneByteEach(Which, u8),
    Window(Which, u32),
    Ack(Which),
    Fin(Which),
    Rst(Which),
    MuxPing,
    GoAway(u8),
    Ping,
    Pong,
    End(Which, u16),
    /// The end of a stream as it should be, for what was sent on it.
    EndWell(Which),
    Reset(Which),
    Stop(Which),
    Done(Which),
    Taken(Which),
    Credit(Which, u32),
    Drain,
    Drained,
    Close,
    /// Lets the other side work, for so many milliseconds.
    Wait(u8),
    /// Takes from now on what it is sent, or does not.
    Reads(bool),
}

fuzz_target!(|play: Play| {
    let runtime = Builder::new_current_thread()
        .enable_time()
        .start_paused(true)
        .build()
        .expect("a runtime");
    runtime.block_on(async {
        let (near, far) = tokio::io::duplex(16 * 1024);
        let handlers = play.handlers;
        let opens = play.opens % 6;
        let peer = tokio::spawn(peer(near, play));
        timeout(LONG, server(far, handlers, opens))
            .await
            .expect("a server that ends");
        peer.abort();
        let _ = peer.await;
        // What the connection has spawned ends by itself.
        sleep(LONG).await;
    });
    assert_eq!(
        runtime.metrics().num_alive_tasks(),
        0,
        "a task is left over"
    );
});

fn held() -> usize {
    let stats = HEAP.stats();
    stats.bytes_allocated.wrapping_sub(stats.bytes_deallocated)
}

fn header(out: &mut Vec<u8>, kind: u8, flags: u16, stream: u32, length: u32) {
    out.extend([0, kind]);
    out.extend(flags.to_be_bytes());
    out.extend(stream.to_be_bytes());
    out.extend(length.to_be_bytes());
}

fn data(out: &mut Vec<u8>, flags: u16, stream: u32, body: &[u8]) {
    header(out, 0, flags, stream, body.len() as u32);
    out.extend(body);
}

fn control(out: &mut Vec<u8>, frame: &Frame) {
    let mut bytes = BytesMut::new();
    binary::encode(frame, &mut bytes);
    data(out, 0, 1, &bytes);
}

fn about(id: u64, frame: StreamFrame) -> Frame {
    Frame::Stream { id, frame }
}

const SYN: u16 = 1;
const ACK: u16 = 2;
const FIN: u16 = 4;
const RST: u16 = 8;

/// What the peer remembers.
#[derive(Default)]
struct Said {
    next: u32,
    bytes: std::collections::HashMap<u32, u64>,
}

impl Step {
    fn encode(&self, said: &mut Said, out: &mut Vec<u8>) {
        let send = |said: &mut Said, out: &mut Vec<u8>, stream: u32, len: usize| {
            *said.bytes.entry(stream).or_default() += len as u64;
            data(out, 0, stream, &vec![7; len]);
        };
        match *self {
            Self::Open { by_update } => {
                let stream = 3 + 2 * (said.next % 0x4000);
                said.next += 1;
                if by_update {
                    header(out, 1, SYN, stream, 0);
                } else {
                    data(out, SYN, stream, &[]);
                }
            }
            Self::OpenAt(which) => data(out, SYN, which.number(), &[]),
            Self::Data(which, len) => send(said, out, which.number(), usize::from(len) % 6000),
            Self::Empty(which) => data(out, 0, which.number(), &[]),
            Self::OneByteEach(which, count) => {
                for _ in 0..count {
                    send(said, out, which.number(), 1);
                }
            }
            Self::Window(which, bytes) => header(out, 1, 0, which.number(), bytes),
            Self::Ack(which) => header(out, 1, ACK, which.number(), 0),
            Self::Fin(which) => header(out, 0, FIN, which.number(), 0),
            Self::Rst(which) => header(out, 1, RST, which.number(), 0),
            Self::MuxPing => header(out, 2, SYN, 0, 9),
            Self::GoAway(code) => header(out, 3, 0, 0, u32::from(code % 3)),
            Self::Ping => control(out, &Frame::Ping([5; PING_LEN])),
            Self::Pong => control(out, &Frame::Pong([5; PING_LEN])),
            Self::End(which, bytes) => {
                let stream = which.number().into();
                control(out, &about(stream, StreamFrame::End(bytes.into())));
            }
            Self::EndWell(which) => {
                let number = which.number();
                let bytes = said.bytes.get(&number).copied().unwrap_or(0);
                control(out, &about(number.into(), StreamFrame::End(bytes)));
                header(out, 0, FIN, number, 0);
            }
            Self::Reset(which) => {
                let stream = which.number().into();
                control(out, &about(stream, StreamFrame::Reset(7)));
            }
            Self::Stop(which) => {
                let stream = which.number().into();
                control(out, &about(stream, StreamFrame::Stop(7)));
            }
            Self::Done(which) => control(out, &about(which.number().into(), StreamFrame::Done)),
            Self::Taken(which) => control(out, &about(which.number().into(), StreamFrame::Taken)),
            Self::Credit(which, bytes) => {
                let stream = which.number().into();
                control(out, &about(stream, StreamFrame::Credit(bytes)));
            }
            Self::Drain => control(out, &Frame::Drain),
            Self::Drained => control(out, &Frame::Drained { streams: 0 }),
            Self::Close => {
                let reason = "enough".to_owned();
                control(
                    out,
                    &Frame::Close {
                        code: 7,
                        messages: 0,
                        reason,
                    },
                );
            }
            Self::Wait(_) | Self::Reads(_) => {}
        }
    }
}

async fn peer(io: DuplexStream, play: Play) {
    let (mut from, mut to) = tokio::io::split(io);
    let (reads, mut reading) = tokio::sync::watch::channel(play.reads);
    let taking = async move {
        let mut taken = [0; 4096];
        while reading.wait_for(|reads| *reads).await.is_ok() {
            if !from.read(&mut taken).await.is_ok_and(|count| count > 0) {
                break;
            }
        }
        // The byte stream stays until the server has ended.
        sleep(4 * LONG).await;
    };
    let saying = async {
        let small = play.small_windows;
        let mut out = Vec::new();
        data(&mut out, SYN, 1, &[]);
        control(
            &mut out,
            &Frame::Hello(Hello {
                max_streams: MAX_STREAMS,
                stream_window: if small { 100 } else { 1 << 18 },
                connection_window: if small { 300 } else { 0 },
                flight: 0,
                takes_growth: false,
            }),
        );
        let mut said = Said::default();
        let before = held();
        for step in play.steps.iter().take(MAX_STEPS) {
            step.encode(&mut said, &mut out);
            match *step {
                Step::Reads(now) => {
                    let _ = reads.send(now);
                }
                Step::Wait(millis) => sleep(Duration::from_millis(millis.into())).await,
                _ => {}
            }
            if timeout(LONG, to.write_all(&out)).await.is_err() {
                return;
            }
            out.clear();
            tokio::task::yield_now().await;
            let grown = held().saturating_sub(before);
            assert!(grown <= MAX_HEAP, "{grown} bytes are held");
        }
        sleep(4 * LONG).await;
    };
    tokio::join!(taking, saying);
}

async fn server(io: DuplexStream, handlers: [Handler; 4], opens: u8) {
    let config = Config::default()
        .with_max_streams(MAX_STREAMS)
        .with_stream_window(STREAM_WINDOW)
        .with_connection_window(CONNECTION_WINDOW);
    let Ok(conn) = Mux::builder().config(config).server(io).await else {
        return;
    };
    let accepting = tokio::spawn(accept(conn.clone(), handlers));
    for n in 0..opens {
        let conn = conn.clone();
        let handler = handlers[usize::from(n) % handlers.len()];
        tokio::spawn(async move {
            if let Ok(mut stream) = conn.open_stream().await {
                let _ = stream.write_all(&[b'e'; 600]).await;
                handle(stream, handler, conn).await;
            }
        });
    }
    if timeout(LONG / 4, conn.closed()).await.is_err() {
        conn.close(1, "enough");
        conn.closed().await;
    }
    assert!(conn.open_stream().await.is_err());
    let _ = accepting.await;
}

async fn accept(conn: MuxConn, handlers: [Handler; 4]) {
    let mut next = handlers.iter().copied().cycle();
    while let Ok(stream) = conn.accept_stream().await {
        let handler = next.next().unwrap_or(Handler::Drop);
        tokio::spawn(handle(stream, handler, conn.clone()));
    }
}

async fn handle(mut stream: MuxStream, handler: Handler, conn: MuxConn) {
    match handler {
        Handler::Echo => {
            let (mut from, mut to) = tokio::io::split(stream);
            let _ = tokio::io::copy(&mut from, &mut to).await;
            let _ = to.shutdown().await;
        }
        Handler::Hold => {
            conn.closed().await;
            // It learns of the end by itself as well.
            let mut rest = Vec::new();
            let _ = stream.read_to_end(&mut rest).await;
        }
        Handler::Drop => drop(stream),
        Handler::Sink => {
            let mut bytes = [0; 100];
            while stream.read(&mut bytes).await.is_ok_and(|count| count > 0) {}
        }
        Handler::Reset => {
            let _ = stream.read(&mut [0; 1]).await;
            stream.reset(3);
            stream.stop(4);
            let _ = stream.read(&mut [0; 1]).await;
        }
        Handler::Split => {
            let (mut send, mut recv) = stream.into_split();
            let _ = send.write_all(b"hello").await;
            drop(send);
            let _ = recv.read(&mut [0; 16]).await;
        }
    }
}
