//! What a process holds that dials many times, one dial after another: both ends together.

use std::alloc::System;
use std::time::Duration;

use pipe_core::{Conn, Listener, Transport};
use pipe_quic::{QuicListener, QuicTransport};
use stats_alloc::{INSTRUMENTED_SYSTEM, StatsAlloc};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::time::timeout;

/// How many dials there are.
const DIALS: usize = 2000;

/// What may be held on the heap at any time, in bytes: the buffers of two sockets, and the connections that are over and
/// not drained yet.
const MOST_HEAP: usize = 24 * 1024 * 1024;

/// What may be resident at any time, in KiB.
const MOST_RESIDENT: usize = 40 * 1024;

#[global_allocator]
static HEAP: &StatsAlloc<System> = &INSTRUMENTED_SYSTEM;

fn held() -> usize {
    let stats = HEAP.stats();
    stats.bytes_allocated - stats.bytes_deallocated
}

/// The most that was resident so far, in KiB, where the system tells.
fn most_resident() -> Option<usize> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find(|line| line.starts_with("VmHWM:"))?;
    line.split_whitespace().nth(1)?.parse().ok()
}

/// The descriptors that are open, where the system tells.
fn descriptors() -> Option<usize> {
    Some(std::fs::read_dir("/proc/self/fd").ok()?.count())
}

/// Dials, passes a byte there and back, and drops everything.
async fn dial_once(transport: &QuicTransport, listener: &QuicListener) {
    let addr = listener.local_addr();
    let (here, there) = tokio::try_join!(transport.dial(&addr), listener.accept()).unwrap();
    let (mut near, mut far) = tokio::try_join!(here.open_stream(), there.accept_stream()).unwrap();
    near.write_u8(7).await.unwrap();
    let byte = far.read_u8().await.unwrap();
    far.write_u8(byte).await.unwrap();
    assert_eq!(near.read_u8().await.unwrap(), 7);
}

// The only test of this file: another would count against it.
#[tokio::test]
async fn many_dials_one_after_another_hold_little_memory_and_one_socket() {
    let transport = QuicTransport::new();
    let any = "quic://127.0.0.1:0".parse().unwrap();
    let listener = transport.listen(&any).await.unwrap();
    let before = descriptors();
    let mut most = (held(), descriptors());
    for _ in 0..DIALS {
        let dial = dial_once(&transport, &listener);
        timeout(Duration::from_secs(30), dial).await.unwrap();
        most = (most.0.max(held()), most.1.max(descriptors()));
    }
    let (heap, sockets) = most;
    assert!(heap <= MOST_HEAP, "{heap} bytes of heap");
    if let (Some(sockets), Some(before)) = (sockets, before) {
        // The dials' socket, and that of a probe.
        assert!(
            sockets <= before + 2,
            "{sockets} descriptors, {before} before"
        );
    }
    if let Some(resident) = most_resident() {
        eprintln!("{DIALS} dials: {heap} bytes of heap, {resident} KiB resident");
        assert!(resident <= MOST_RESIDENT, "{resident} KiB are resident");
    }
}
