use std::io::{self, IoSliceMut};
use std::net::{Ipv4Addr, SocketAddr, UdpSocket};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use bytes::Bytes;
use quinn_udp::{EcnCodepoint, RecvMeta, Transmit, UdpSocketState};
use rustix::event::{PollFd, PollFlags};
use socket2::SockRef;

use super::emulator::{Carrier, Emulator, Packets, Turn};
use super::link::{InFlight, Link, PACKET};
use super::path::Path;

/// What IP and UDP add to a datagram, in bytes.
const HEADERS: u64 = 28;

/// How many receive buffers a call fills at most.
const BATCH: usize = 8;

/// The length of a receive buffer: several datagrams that the system has put together.
const RECEIVE: usize = 64 * 1024;

/// How many bytes a call sends at most.
const LONGEST: usize = 60_000;

/// How many calls a turn makes at most to receive from one end.
const CALLS: usize = 16;

/// The buffers of a socket, in bytes. What does not fit is lost before the link has seen it.
const SOCKET_BUFFER: usize = 4 * 1024 * 1024;

/// A path for datagrams between two ends: each reaches the other through a socket of its own.
#[derive(Debug)]
pub(super) struct Datagrams {
    /// The socket that the near end sends to, and the one that the far end sends to.
    pub(super) addrs: [SocketAddr; 2],
    /// The near end and the far end: known before, or the first that sends.
    pub(super) ends: [Arc<OnceLock<SocketAddr>>; 2],
    pub(super) emulator: Emulator,
}

impl Datagrams {
    /// Starts to carry datagrams.
    ///
    /// # Errors
    ///
    /// When the system refuses sockets or a thread.
    pub(super) fn spawn(path: &Path) -> io::Result<Self> {
        let sockets = [Socket::bind()?, Socket::bind()?];
        let addrs = [sockets[0].addr, sockets[1].addr];
        let ends = [0, 1].map(|index: usize| Arc::clone(&sockets[index].end));
        let links = path.links(path.queue_bytes());
        let carrier = DatagramCarrier {
            sockets,
            links: links.map(Link::new),
            in_flight: [InFlight::new(), InFlight::new()],
            received: vec![0; BATCH * RECEIVE],
            batch: Vec::with_capacity(RECEIVE),
        };
        Ok(Self {
            addrs,
            ends,
            emulator: Emulator::spawn(carrier)?,
        })
    }
}

struct DatagramCarrier {
    sockets: [Socket; 2],
    /// From the near end, and from the far end.
    links: [Link; 2],
    in_flight: [InFlight<Datagram>; 2],
    received: Vec<u8>,
    batch: Vec<u8>,
}

struct Socket {
    io: UdpSocket,
    state: UdpSocketState,
    addr: SocketAddr,
    end: Arc<OnceLock<SocketAddr>>,
}

struct Datagram {
    bytes: Bytes,
    ecn: Option<EcnCodepoint>,
}

impl Carrier for DatagramCarrier {
    fn turn(&mut self, now: Duration, packets: &Packets) -> Turn {
        let mut is_busy = false;
        for from in [0, 1] {
            is_busy |= self.receive(from, now);
            is_busy |= self.deliver(from, now, packets);
        }
        let arrivals = self.in_flight.iter().filter_map(InFlight::next);
        let next = arrivals.map(|(arrives, _)| arrives).min();
        Turn { is_busy, next }
    }

    fn wait_for<'a>(&'a self, _now: Duration, events: &mut Vec<PollFd<'a>>) {
        for socket in &self.sockets {
            events.push(PollFd::new(&socket.io, PollFlags::IN));
        }
    }
}

impl DatagramCarrier {
    /// Sends what has come from one end over its link.
    fn receive(&mut self, from: usize, now: Duration) -> bool {
        let Self {
            sockets,
            links,
            in_flight,
            received,
            ..
        } = self;
        let mut is_busy = false;
        for _ in 0..CALLS {
            let mut meta = [RecvMeta::default(); BATCH];
            let count = sockets[from].receive(received, &mut meta);
            for (meta, buffer) in meta[..count].iter().zip(received.chunks(RECEIVE)) {
                // The first that sends is the end.
                let end = sockets[from].end.get_or_init(|| meta.addr);
                if *end != meta.addr {
                    continue;
                }
                // There is none in a datagram that is empty, which is lost.
                for bytes in buffer[..meta.len].chunks(meta.stride.max(1)) {
                    let len = bytes.len() as u64 + HEADERS;
                    if len > PACKET {
                        continue;
                    }
                    if let Some(arrives) = links[from].send(now, len) {
                        let (bytes, ecn) = (Bytes::copy_from_slice(bytes), meta.ecn);
                        in_flight[from].push(arrives, Datagram { bytes, ecn });
                    }
                }
            }
            is_busy |= count > 0;
            if count < BATCH {
                break;
            }
        }
        is_busy
    }

    /// Delivers what has arrived from one end to the other.
    fn deliver(&mut self, from: usize, now: Duration, packets: &Packets) -> bool {
        let Self {
            sockets,
            in_flight,
            batch,
            ..
        } = self;
        let (in_flight, to) = (&mut in_flight[from], &sockets[1 - from]);
        let mut is_busy = false;
        loop {
            batch.clear();
            let mut arrived = in_flight.arrived(now);
            let Some(first) = arrived.next() else {
                return is_busy;
            };
            batch.extend_from_slice(&first.bytes);
            let (segment, ecn) = (first.bytes.len(), first.ecn);
            let mut count = 1;
            let most = to.state.max_gso_segments().min(LONGEST / segment);
            for next in arrived {
                let len = next.bytes.len();
                if count >= most || len > segment || next.ecn != ecn {
                    break;
                }
                batch.extend_from_slice(&next.bytes);
                count += 1;
                // A shorter one ends a batch.
                if len < segment {
                    break;
                }
            }
            if !to.send(batch, segment, count, ecn) {
                // It takes more in the next turn.
                return is_busy;
            }
            for _ in 0..count {
                if let Some((arrived, _)) = in_flight.pop() {
                    packets.count(arrived, now);
                }
            }
            is_busy = true;
        }
    }
}

impl Socket {
    fn bind() -> io::Result<Self> {
        let io = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0))?;
        let state = UdpSocketState::new((&io).into())?;
        io.set_nonblocking(true)?;
        SockRef::from(&io).set_recv_buffer_size(SOCKET_BUFFER)?;
        SockRef::from(&io).set_send_buffer_size(SOCKET_BUFFER)?;
        Ok(Self {
            addr: io.local_addr()?,
            io,
            state,
            end: Arc::default(),
        })
    }

    /// Returns how many buffers are filled.
    fn receive(&self, buffer: &mut [u8], meta: &mut [RecvMeta; BATCH]) -> usize {
        let mut parts = buffer.chunks_mut(RECEIVE);
        let mut slices = [(); BATCH].map(|()| IoSliceMut::new(parts.next().unwrap_or_default()));
        // An error tells of a datagram before, which is lost.
        let received = self.state.recv((&self.io).into(), &mut slices, meta);
        received.unwrap_or(0)
    }

    /// Sends datagrams of the same length, the last of which may be shorter. Returns whether the system took them.
    fn send(&self, bytes: &[u8], segment: usize, count: usize, ecn: Option<EcnCodepoint>) -> bool {
        let Some(end) = self.end.get() else {
            // It is lost: there is no other end yet.
            return true;
        };
        let transmit = Transmit {
            destination: *end,
            ecn,
            contents: bytes,
            segment_size: (count > 1).then_some(segment),
            src_ip: None,
        };
        let sent = self.state.try_send((&self.io).into(), &transmit);
        // Any other error is about an end that is gone.
        !sent.is_err_and(|error| error.kind() == io::ErrorKind::WouldBlock)
    }
}

#[cfg(test)]
mod tests {
    use std::time::Instant;

    use super::*;

    #[test]
    fn datagrams_pass_to_and_fro_and_take_their_time() {
        let path = Path {
            delay: 5,
            rate: 100,
            loss: 0.0,
            queue: 1.0,
        };
        let between = Datagrams::spawn(&path).unwrap();
        let [near, far] = [(); 2].map(|()| UdpSocket::bind("127.0.0.1:0").unwrap());
        for socket in [&near, &far] {
            let limit = Duration::from_secs(10);
            socket.set_read_timeout(Some(limit)).unwrap();
        }
        between.ends[1].set(far.local_addr().unwrap()).unwrap();
        let mut buffer = [0; 2000];
        let start = Instant::now();
        // One that is too long for the path is lost.
        near.send_to(&[9; 1473], between.addrs[0]).unwrap();
        for len in [1472, 1472, 100, 1] {
            near.send_to(&vec![1; len], between.addrs[0]).unwrap();
        }
        for len in [1472, 1472, 100, 1] {
            let (count, from) = far.recv_from(&mut buffer).unwrap();
            assert_eq!((count, from), (len, between.addrs[1]));
        }
        far.send_to(&[2; 64], between.addrs[1]).unwrap();
        let (count, from) = near.recv_from(&mut buffer).unwrap();
        assert_eq!((count, from), (64, between.addrs[0]));
        assert!(start.elapsed() >= path.round_trip());
    }
}
