use super::*;
use crate::yamux::frame::{DATA, HEADER};

/// Takes bytes up to a limit.
#[derive(Clone, Default)]
struct Sink(Arc<Mutex<Taken>>);

#[derive(Default)]
struct Taken {
    bytes: Vec<u8>,
    limit: usize,
    writes: usize,
    /// What was taken does not leave.
    is_stuck: bool,
}

impl AsyncWrite for Sink {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        self.poll_write_vectored(cx, &[IoSlice::new(buf)])
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        _: &mut Context<'_>,
        bufs: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let mut taken = self.0.lock();
        let before = taken.bytes.len();
        let room = taken.limit - before;
        for piece in first_bytes(bufs, room) {
            taken.bytes.extend_from_slice(piece);
        }
        taken.writes += 1;
        match taken.bytes.len() - before {
            0 => Poll::Pending,
            count => Poll::Ready(Ok(count)),
        }
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        if self.0.lock().is_stuck {
            return Poll::Pending;
        }
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}

/// Sends the first `length` bytes of the buffers as one frame over a byte stream that takes `limit` bytes at first,
/// and then the rest. Returns the frame, its bytes, and how many were sent at once in how many writes.
fn send(bufs: &[Vec<u8>], length: usize, limit: usize) -> (Vec<u8>, Vec<u8>, usize, usize) {
    let sink = Sink::default();
    sink.0.lock().limit = limit;
    let output = Output::new(Box::new(sink.clone()), DriverWaker::new());
    let header = Header {
        kind: DATA,
        flags: 0,
        stream: 3,
        length: length as u32,
    };
    let slices: Vec<_> = bufs.iter().map(|buf| IoSlice::new(buf)).collect();
    let cx = &mut Context::from_waker(Waker::noop());
    assert!(matches!(
        output.poll_data(header, &slices, cx),
        Poll::Ready(Ok(()))
    ));
    let (at_once, writes) = {
        let mut taken = sink.0.lock();
        taken.limit = usize::MAX;
        (taken.bytes.len(), taken.writes)
    };
    assert!(matches!(output.poll_flush(cx), Poll::Ready(Ok(()))));
    let mut frame = header.encode().to_vec();
    frame.extend_from_slice(&bufs.concat()[..length]);
    let taken = std::mem::take(&mut sink.0.lock().bytes);
    (frame, taken, at_once, writes)
}

fn bufs(lens: &[usize]) -> Vec<Vec<u8>> {
    let lens = lens.iter().enumerate();
    lens.map(|(i, &len)| vec![i as u8 + 1; len]).collect()
}

#[test]
fn a_byte_stream_that_keeps_what_it_took_gets_no_more() {
    let sink = Sink::default();
    let taken = || sink.0.lock().bytes.len();
    (sink.0.lock().limit, sink.0.lock().is_stuck) = (usize::MAX, true);
    let output = Output::new(Box::new(sink.clone()), DriverWaker::new());
    let cx = &mut Context::from_waker(Waker::noop());
    let mut send = |length: usize| {
        let header = Header {
            kind: DATA,
            flags: 0,
            stream: 3,
            length: length as u32,
        };
        let body = vec![1; length];
        let put = output.poll_data(header, &[IoSlice::new(&body)], cx);
        assert!(matches!(put, Poll::Ready(Ok(()))));
        output.poll_flush(cx).is_ready()
    };
    assert!(!send(10));
    assert_eq!(taken(), HEADER + 10);
    assert!(!send(20));
    assert!(!send(DIRECT));
    assert_eq!(taken(), HEADER + 10);
    sink.0.lock().is_stuck = false;
    assert!(send(30));
    assert_eq!(taken(), 4 * HEADER + 60 + DIRECT);
}

/// A task that writes frames, and counts its wake-ups.
struct Task {
    wakes: Arc<AtomicUsize>,
    waker: Waker,
}

impl Task {
    fn new() -> Self {
        struct Count(Arc<AtomicUsize>);
        impl std::task::Wake for Count {
            fn wake(self: Arc<Self>) {
                self.0.fetch_add(1, Ordering::Relaxed);
            }
        }
        let wakes = Arc::new(AtomicUsize::new(0));
        let waker = Arc::new(Count(wakes.clone())).into();
        Self { wakes, waker }
    }

    fn sends(&self, output: &Output, length: usize) -> bool {
        let header = Header {
            kind: DATA,
            flags: 0,
            stream: 3,
            length: length as u32,
        };
        let cx = &mut Context::from_waker(&self.waker);
        let body = vec![1; length];
        output
            .poll_data(header, &[IoSlice::new(&body)], cx)
            .is_ready()
    }

    fn is_woken(&self) -> bool {
        self.wakes.swap(0, Ordering::Relaxed) > 0
    }
}

#[test]
fn tasks_that_wait_for_room_take_turns() {
    const LARGE: usize = HIGH - 100;
    let sink = Sink::default();
    let flush = |output: &Output| {
        sink.0.lock().limit = usize::MAX;
        let flushed = output.poll_flush(&mut Context::from_waker(Waker::noop()));
        assert!(flushed.is_ready());
        let mut taken = sink.0.lock();
        taken.limit = taken.bytes.len();
    };
    let output = Output::new(Box::new(sink.clone()), DriverWaker::new());
    let (greedy, modest) = (Task::new(), Task::new());
    assert!(greedy.sends(&output, LARGE));
    for _ in 0..3 {
        // The first to be woken would fill the room each time.
        assert!(!greedy.sends(&output, LARGE));
        assert!(!modest.sends(&output, 200));
        flush(&output);
        assert!(greedy.is_woken() && !modest.is_woken());
        assert!(greedy.sends(&output, LARGE));
        assert!(!greedy.sends(&output, LARGE));
        flush(&output);
        assert!(modest.is_woken() && !greedy.is_woken());
        assert!(modest.sends(&output, 200));
        flush(&output);
        assert!(greedy.is_woken());
        assert!(greedy.sends(&output, LARGE));
    }
}

#[test]
fn a_task_that_has_come_leaves_others_the_room_that_they_were_promised() {
    let sink = Sink::default();
    let output = Output::new(Box::new(sink.clone()), DriverWaker::new());
    let cx = &mut Context::from_waker(Waker::noop());
    let (greedy, modest) = (Task::new(), Task::new());
    assert!(greedy.sends(&output, HIGH));
    assert!(!greedy.sends(&output, HIGH - 100));
    assert!(!modest.sends(&output, 200));
    sink.0.lock().limit = usize::MAX;
    assert!(output.poll_flush(cx).is_ready());
    assert!(greedy.is_woken() && !modest.is_woken());
    // It goes straight to the byte stream, and there is room for the other one.
    assert!(greedy.sends(&output, HIGH - 100));
    assert!(modest.is_woken());
    assert!(!greedy.sends(&output, HIGH));
    assert!(modest.sends(&output, 200));
    // One that does not come is waited for until the driver has had its turn.
    assert!(output.poll_flush(cx).is_ready());
    assert!(greedy.is_woken());
    assert!(!modest.sends(&output, 200));
    for _ in 0..2 {
        assert!(output.poll_flush(cx).is_ready());
    }
    assert!(modest.is_woken());
    assert!(modest.sends(&output, 200));
}

#[test]
fn a_task_that_does_not_come_leaves_its_turn_to_the_next() {
    let sink = Sink::default();
    let output = Output::new(Box::new(sink.clone()), DriverWaker::new());
    let tasks = [Task::new(), Task::new(), Task::new()];
    assert!(tasks[0].sends(&output, HIGH));
    for task in &tasks {
        assert!(!task.sends(&output, HIGH));
    }
    sink.0.lock().limit = usize::MAX;
    let cx = &mut Context::from_waker(Waker::noop());
    let mut woken = Vec::new();
    for _ in 0..6 {
        assert!(output.poll_flush(cx).is_ready());
        woken.push(tasks.iter().filter(|task| task.is_woken()).count());
    }
    // One at a time, with a turn for it to come in.
    assert_eq!(woken, [1, 1, 0, 1, 0, 0]);
}

#[test]
fn small_buffers_wait_and_leave_as_one_frame() {
    let (frame, taken, at_once, _) = send(&bufs(&[3, 0, 500, 40]), 520, usize::MAX);
    assert_eq!(taken, frame);
    assert_eq!(at_once, 0);
}

#[test]
fn large_buffers_go_straight_to_the_byte_stream_in_one_write() {
    let length = DIRECT + 1000;
    let (frame, taken, at_once, writes) = send(&bufs(&[3, DIRECT, 0, 2000]), length, usize::MAX);
    assert_eq!(taken, frame);
    assert_eq!((at_once, writes), (HEADER + length, 1));
}

#[test]
fn what_the_byte_stream_does_not_take_at_once_follows() {
    let lens = [3, DIRECT, 0, 100];
    let length = lens.iter().sum::<usize>();
    for limit in [
        0,
        1,
        HEADER,
        HEADER + 2,
        HEADER + 3,
        HEADER + 500,
        HEADER + length - 1,
    ] {
        let (frame, taken, at_once, _) = send(&bufs(&lens), length, limit);
        assert_eq!(at_once, limit);
        assert_eq!(taken, frame, "after {limit} bytes");
    }
}

#[test]
fn more_buffers_than_go_straight_leave_as_one_frame() {
    let lens = [DIRECT; MAX_PIECES];
    for (count, is_direct) in [(MAX_PIECES - 1, true), (MAX_PIECES, false)] {
        let length = count * DIRECT;
        let (frame, taken, at_once, _) = send(&bufs(&lens[..count]), length, usize::MAX);
        assert_eq!(taken, frame);
        assert_eq!(at_once > 0, is_direct);
    }
}
