use std::cell::RefCell;
use std::io::{self, IoSliceMut};
use std::net::SocketAddr;
use std::task::{Context, Poll, ready};

use quinn_udp::{RecvMeta, Transmit, UdpSocketState};
use socket2::{Domain, Protocol, SockRef, Type};
use tokio::io::Interest;
use tokio::net::UdpSocket;

use super::outgoing::Batch;

/// Length of a receive buffer: several datagrams that the system has put together.
const RECEIVE: usize = 64 * 1024;

/// Number of receive buffers of a thread, all of which one call may fill.
const BATCH: usize = if quinn_udp::BATCH_SIZE < 4 {
    quinn_udp::BATCH_SIZE
} else {
    4
};

thread_local! {
    static BUFFER: RefCell<Vec<u8>> = const { RefCell::new(Vec::new()) };
}

/// A UDP socket, with the batches of the system where it has them.
#[derive(Debug)]
pub(super) struct Socket {
    io: UdpSocket,
    state: UdpSocketState,
    addr: SocketAddr,
}

impl Socket {
    /// Binds a socket, with buffers of this length in bytes or as much as the system grants.
    pub(super) fn bind(addr: SocketAddr, buffer: u32) -> io::Result<Self> {
        let socket =
            socket2::Socket::new(Domain::for_address(addr), Type::DGRAM, Some(Protocol::UDP))?;
        socket.set_nonblocking(true)?;
        if addr.is_ipv6() {
            socket.set_only_v6(true)?;
        }
        socket.bind(&addr.into())?;
        let io = UdpSocket::from_std(socket.into())?;
        let state = UdpSocketState::new((&io).into())?;
        let granted = SockRef::from(&io);
        // Less than that is slower at most.
        let _ = granted.set_recv_buffer_size(buffer as usize);
        let _ = granted.set_send_buffer_size(buffer as usize);
        Ok(Self {
            addr: io.local_addr()?,
            io,
            state,
        })
    }

    pub(super) fn addr(&self) -> SocketAddr {
        self.addr
    }

    /// Returns how many datagrams one call sends at most.
    pub(super) fn max_segments(&self) -> usize {
        self.state.max_gso_segments()
    }

    /// Receives what one call gives, and passes on each datagram with its source. Returns their number.
    pub(super) fn poll_receive(
        &self,
        cx: &mut Context<'_>,
        mut take: impl FnMut(SocketAddr, &[u8]),
    ) -> Poll<io::Result<usize>> {
        loop {
            ready!(self.io.poll_recv_ready(cx))?;
            let mut meta = [RecvMeta::default(); BATCH];
            let received = BUFFER.with_borrow_mut(|buffer| {
                buffer.resize(BATCH * RECEIVE, 0);
                let mut received = 0;
                let tried = self.io.try_io(Interest::READABLE, || {
                    let mut parts = buffer.chunks_mut(RECEIVE);
                    let mut slices =
                        [(); BATCH].map(|()| IoSliceMut::new(parts.next().unwrap_or_default()));
                    received = self.state.recv((&self.io).into(), &mut slices, &mut meta)?;
                    if received < BATCH {
                        // There is no more, which another call would only confirm.
                        return Err(io::ErrorKind::WouldBlock.into());
                    }
                    Ok(())
                });
                if received == 0 {
                    return tried.map(|()| 0);
                }
                let mut count = 0;
                for (meta, buffer) in meta[..received].iter().zip(buffer.chunks(RECEIVE)) {
                    if meta.stride == 0 {
                        // An empty datagram.
                        count += 1;
                        continue;
                    }
                    for datagram in buffer[..meta.len.min(RECEIVE)].chunks(meta.stride) {
                        take(meta.addr, datagram);
                        count += 1;
                    }
                }
                Ok(count)
            });
            match received {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                other => return Poll::Ready(other),
            }
        }
    }

    /// Waits until something can be sent. Any number of tasks may wait at a time.
    pub(super) async fn writable(&self) -> io::Result<()> {
        self.io.writable().await
    }

    /// Sends a batch, of the only task that sends. A datagram that the system refuses is lost.
    pub(super) fn poll_send(&self, cx: &mut Context<'_>, batch: &Batch) -> Poll<()> {
        self.poll_send_with(batch, &mut || self.io.poll_send_ready(cx))
    }

    /// Sends a batch; `poll_ready` waits until something can be sent. A datagram that the system refuses is
    /// lost.
    pub(super) fn poll_send_with(
        &self,
        batch: &Batch,
        poll_ready: &mut dyn FnMut() -> Poll<io::Result<()>>,
    ) -> Poll<()> {
        let whole = Transmit {
            destination: batch.to,
            ecn: None,
            contents: &batch.bytes,
            segment_size: (batch.count > 1).then_some(batch.segment),
            src_ip: None,
        };
        match ready!(self.poll_transmit(&whole, poll_ready)) {
            Ok(()) => {}
            Err(error) if batch.count > 1 => {
                // It may be the batch that the network card or its driver refuses.
                tracing::debug!(%error, to = %batch.to, "a batch is sent one by one");
                for datagram in batch.bytes.chunks(batch.segment) {
                    let one = Transmit {
                        contents: datagram,
                        segment_size: None,
                        ..whole
                    };
                    if let Poll::Ready(Err(error)) = self.poll_transmit(&one, poll_ready) {
                        tracing::debug!(%error, to = %batch.to, "a datagram is not sent");
                    }
                }
            }
            Err(error) => tracing::debug!(%error, to = %batch.to, "a datagram is not sent"),
        }
        Poll::Ready(())
    }

    fn poll_transmit(
        &self,
        transmit: &Transmit<'_>,
        poll_ready: &mut dyn FnMut() -> Poll<io::Result<()>>,
    ) -> Poll<io::Result<()>> {
        loop {
            let sent = self.io.try_io(Interest::WRITABLE, || {
                self.state.try_send((&self.io).into(), transmit)
            });
            match sent {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => ready!(poll_ready())?,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                other => return Poll::Ready(other),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::future::poll_fn;

    use super::super::outgoing::Outgoing;
    use super::*;

    #[tokio::test]
    async fn batches_arrive_as_the_datagrams_that_they_were_made_of() {
        let local = SocketAddr::from(([127, 0, 0, 1], 0));
        let [from, to] = [(); 2].map(|()| Socket::bind(local, 1 << 20).unwrap());
        let mut out = Outgoing::new(from.max_segments());
        let datagrams: Vec<Vec<u8>> = (0..40)
            .map(|i| vec![i; if i % 8 == 7 { 300 } else { 1200 }])
            .collect();
        for datagram in &datagrams {
            out.push(0, to.addr(), datagram);
        }
        while let Some(batch) = out.front() {
            poll_fn(|cx| from.poll_send(cx, batch)).await;
            out.pop();
        }
        let mut received = Vec::new();
        while received.len() < datagrams.len() {
            poll_fn(|cx| {
                to.poll_receive(cx, |source, datagram| {
                    assert_eq!(source, from.addr());
                    received.push(datagram.to_vec());
                })
            })
            .await
            .unwrap();
        }
        assert_eq!(received, datagrams);
    }
}
