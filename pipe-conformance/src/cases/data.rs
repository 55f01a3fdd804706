use std::collections::HashSet;
use std::io::IoSlice;
use std::sync::Arc;

use bytes::Bytes;
use futures::FutureExt;
use pipe_core::{BoxConn, BoxStream, Conn, RecvStream, SendStream, Stream, Transport};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::task::JoinSet;

use crate::case::{Case, case};
use crate::env::Env;
use crate::payload::{expect_all, expect_bytes, expect_end, expect_equal, send, send_all};
use crate::waits::Named;

pub(crate) fn cases() -> Vec<Case> {
    vec![
        case!(small_writes_arrive_whole),
        case!(a_counter_goes_to_and_fro).weight(2),
        case!(reads_smaller_than_writes_keep_the_order),
        case!(writes_of_every_size_arrive),
        case!(an_empty_write_is_invisible),
        case!(an_empty_read_is_not_the_end),
        case!(many_bytes_in_both_directions_at_once).weight(6),
        case!(a_hundred_streams_do_not_mix).weight(2).many_streams(),
        case!(a_vectored_write_is_the_sum_of_its_parts),
        case!(chunks_carry_the_same_bytes),
        case!(the_acceptor_may_write_first),
        case!(a_stream_is_visible_before_its_first_write),
        case!(both_ends_know_a_stream_by_one_number),
        case!(streams_are_accepted_in_their_order),
        case!(streams_opened_by_both_sides_do_not_collide)
            .once()
            .many_streams(),
    ]
}

async fn small_writes_arrive_whole(env: Env) {
    let pair = env.pair().await;
    let (mut sender, mut receiver) = pair.stream().await;
    let data = env.payload(1 << 20);
    let write = async {
        for part in data.chunks(1024) {
            send(&mut sender, part).await;
        }
        sender.shutdown().expect_ok("a shutdown").await;
    };
    tokio::join!(write, expect_all(&mut receiver, &data));
}

pub(super) async fn a_counter_goes_to_and_fro<T: Transport>(env: Env<T>) {
    const LAST: u32 = 1000;
    let pair = env.pair().await;
    let (mut here, mut there) = pair.stream().await;
    let answer = tokio::spawn(async move {
        for i in 0..LAST {
            assert_eq!(there.read_u32().expect_ok("a number").await, i);
            there.write_u32(i).expect_ok("its answer").await;
            there.flush().expect_ok("a flush").await;
        }
        there
    });
    for i in 0..LAST {
        here.write_u32(i).expect_ok("a number").await;
        here.flush().expect_ok("a flush").await;
        assert_eq!(here.read_u32().expect_ok("its answer").await, i);
    }
    answer.expect_ok("the answers").await;
}

async fn reads_smaller_than_writes_keep_the_order(env: Env) {
    let pair = env.pair().await;
    let (mut sender, mut receiver) = pair.stream().await;
    let data = env.payload(4000);
    let write = async {
        for two in data.chunks(2) {
            send(&mut sender, two).await;
        }
        sender.shutdown().expect_ok("a shutdown").await;
    };
    let read = async {
        for (i, &expected) in data.iter().enumerate() {
            let got = receiver.read_u8().expect_ok("a byte").await;
            assert_eq!(got, expected, "byte {i} differs from what was sent");
        }
        expect_end(&mut receiver).await;
    };
    tokio::join!(write, read);
}

async fn writes_of_every_size_arrive(env: Env) {
    const SIZES: [usize; 12] = [
        0, 1, 1199, 1200, 1201, 16_383, 16_384, 16_385, 65_535, 65_536, 65_537, 1_048_576,
    ];
    let pair = env.pair().await;
    let data = env.payload(1 << 20);
    for size in SIZES {
        let (mut sender, mut receiver) = pair.stream().await;
        tokio::join!(
            send_all(&mut sender, &data[..size]),
            expect_all(&mut receiver, &data[..size])
        );
    }
    let (mut sender, mut receiver) = pair.stream().await;
    let write = async {
        for size in SIZES {
            send(&mut sender, &data[..size]).await;
        }
        sender.shutdown().expect_ok("a shutdown").await;
    };
    let read = async {
        for size in SIZES {
            expect_bytes(&mut receiver, &data[..size]).await;
        }
        expect_end(&mut receiver).await;
    };
    tokio::join!(write, read);
}

async fn an_empty_write_is_invisible(env: Env) {
    let pair = env.pair().await;
    let (mut sender, mut receiver) = pair.stream().await;
    let mut buf = [0; 16];
    for i in 0..3 {
        let written = env.soon("an empty write", sender.write(&[])).await;
        assert_eq!(written.expect("an empty write"), 0);
        sender.flush().expect_ok("a flush").await;
        // Whatever the empty write sent would arrive before this byte.
        send(&mut sender, &[i]).await;
        let n = env
            .soon("the read of a byte", receiver.read(&mut buf))
            .await;
        assert_eq!(n.expect("the byte after an empty write"), 1);
        assert_eq!(buf[0], i);
    }
    let written = env.soon("an empty write", sender.write(&[])).await;
    assert_eq!(written.expect("an empty write"), 0);
    sender.shutdown().expect_ok("a shutdown").await;
    expect_end(&mut receiver).await;
}

async fn an_empty_read_is_not_the_end(env: Env) {
    let pair = env.pair().await;
    let (mut sender, mut receiver) = pair.stream().await;
    let data = env.payload(1000);
    let read_nothing = async |receiver: &mut BoxStream| {
        for _ in 0..2 {
            let n = env.soon("an empty read", receiver.read(&mut [])).await;
            assert_eq!(n.expect("an empty read"), 0);
        }
    };

    read_nothing(&mut receiver).await;
    send_all(&mut sender, &data).await;
    read_nothing(&mut receiver).await;
    expect_bytes(&mut receiver, &data[..500]).await;
    read_nothing(&mut receiver).await;
    expect_all(&mut receiver, &data[500..]).await;
    read_nothing(&mut receiver).await;
}

async fn many_bytes_in_both_directions_at_once(env: Env) {
    const LEN: usize = 32 << 20;
    let pair = env.pair().await;
    let (here, there) = pair.stream().await;
    let data = Arc::new(env.payload(LEN));
    // The two directions carry the halves of one payload in different orders.
    let first_half_first = [0..LEN / 2, LEN / 2..LEN];
    let second_half_first = [LEN / 2..LEN, 0..LEN / 2];

    let mut ends = JoinSet::new();
    for (end, sends, expects) in [
        (here, first_half_first.clone(), second_half_first.clone()),
        (there, second_half_first, first_half_first),
    ] {
        let (mut sender, mut receiver) = end.into_split();
        let (to_send, to_expect) = (data.clone(), data.clone());
        ends.spawn(async move {
            for half in sends {
                send(&mut sender, &to_send[half]).await;
            }
            sender.shutdown().expect_ok("a shutdown").await;
        });
        ends.spawn(async move {
            for half in expects {
                expect_bytes(&mut receiver, &to_expect[half]).await;
            }
            expect_end(&mut receiver).await;
        });
    }
    ends.join_all().named("the transfers").await;
}

async fn a_hundred_streams_do_not_mix(env: Env) {
    const STREAMS: u32 = 100;
    let pair = env.pair().await;
    let mut ends = JoinSet::new();
    for i in 0..STREAMS {
        ends.spawn(ask(env.clone(), pair.opener.clone(), i));
        ends.spawn(answer(env.clone(), pair.acceptor.clone(), STREAMS));
    }
    ends.join_all().named("the transfers").await;
}

/// Opens a stream that says its number, sends the request of the number, and gets the answer.
async fn ask(env: Env, conn: BoxConn, number: u32) {
    let mut stream = conn.open_stream().expect_ok("a stream").await;
    stream.write_u32(number).expect_ok("the number").await;
    send_all(&mut stream, &request(&env, number)).await;
    expect_all(&mut stream, &reply(&env, number)).await;
}

/// Accepts a stream and answers the request of its number.
async fn answer(env: Env, conn: BoxConn, numbers: u32) {
    let mut stream = conn.accept_stream().expect_ok("a stream").await;
    let number = stream.read_u32().expect_ok("its number").await;
    assert!(number < numbers, "the stream says it is number {number}");
    expect_all(&mut stream, &request(&env, number)).await;
    send_all(&mut stream, &reply(&env, number)).await;
}

fn request(env: &Env, number: u32) -> Vec<u8> {
    env.payload_of(u64::from(number) * 2, 30_000 + 101 * number as usize)
}

fn reply(env: &Env, number: u32) -> Vec<u8> {
    env.payload_of(u64::from(number) * 2 + 1, 40_000 - 101 * number as usize)
}

pub(super) async fn a_vectored_write_is_the_sum_of_its_parts<T: Transport>(env: Env<T>) {
    const PARTS: [usize; 9] = [1, 0, 1000, 16_384, 0, 0, 70_000, 3, 300_000];
    let pair = env.pair().await;
    let (mut sender, mut receiver) = pair.stream().await;
    let data = env.payload(PARTS.iter().sum());
    let write = async {
        let mut rest = data.as_slice();
        let mut parts = Vec::new();
        for len in PARTS {
            let (part, after) = rest.split_at(len);
            parts.push(IoSlice::new(part));
            rest = after;
        }
        let mut parts = parts.as_mut_slice();
        let mut left = data.len();
        while left > 0 {
            let n = sender.write_vectored(parts).expect_ok("a write").await;
            assert!(n > 0 && n <= left, "a write of {left} bytes took {n}");
            left -= n;
            IoSlice::advance_slices(&mut parts, n);
        }
        sender.shutdown().expect_ok("a shutdown").await;
    };
    tokio::join!(write, expect_all(&mut receiver, &data));
}

async fn chunks_carry_the_same_bytes(env: Env) {
    const CHUNKS: [usize; 8] = [1, 0, 1000, 40_000, 3, 150_000, 16_384, 90_000];
    const READS: [usize; 5] = [7, 70_000, 1, 5000, usize::MAX];
    let pair = env.pair().await;
    let (sender, receiver) = pair.stream().await;
    let (mut sender, _back) = sender.into_split();
    let (_forth, mut receiver) = receiver.into_split();
    let data = Bytes::from(env.payload(CHUNKS.iter().sum()));
    let write = async {
        let mut rest = data.clone();
        for len in CHUNKS {
            let chunk = rest.split_to(len);
            sender.write_chunk(chunk).expect_ok("a write").await;
        }
        sender.shutdown().expect_ok("a shutdown").await;
    };
    let read = async {
        let mut at = 0;
        for max in READS.into_iter().cycle() {
            let chunk = receiver.read_chunk(max).expect_ok("a read").await;
            let Some(chunk) = chunk else { break };
            let len = chunk.len();
            assert!(len > 0 && len <= max, "a chunk of {len} bytes of {max}");
            expect_equal(&chunk, &data[at..data.len().min(at + len)], at);
            at += len;
            // Reads of both kinds give one sequence of bytes.
            if at < data.len() {
                let byte = receiver.read_u8().expect_ok("a read").await;
                expect_equal(&[byte], &data[at..=at], at);
                at += 1;
            }
        }
        assert_eq!(at, data.len(), "the stream ended early");
        let end = receiver.read_chunk(1).expect_ok("a read").await;
        assert_eq!(end, None, "a chunk behind the end");
        let none = receiver.read_chunk(0).await;
        assert!(none.is_ok(), "an empty read behind the end: {none:?}");
    };
    tokio::join!(write, read);
}

async fn the_acceptor_may_write_first(env: Env) {
    let pair = env.pair().await;
    let (mut opened, mut accepted) = pair.stream().await;
    let data = env.payload(50_000);
    let write = send_all(&mut accepted, &data);
    let read = env.soon(
        "the acceptor's first bytes",
        expect_bytes(&mut opened, &data[..1]),
    );
    tokio::join!(write, read);
    expect_all(&mut opened, &data[1..]).await;
}

async fn a_stream_is_visible_before_its_first_write(env: Env) {
    let pair = env.pair().await;
    // To one who comes later.
    let opened = pair.opener.open_stream().expect_ok("a stream").await;
    let accept = pair.acceptor.accept_stream();
    let accepted = env.soon("the accept of a silent stream", accept).await;
    assert_eq!(accepted.expect("a silent stream").id(), opened.id());

    // To one who waits: the accept is polled first.
    let accept = pair.acceptor.accept_stream();
    let accept = env.soon("the accept of a silent stream", accept);
    let (accepted, opened) = tokio::join!(biased; accept, pair.opener.open_stream());
    let (accepted, opened) = (
        accepted.expect("a silent stream"),
        opened.expect("a stream"),
    );
    assert_eq!(accepted.id(), opened.id());
}

async fn both_ends_know_a_stream_by_one_number(env: Env) {
    const STREAMS: usize = 60;
    let pair = env.pair().await;
    let mut kept = Vec::new();
    let mut seen = HashSet::new();
    for i in 0..STREAMS {
        let (opened, accepted) = pair.stream().await;
        let id = opened.id();
        assert_eq!(accepted.id(), id, "the ends of stream {i} differ");
        assert!(
            seen.insert(id),
            "stream {i} has the number of another, {id}"
        );
        // Two of three streams end: a number is not used again after its stream.
        if i % 3 == 0 {
            let (send_half, recv_half) = opened.into_split();
            assert_eq!((send_half.id(), recv_half.id()), (id, id));
            kept.push((send_half, recv_half, accepted));
        }
    }
}

async fn streams_are_accepted_in_their_order(env: Env) {
    const STREAMS: usize = 20;
    let pair = env.pair().await;
    let mut opened = Vec::new();
    for _ in 0..STREAMS {
        opened.push(pair.opener.open_stream().expect_ok("a stream").await);
    }
    let ids: Vec<u64> = opened.iter().map(Stream::id).collect();
    for (i, id) in ids.into_iter().enumerate() {
        let accept = env.soon("an accept", pair.acceptor.accept_stream()).await;
        let accepted = accept.expect("an accept");
        assert_eq!(accepted.id(), id, "stream {i} is not the next");
    }
}

async fn streams_opened_by_both_sides_do_not_collide(env: Env) {
    const STREAMS: usize = 50;
    let pair = env.pair().await;
    let mut openers = JoinSet::new();
    let mut acceptors = JoinSet::new();
    let sides = [
        (&pair.opener, &pair.acceptor),
        (&pair.acceptor, &pair.opener),
    ];
    for (side, (opener, acceptor)) in (0_u8..).zip(sides) {
        for _ in 0..STREAMS {
            let opener = opener.clone();
            openers.spawn(async move {
                let mut stream = opener.open_stream().expect_ok("a stream").await;
                stream.write_u8(side).expect_ok("the opener's side").await;
                stream.write_u64(stream.id()).expect_ok("its number").await;
                stream.shutdown().expect_ok("a shutdown").await;
                stream
            });
            let acceptor = acceptor.clone();
            acceptors.spawn(async move {
                let mut stream = acceptor.accept_stream().expect_ok("a stream").await;
                assert_eq!(stream.read_u8().expect_ok("the opener's side").await, side);
                let id = stream.read_u64().expect_ok("its number").await;
                assert_eq!(id, stream.id());
                expect_end(&mut stream).await;
                stream
            });
        }
    }
    let (opened, accepted) = tokio::join!(openers.join_all(), acceptors.join_all());
    for streams in [opened, accepted] {
        let ids: HashSet<u64> = streams.iter().map(Stream::id).collect();
        assert_eq!(ids.len(), 2 * STREAMS, "streams share numbers");
    }
    for conn in [&pair.opener, &pair.acceptor] {
        assert!(
            conn.accept_stream().now_or_never().is_none(),
            "a stream too many was accepted"
        );
    }
}
