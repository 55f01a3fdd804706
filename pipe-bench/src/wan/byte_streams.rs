use std::collections::VecDeque;
use std::io::{self, ErrorKind, Read, Write};
use std::net::{Ipv4Addr, Shutdown, SocketAddr, TcpListener, TcpStream};
use std::time::Duration;

use bytes::Bytes;
use rustix::event::{PollFd, PollFlags};
use socket2::{Domain, SockRef, Type};

use super::emulator::{Carrier, Emulator, Packets, Turn};
use super::link::{InFlight, Link, PACKET};
use super::path::Path;

/// The bytes of TCP in a packet, besides its headers.
const SEGMENT: u64 = 1448;

/// How much of a queue may lie in the receive buffer of a socket instead, in bytes.
const RECEIVE_BUFFER: std::ops::RangeInclusive<u64> = 8 * 1024..=512 * 1024;

/// The buffers towards an end that does not read, in bytes.
const SEND_BUFFER: usize = 64 * 1024;

/// How many connections may wait to be accepted.
const BACKLOG: i32 = 64;

/// A path for connections of TCP, which all share it: what they send waits in the sockets of their senders while the
/// queue is full, so that no packet is lost.
#[derive(Debug)]
pub(super) struct ByteStreams {
    /// Where the near ends connect to.
    pub(super) addr: SocketAddr,
    pub(super) emulator: Emulator,
}

impl ByteStreams {
    /// Starts to carry connections to this address.
    ///
    /// # Errors
    ///
    /// When the system refuses sockets or a thread.
    pub(super) fn spawn(path: &Path, to: SocketAddr) -> io::Result<Self> {
        let queue = path.queue_bytes();
        // What lies in the system's buffer waits as well, and is part of the queue.
        let buffer = (queue / 4).clamp(*RECEIVE_BUFFER.start(), *RECEIVE_BUFFER.end());
        let queue = queue.saturating_sub(buffer).max(2 * PACKET);
        let listener = socket(buffer)?;
        listener.bind(&SocketAddr::from((Ipv4Addr::LOCALHOST, 0)).into())?;
        listener.listen(BACKLOG)?;
        listener.set_nonblocking(true)?;
        let listener = TcpListener::from(listener);
        let addr = listener.local_addr()?;
        // What the link sends within a tenth of a millisecond, so that a call is worth it.
        let packets = (path.rate * 1_000_000 / 10_000 / 8 / PACKET).max(1);
        let carrier = StreamCarrier {
            listener,
            to,
            buffer,
            conns: VecDeque::new(),
            links: path.links(queue).map(Link::new),
            packets,
            block: vec![0; (packets * SEGMENT) as usize],
        };
        Ok(Self {
            addr,
            emulator: Emulator::spawn(carrier)?,
        })
    }
}

struct StreamCarrier {
    listener: TcpListener,
    to: SocketAddr,
    buffer: u64,
    conns: VecDeque<Conn>,
    /// From the near ends, and from the far ends.
    links: [Link; 2],
    /// How many packets a read takes at most.
    packets: u64,
    block: Vec<u8>,
}

/// A connection: the sockets of the near end and of the far end.
struct Conn {
    sockets: [TcpStream; 2],
    ways: [Way; 2],
}

/// A direction of a connection.
struct Way {
    in_flight: InFlight<Bytes>,
    /// Whether its reader has no room.
    is_blocked: bool,
    state: State,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Open,
    /// Its writer has ended.
    Ended,
    /// Its reader has learnt it.
    Done,
}

impl Carrier for StreamCarrier {
    fn turn(&mut self, now: Duration, packets: &Packets) -> Turn {
        let mut is_busy = self.accept();
        for from in [0, 1] {
            for conn in &mut self.conns {
                is_busy |= conn.deliver(from, now, packets);
            }
            is_busy |= self.read(from, now);
        }
        self.conns.retain(|conn| !conn.is_done());
        let next = |from: usize| {
            let ways = self.conns.iter().map(move |conn| &conn.ways[from]);
            let arrivals = ways.filter(|way| !way.is_blocked);
            let arrivals = arrivals.filter_map(|way| way.in_flight.next());
            let room = self.room_at(from);
            // The room of the past is waited for by the readiness of the sockets.
            let room = (room > now).then_some(room);
            arrivals.map(|(arrives, _)| arrives).chain(room).min()
        };
        let next = [0, 1].into_iter().filter_map(next).min();
        Turn { is_busy, next }
    }

    fn wait_for<'a>(&'a self, now: Duration, events: &mut Vec<PollFd<'a>>) {
        events.push(PollFd::new(&self.listener, PollFlags::IN));
        for conn in &self.conns {
            for from in [0, 1] {
                let way = &conn.ways[from];
                if way.reads() && self.room_at(from) <= now {
                    events.push(PollFd::new(&conn.sockets[from], PollFlags::IN));
                }
                if way.is_blocked {
                    events.push(PollFd::new(&conn.sockets[1 - from], PollFlags::OUT));
                }
            }
        }
    }
}

impl StreamCarrier {
    /// Connects those that have come. One that cannot be is dropped, which its near end learns.
    fn accept(&mut self) -> bool {
        let mut is_busy = false;
        while let Ok((near, _)) = self.listener.accept() {
            is_busy = true;
            if let Ok(conn) = self.connect(near) {
                self.conns.push_back(conn);
            }
        }
        is_busy
    }

    fn connect(&self, near: TcpStream) -> io::Result<Conn> {
        let far = socket(self.buffer)?;
        // On loopback, it takes no time.
        far.connect(&self.to.into())?;
        let sockets = [near, far.into()];
        for socket in &sockets {
            socket.set_nonblocking(true)?;
            socket.set_nodelay(true)?;
            SockRef::from(socket).set_send_buffer_size(SEND_BUFFER)?;
        }
        Ok(Conn {
            sockets,
            ways: [Way::new(), Way::new()],
        })
    }

    /// Returns when the queue of a link has room for the packets of a read.
    fn room_at(&self, from: usize) -> Duration {
        self.links[from].room_at(self.packets * PACKET)
    }

    /// Sends over a link what has come, from each connection by turns.
    fn read(&mut self, from: usize, now: Duration) -> bool {
        let mut is_busy = false;
        let mut idle = 0;
        while idle < self.conns.len() && self.room_at(from) <= now {
            let link = &mut self.links[from];
            let conn = &mut self.conns[0];
            if conn.read(from, now, link, &mut self.block) {
                (is_busy, idle) = (true, 0);
            } else {
                idle += 1;
            }
            self.conns.rotate_left(1);
        }
        is_busy
    }
}

impl Conn {
    fn read(&mut self, from: usize, now: Duration, link: &mut Link, block: &mut [u8]) -> bool {
        let way = &mut self.ways[from];
        if !way.reads() {
            return false;
        }
        match (&self.sockets[from]).read(block) {
            Ok(0) => way.state = State::Ended,
            Ok(count) => {
                let len = count as u64;
                let len = len + len.div_ceil(SEGMENT) * (PACKET - SEGMENT);
                let arrives = link.append(now, len);
                let bytes = Bytes::copy_from_slice(&block[..count]);
                way.in_flight.push(arrives, bytes);
            }
            Err(error) if is_later(&error) => return false,
            Err(_) => self.break_off(),
        }
        true
    }

    fn deliver(&mut self, from: usize, now: Duration, packets: &Packets) -> bool {
        let mut is_busy = false;
        loop {
            let way = &mut self.ways[from];
            let mut socket = &self.sockets[1 - from];
            let Some((arrives, _)) = way.in_flight.next() else {
                if way.state == State::Ended {
                    way.state = State::Done;
                    // It may be gone already.
                    let _ = socket.shutdown(Shutdown::Write);
                }
                return is_busy;
            };
            if arrives > now {
                return is_busy;
            }
            let Some((_, mut bytes)) = way.in_flight.pop() else {
                return is_busy;
            };
            match socket.write(&bytes) {
                Ok(count) if count == bytes.len() => {
                    // A reader that did not read is no fault of the emulator.
                    if !way.is_blocked {
                        packets.count(arrives, now);
                    }
                    way.is_blocked = false;
                }
                Ok(count) => {
                    way.in_flight.put_back(arrives, bytes.split_off(count));
                    way.is_blocked = true;
                    return true;
                }
                Err(error) if is_later(&error) => {
                    way.in_flight.put_back(arrives, bytes);
                    way.is_blocked = true;
                    return is_busy;
                }
                Err(_) => {
                    self.break_off();
                    return true;
                }
            }
            is_busy = true;
        }
    }

    /// Ends both directions, since one is broken.
    fn break_off(&mut self) {
        for (way, socket) in self.ways.iter_mut().zip(&self.sockets) {
            *way = Way {
                state: State::Done,
                ..Way::new()
            };
            // It may be gone already.
            let _ = socket.shutdown(Shutdown::Both);
        }
    }

    fn is_done(&self) -> bool {
        self.ways.iter().all(|way| way.state == State::Done)
    }
}

impl Way {
    fn new() -> Self {
        Self {
            in_flight: InFlight::new(),
            is_blocked: false,
            state: State::Open,
        }
    }

    fn reads(&self) -> bool {
        self.state == State::Open && !self.is_blocked
    }
}

/// A socket with a receive buffer of about so many bytes, and segments as on a path.
fn socket(buffer: u64) -> io::Result<socket2::Socket> {
    let socket = socket2::Socket::new(Domain::IPV4, Type::STREAM, None)?;
    socket.set_recv_buffer_size(buffer as usize)?;
    socket.set_tcp_mss(SEGMENT as u32)?;
    // The queue is to be all that holds a sender up. A system without it treats all alike.
    #[cfg(target_os = "linux")]
    let _ = socket.set_tcp_congestion(b"cubic");
    Ok(socket)
}

fn is_later(error: &io::Error) -> bool {
    matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::Interrupted)
}

#[cfg(test)]
mod tests {
    use std::time::Instant;

    use super::*;

    const PATH: Path = Path {
        delay: 5,
        rate: 100,
        loss: 0.0,
        queue: 1.0,
    };

    fn ends() -> (ByteStreams, TcpStream, TcpStream) {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let between = ByteStreams::spawn(&PATH, listener.local_addr().unwrap()).unwrap();
        let near = TcpStream::connect(between.addr).unwrap();
        let (far, _) = listener.accept().unwrap();
        for socket in [&near, &far] {
            let limit = Duration::from_secs(10);
            socket.set_read_timeout(Some(limit)).unwrap();
        }
        (between, near, far)
    }

    #[test]
    fn bytes_pass_whole_at_the_rate_of_the_path_and_take_their_time() {
        let (_between, mut near, mut far) = ends();
        let sent: Vec<u8> = (0..500_000_u32).map(|i| (i % 251) as u8).collect();
        let start = Instant::now();
        let writing = std::thread::spawn({
            let sent = sent.clone();
            move || {
                near.write_all(&sent).unwrap();
                near.shutdown(Shutdown::Write).unwrap();
                near
            }
        });
        let mut received = Vec::new();
        far.read_to_end(&mut received).unwrap();
        assert!(received == sent);
        // 41 ms at the rate, and 5 on the way.
        let time = start.elapsed();
        assert!(time > Duration::from_millis(40), "{time:?}");

        let mut near = writing.join().unwrap();
        far.write_all(b"and back").unwrap();
        drop(far);
        let mut answer = String::new();
        near.read_to_string(&mut answer).unwrap();
        assert_eq!(answer, "and back");
    }

    #[test]
    fn an_end_that_breaks_off_ends_the_other() {
        let (_between, near, mut far) = ends();
        SockRef::from(&near)
            .set_linger(Some(Duration::ZERO))
            .unwrap();
        drop(near);
        // As an end or as an error.
        assert_eq!(far.read(&mut [0]).unwrap_or(0), 0);
    }

    #[test]
    fn a_writer_waits_for_a_reader() {
        let (_between, mut near, mut far) = ends();
        let limit = Duration::from_millis(500);
        near.set_write_timeout(Some(limit)).unwrap();
        let mut written = 0;
        // All buffers are full when nothing is taken in that time.
        while let Ok(count) = near.write(&[0; 64 * 1024]) {
            written += count;
            assert!(written < 64 << 20, "nothing bounds it");
        }
        near.shutdown(Shutdown::Write).unwrap();
        let mut received = Vec::new();
        far.read_to_end(&mut received).unwrap();
        assert_eq!(received.len(), written);
    }
}
