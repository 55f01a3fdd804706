//! The `webrtc` crate as a careful program uses it without pipewerks.

use std::fmt;
use std::future::Future;
use std::io::{self, IoSliceMut};
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use async_trait::async_trait;
use bytes::{Buf, BytesMut};
use socket2::SockRef;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::sync::mpsc;
use webrtc::data_channel::{DataChannel, DataChannelEvent, RTCDataChannelInit};
use webrtc::peer_connection::{
    PeerConnection, PeerConnectionBuilder, PeerConnectionEventHandler, RTCIceCandidateInit,
    RTCPeerConnectionIceEvent, SettingEngineBuilder,
};
use webrtc::runtime::{
    AsyncInterval, AsyncTcpListener, AsyncTcpStream, AsyncUdpSocket, JoinHandle, RecvMeta, Runtime,
    TokioRuntime, Transmit,
};

use crate::measure::Pair;
use crate::{Acceptor, Opener};

/// The buffers of a socket, in bytes.
const SOCKET_BUFFER: usize = 4 * 1024 * 1024;

/// How many bytes of a channel may wait to be acknowledged: with many small messages, more of them
/// are much slower.
pub(super) const SHALLOW: usize = 256 * 1024;

/// The same for large messages, where a program has that memory to spare for each channel: it is the
/// fastest then.
pub(super) const DEEP: usize = 8 * 1024 * 1024;

/// The largest message, in bytes.
const MESSAGE: usize = 64 * 1024;

/// How often the engine looks for work while a connection is made.
const EAGER: Duration = Duration::from_millis(1);

/// Two peer connections in one process, where so many of a thousand datagrams are lost, and so many
/// bytes of a channel may be on their way.
pub(super) struct ByHand<const LOSS: u16 = 0, const QUEUE: usize = SHALLOW>;

impl<const LOSS: u16, const QUEUE: usize> Pair for ByHand<LOSS, QUEUE> {
    type Opener = Side;
    type Acceptor = Accepting;

    async fn connect() -> io::Result<(Side, Accepting)> {
        let (near, near_events) = peer(QUEUE).await?;
        let (far, far_events) = peer(QUEUE).await?;
        // A channel for the association; the streams have their own.
        let first = near.peer.create_data_channel("first", None).await;
        let first = first.map_err(io::Error::other)?;
        let described = async {
            let offer = near.peer.create_offer(None).await?;
            near.peer.set_local_description(offer.clone()).await?;
            far.peer.set_remote_description(offer).await?;
            let answer = far.peer.create_answer(None).await?;
            far.peer.set_local_description(answer.clone()).await?;
            near.peer.set_remote_description(answer).await
        };
        described.await.map_err(io::Error::other)?;
        forward(near_events.candidates, &far);
        forward(far_events.candidates, &near);
        opened(&first).await?;
        let mut channels = far_events.channels;
        // It is no stream.
        let second = channels.recv().await.ok_or(io::ErrorKind::UnexpectedEof)?;
        for side in [&near, &far] {
            side.link.connecting.store(false, Ordering::Relaxed);
            side.link.loss.store(LOSS.into(), Ordering::Relaxed);
        }
        let far = Accepting {
            side: far,
            channels,
            _first: [first, second],
        };
        Ok((near, far))
    }
}

/// Passes candidates on until their peer is gone.
fn forward(mut candidates: mpsc::UnboundedReceiver<RTCIceCandidateInit>, to: &Side) {
    let to = Arc::downgrade(&to.peer);
    tokio::spawn(async move {
        while let Some(candidate) = candidates.recv().await {
            let Some(to) = to.upgrade() else { return };
            // Others may do.
            let _ = to.add_ice_candidate(candidate).await;
        }
    });
}

/// One side of a connection. It is closed with the last clone.
#[derive(Clone)]
pub(super) struct Side {
    peer: Arc<dyn PeerConnection>,
    link: Arc<Link>,
    _closer: Arc<Closer>,
}

/// A peer connection that is not closed stays for ever.
struct Closer(Arc<dyn PeerConnection>);

impl Drop for Closer {
    fn drop(&mut self) {
        let peer = self.0.clone();
        tokio::spawn(async move { peer.close().await });
    }
}

/// The side that accepts.
pub(super) struct Accepting {
    side: Side,
    channels: mpsc::UnboundedReceiver<Arc<dyn DataChannel>>,
    _first: [Arc<dyn DataChannel>; 2],
}

struct Events {
    candidates: mpsc::UnboundedReceiver<RTCIceCandidateInit>,
    channels: mpsc::UnboundedReceiver<Arc<dyn DataChannel>>,
}

async fn peer(queue: usize) -> io::Result<(Side, Events)> {
    let link = Arc::new(Link {
        connecting: AtomicBool::new(true),
        ..Link::default()
    });
    let (to_candidates, candidates) = mpsc::unbounded_channel();
    let (to_channels, channels) = mpsc::unbounded_channel();
    let settings = SettingEngineBuilder::new()
        .with_prflx_acceptance_min_wait(Some(Duration::ZERO))
        .with_include_loopback_candidate(true)
        .build();
    let built = PeerConnectionBuilder::new()
        .with_setting_engine(settings)
        .with_handler(Arc::new(Handler {
            candidates: to_candidates,
            channels: to_channels,
        }))
        .with_runtime(Arc::new(Careful {
            inner: TokioRuntime,
            link: link.clone(),
        }))
        .with_udp_addrs(vec![SocketAddr::from(([127, 0, 0, 1], 0))])
        .with_data_channel_send_buffer_limit(queue)
        .build()
        .await;
    let peer: Arc<dyn PeerConnection> = Arc::new(built.map_err(io::Error::other)?);
    let side = Side {
        _closer: Arc::new(Closer(peer.clone())),
        peer,
        link,
    };
    let events = Events {
        candidates,
        channels,
    };
    Ok((side, events))
}

struct Handler {
    candidates: mpsc::UnboundedSender<RTCIceCandidateInit>,
    channels: mpsc::UnboundedSender<Arc<dyn DataChannel>>,
}

#[async_trait]
impl PeerConnectionEventHandler for Handler {
    async fn on_ice_candidate(&self, event: RTCPeerConnectionIceEvent) {
        if let Ok(candidate) = event.candidate.to_json() {
            // A peer that is closed needs none.
            let _ = self.candidates.send(candidate);
        }
    }

    async fn on_data_channel(&self, channel: Arc<dyn DataChannel>) {
        let _ = self.channels.send(channel);
    }
}

/// Waits until a channel is open.
async fn opened(channel: &Arc<dyn DataChannel>) -> io::Result<()> {
    loop {
        match channel.poll().await {
            Some(DataChannelEvent::OnOpen) => return Ok(()),
            Some(_) => {}
            None => return Err(io::ErrorKind::NotConnected.into()),
        }
    }
}

/// Spares the engine an event for each message that was acknowledged.
async fn quiet(channel: &Arc<dyn DataChannel>) {
    // A channel that is gone makes no events either.
    let _ = channel.set_buffered_amount_low_threshold(u32::MAX).await;
}

impl Opener for Side {
    type Stream = ChannelStream;

    async fn open(&self) -> io::Result<ChannelStream> {
        let init = RTCDataChannelInit {
            ordered: true,
            ..RTCDataChannelInit::default()
        };
        let channel = self.peer.create_data_channel("", Some(init)).await;
        let channel = channel.map_err(io::Error::other)?;
        quiet(&channel).await;
        // What is sent may follow at once (RFC 8832, section 6).
        Ok(ChannelStream::new(channel, self.clone()))
    }
}

impl Acceptor for Accepting {
    type Stream = ChannelStream;

    async fn accept(&mut self) -> Option<ChannelStream> {
        let channel = self.channels.recv().await?;
        quiet(&channel).await;
        Some(ChannelStream::new(channel, self.side.clone()))
    }
}

type Sending = Pin<Box<dyn Future<Output = webrtc::error::Result<()>> + Send>>;
type Receiving = Pin<Box<dyn Future<Output = Option<DataChannelEvent>> + Send>>;

/// A data channel as a stream: a write is a message, and one of text is the end. The channel is left
/// open: an id that is used again too soon gives a channel that never opens.
pub(super) struct ChannelStream {
    channel: Arc<dyn DataChannel>,
    sending: Option<Sending>,
    receiving: Option<Receiving>,
    received: BytesMut,
    ended: bool,
    shut: bool,
    _side: Side,
}

impl ChannelStream {
    fn new(channel: Arc<dyn DataChannel>, side: Side) -> Self {
        Self {
            channel,
            sending: None,
            receiving: None,
            received: BytesMut::new(),
            ended: false,
            shut: false,
            _side: side,
        }
    }

    fn poll_sent(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if let Some(sending) = &mut self.sending {
            let sent = ready!(sending.as_mut().poll(cx));
            self.sending = None;
            sent.map_err(io::Error::other)?;
        }
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for ChannelStream {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        ready!(self.poll_sent(cx))?;
        let buf = &buf[..buf.len().min(MESSAGE)];
        let (channel, bytes) = (self.channel.clone(), BytesMut::from(buf));
        self.sending = Some(Box::pin(async move { channel.send(bytes).await }));
        // One that waits is polled again by the next write.
        match self.poll_sent(cx) {
            Poll::Ready(Err(error)) => Poll::Ready(Err(error)),
            _ => Poll::Ready(Ok(buf.len())),
        }
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.poll_sent(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        ready!(self.poll_sent(cx))?;
        if !std::mem::replace(&mut self.shut, true) {
            let channel = self.channel.clone();
            self.sending = Some(Box::pin(async move { channel.send_text("end").await }));
        }
        self.poll_sent(cx)
    }
}

impl AsyncRead for ChannelStream {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        while self.received.is_empty() && !self.ended {
            let channel = self.channel.clone();
            let receiving = self
                .receiving
                .get_or_insert_with(|| Box::pin(async move { channel.poll().await }));
            let event = ready!(receiving.as_mut().poll(cx));
            self.receiving = None;
            match event {
                Some(DataChannelEvent::OnMessage(message)) if message.is_string => {
                    self.ended = true;
                }
                Some(DataChannelEvent::OnMessage(message)) => self.received = message.data,
                Some(DataChannelEvent::OnClose) | None => {
                    return Poll::Ready(Err(io::ErrorKind::UnexpectedEof.into()));
                }
                Some(_) => {}
            }
        }
        let count = self.received.len().min(buf.remaining());
        buf.put_slice(&self.received[..count]);
        self.received.advance(count);
        Poll::Ready(Ok(()))
    }
}

/// What the sockets of a peer lose, and whether its timers hurry.
#[derive(Debug, Default)]
struct Link {
    connecting: AtomicBool,
    /// So many of a thousand datagrams.
    loss: AtomicU64,
    counter: AtomicU64,
}

impl Link {
    fn loses_one(&self) -> bool {
        let loss = self.loss.load(Ordering::Relaxed);
        if loss == 0 {
            return false;
        }
        // SplitMix64 over a counter.
        let step = self.counter.fetch_add(1, Ordering::Relaxed);
        let mut x = step.wrapping_mul(0x9e37_79b9_7f4a_7c15);
        x = (x ^ (x >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        x = (x ^ (x >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (x ^ (x >> 31)) % 1000 < loss
    }
}

/// Tokio, with larger socket buffers, hurried timers, and losses.
#[derive(Debug)]
struct Careful {
    inner: TokioRuntime,
    link: Arc<Link>,
}

impl Runtime for Careful {
    fn spawn(&self, future: Pin<Box<dyn Future<Output = ()> + Send>>) -> Box<dyn JoinHandle> {
        self.inner.spawn(future)
    }

    fn wrap_udp_socket(&self, socket: std::net::UdpSocket) -> io::Result<Arc<dyn AsyncUdpSocket>> {
        let options = SockRef::from(&socket);
        options.set_recv_buffer_size(SOCKET_BUFFER)?;
        options.set_send_buffer_size(SOCKET_BUFFER)?;
        Ok(Arc::new(Socket {
            inner: self.inner.wrap_udp_socket(socket)?,
            link: self.link.clone(),
        }))
    }

    fn wrap_tcp_listener(
        &self,
        listener: std::net::TcpListener,
    ) -> io::Result<Arc<dyn AsyncTcpListener>> {
        self.inner.wrap_tcp_listener(listener)
    }

    fn connect_tcp<'a>(
        &'a self,
        remote_addr: SocketAddr,
    ) -> Pin<Box<dyn Future<Output = io::Result<Arc<dyn AsyncTcpStream>>> + Send + 'a>> {
        self.inner.connect_tcp(remote_addr)
    }

    fn resolve_host<'a>(
        &'a self,
        host: &'a str,
    ) -> Pin<Box<dyn Future<Output = io::Result<Vec<SocketAddr>>> + Send + 'a>> {
        self.inner.resolve_host(host)
    }

    fn sleep(&self, duration: Duration) -> Pin<Box<dyn Future<Output = ()> + Send + 'static>> {
        let hurry = self.link.connecting.load(Ordering::Relaxed);
        let duration = if hurry { duration.min(EAGER) } else { duration };
        self.inner.sleep(duration)
    }

    fn interval(&self, period: Duration) -> Box<dyn AsyncInterval> {
        self.inner.interval(period)
    }

    fn block_on(&self, future: Pin<Box<dyn Future<Output = ()> + '_>>) {
        self.inner.block_on(future);
    }

    fn yield_now(&self) -> Pin<Box<dyn Future<Output = ()> + Send + 'static>> {
        self.inner.yield_now()
    }
}

struct Socket {
    inner: Arc<dyn AsyncUdpSocket>,
    link: Arc<Link>,
}

impl fmt::Debug for Socket {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Socket").field(&self.inner).finish()
    }
}

impl AsyncUdpSocket for Socket {
    fn local_addr(&self) -> io::Result<SocketAddr> {
        self.inner.local_addr()
    }

    fn poll_send(&self, cx: &mut Context<'_>, transmit: &Transmit<'_>) -> Poll<io::Result<usize>> {
        if self.link.loses_one() {
            return Poll::Ready(Ok(transmit.contents.len()));
        }
        self.inner.poll_send(cx, transmit)
    }

    fn poll_recv(
        &self,
        cx: &mut Context<'_>,
        bufs: &mut [IoSliceMut<'_>],
        meta: &mut [RecvMeta],
    ) -> Poll<io::Result<usize>> {
        self.inner.poll_recv(cx, bufs, meta)
    }

    fn max_gso_segments(&self) -> usize {
        // A loss takes one datagram, not a batch.
        if self.link.loss.load(Ordering::Relaxed) > 0 {
            1
        } else {
            self.inner.max_gso_segments()
        }
    }

    fn max_gro_segments(&self) -> usize {
        self.inner.max_gro_segments()
    }
}
