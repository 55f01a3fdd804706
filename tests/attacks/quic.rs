//! An attacker of plain quinn, which speaks `pipe/1` by hand, over QUIC or over WebTransport. QUIC itself enforces windows and the numbers of
//! streams, and quinn does not break its rules.

use std::collections::HashMap;
use std::io;
use std::net::IpAddr;
use std::sync::{Arc, LazyLock, Mutex, PoisonError};
use std::time::Duration;

use bytes::BytesMut;
use futures::FutureExt;
use futures::future::BoxFuture;
use pipe_conformance::hostile::{Attacker, Held, Move, MoveKind, NO_CANDIDATES, Peer, Reading};
use pipe_core::backend::proto::codec::binary;
use pipe_core::backend::proto::{Frame, Hello, PING_LEN, StreamFrame};
use pipewerks::Addr;
use pipewerks::quic::{CertPins, TlsOptions, quinn};
use quinn::crypto::rustls::QuicClientConfig;
use tokio::time::timeout;
use web_transport_proto::{ConnectRequest, ConnectResponse, Settings};

use crate::byte_streams::{ELSEWHERE, HERE, socket_addr};

/// What comes first on a stream: over QUIC, and over WebTransport, where the session has the number 0.
const VISIBLE: &[u8] = &[1];
const VISIBLE_IN_SESSION: &[u8] = &[0x40, 0x41, 0, 1];

/// What comes first on the control stream in a session of WebTransport.
const OF_SESSION: &[u8] = &[0x40, 0x54, 0];

/// How long a move may wait for the other side before it is left out.
const PATIENCE: Duration = Duration::from_millis(50);

/// Attacks listeners of QUIC, or of WebTransport.
#[derive(Clone, Copy)]
pub(crate) struct Quic {
    pub(crate) web: bool,
}

/// The socket of all attackers of this process.
fn endpoint(web: bool, reading: Reading, from: IpAddr, addr: &Addr) -> io::Result<quinn::Endpoint> {
    static ENDPOINTS: LazyLock<Mutex<HashMap<(bool, bool, IpAddr), quinn::Endpoint>>> =
        LazyLock::new(Mutex::default);
    let mut endpoints = ENDPOINTS.lock().unwrap_or_else(PoisonError::into_inner);
    let reads = reading == Reading::Discards;
    if let Some(endpoint) = endpoints.get(&(web, reads, from)) {
        return Ok(endpoint.clone());
    }
    let pins = addr.param("cert-sha256").unwrap_or_default();
    let pins = pins.parse::<CertPins>().map_err(io::Error::other)?;
    let alpn: &[u8] = if web { b"h3" } else { b"pipe/1" };
    let tls = TlsOptions::new().client_config(pins, &[alpn]);
    let tls =
        QuicClientConfig::try_from(tls.map_err(io::Error::other)?).map_err(io::Error::other)?;
    let mut transport = quinn::TransportConfig::default();
    if !reads {
        // What is not read has little room.
        transport.stream_receive_window(2048_u32.into());
    }
    let mut config = quinn::ClientConfig::new(Arc::new(tls));
    config.transport_config(Arc::new(transport));
    let endpoint = quinn::Endpoint::client((from, 0).into());
    let mut endpoint = endpoint.or_else(|_| quinn::Endpoint::client((HERE, 0).into()))?;
    endpoint.set_default_client_config(config);
    endpoints.insert((web, reads, from), endpoint.clone());
    Ok(endpoint)
}

impl Attacker for Quic {
    fn connect<'a>(
        &'a self,
        addr: &'a Addr,
        reading: Reading,
    ) -> BoxFuture<'a, io::Result<Box<dyn Peer>>> {
        async move {
            let endpoint = endpoint(self.web, reading, HERE, addr)?;
            let connecting = endpoint.connect(socket_addr(addr)?, "localhost");
            let conn = connecting.map_err(io::Error::other)?.await?;
            Ok(Box::new(QuicPeer {
                quic: *self,
                conn,
                reading,
                control: None,
                unread: Vec::new(),
                http: Vec::new(),
                streams: HashMap::new(),
                made: Vec::new(),
                pending: 0,
            }) as Box<dyn Peer>)
        }
        .boxed()
    }

    fn stall<'a>(&'a self, addr: &'a Addr) -> BoxFuture<'a, io::Result<Held>> {
        async move {
            let endpoint = endpoint(self.web, Reading::Discards, ELSEWHERE, addr)?;
            let connecting = endpoint.connect(socket_addr(addr)?, "localhost");
            let conn = connecting.map_err(io::Error::other)?.await?;
            let held = async move {
                conn.closed().await;
            };
            Ok(held.boxed())
        }
        .boxed()
    }

    fn number(&self, n: u64) -> u64 {
        // Bidirectional streams of the client (RFC 9000, section 2.1).
        let first = u64::from(self.web);
        4 * (n + first)
    }

    fn lacks(&self, kind: MoveKind) -> Option<&'static str> {
        match kind {
            MoveKind::Excess | MoveKind::Number => Some("QUIC enforces it, and quinn keeps to it"),
            MoveKind::Silence => Some("a listener keeps nothing for a peer that says nothing"),
            MoveKind::Candidates => Some(NO_CANDIDATES),
            MoveKind::Mux => Some("quinn sends no packet that says nothing"),
            _ => None,
        }
    }
}

/// A move that waits to be sent.
enum Made {
    Open(u64),
    Data(u64, Vec<u8>),
    Finish(u64),
    Reset(u64),
    Stop(u64),
    Control(Vec<u8>),
}

struct QuicPeer {
    quic: Quic,
    conn: quinn::Connection,
    reading: Reading,
    control: Option<quinn::SendStream>,
    unread: Vec<quinn::RecvStream>,
    /// What has to stay open of HTTP/3.
    http: Vec<quinn::SendStream>,
    streams: HashMap<u64, (quinn::SendStream, Option<quinn::RecvStream>)>,
    made: Vec<Made>,
    pending: usize,
}

impl QuicPeer {
    fn say(&mut self, frame: &Frame) {
        let mut bytes = BytesMut::new();
        binary::encode(frame, &mut bytes);
        self.push(bytes.len(), Made::Control(bytes.to_vec()));
    }

    /// Asks for a session of WebTransport.
    async fn ask(&mut self) -> io::Result<()> {
        let mut control = self.conn.open_uni().await?;
        let mut settings = Settings::default();
        settings.enable_webtransport(1);
        settings
            .write(&mut control)
            .await
            .map_err(io::Error::other)?;
        let recv = self.conn.accept_uni().await?;
        self.receive(recv);
        let (mut send, mut recv) = self.conn.open_bi().await?;
        let url = "https://127.0.0.1/".parse::<url::Url>();
        let request = ConnectRequest::new(url.map_err(io::Error::other)?);
        request.write(&mut send).await.map_err(io::Error::other)?;
        let answer = ConnectResponse::read(&mut recv).await;
        answer.map_err(io::Error::other)?;
        self.receive(recv);
        self.http.extend([control, send]);
        Ok(())
    }

    /// Reads what comes over a stream, or does not.
    fn receive(&mut self, recv: quinn::RecvStream) {
        if self.reading == Reading::Discards {
            tokio::spawn(discard(recv));
        } else {
            self.unread.push(recv);
        }
    }

    fn push(&mut self, bytes: usize, made: Made) {
        self.pending += bytes + 16;
        self.made.push(made);
    }

    async fn carry_out(&mut self, made: Made) -> io::Result<()> {
        match made {
            Made::Open(n) => {
                // A stream is open for as long as the other side allows no more.
                let Ok(opened) = timeout(PATIENCE, self.conn.open_bi()).await else {
                    return Ok(());
                };
                let (mut send, recv) = opened?;
                let visible = if self.quic.web {
                    VISIBLE_IN_SESSION
                } else {
                    VISIBLE
                };
                send.write_all(visible).await?;
                let recv = match self.reading {
                    Reading::Discards => {
                        tokio::spawn(discard(recv));
                        None
                    }
                    Reading::Never => Some(recv),
                };
                self.streams.insert(n, (send, recv));
            }
            Made::Data(n, bytes) => {
                if let Some((send, _)) = self.streams.get_mut(&n) {
                    let _ = timeout(PATIENCE, send.write_all(&bytes)).await;
                }
            }
            Made::Finish(n) => {
                if let Some((send, _)) = self.streams.get_mut(&n) {
                    let _ = send.finish();
                }
            }
            Made::Reset(n) => {
                if let Some((send, _)) = self.streams.get_mut(&n) {
                    let _ = send.reset(7_u32.into());
                }
            }
            Made::Stop(n) => {
                self.streams.remove(&n);
            }
            Made::Control(bytes) => {
                if let Some(control) = &mut self.control {
                    let _ = timeout(PATIENCE, control.write_all(&bytes)).await;
                }
            }
        }
        Ok(())
    }
}

async fn discard(mut recv: quinn::RecvStream) {
    let mut bytes = vec![0; 16 * 1024];
    while matches!(recv.read(&mut bytes).await, Ok(Some(_))) {}
}

impl Peer for QuicPeer {
    fn greet(&mut self) -> BoxFuture<'_, io::Result<()>> {
        async move {
            if self.quic.web {
                self.ask().await?;
            }
            let mut control = self.conn.open_uni().await?;
            if self.quic.web {
                control.write_all(OF_SESSION).await?;
            }
            self.control = Some(control);
            self.say(&Frame::Hello(Hello {
                max_streams: 256,
                stream_window: 256 * 1024,
                connection_window: 0,
                flight: 0,
                takes_growth: false,
            }));
            self.flush().await?;
            let recv = self.conn.accept_uni().await?;
            self.receive(recv);
            Ok(())
        }
        .boxed()
    }

    fn make(&mut self, action: Move<'_>) -> io::Result<()> {
        match action {
            Move::Open(n) => self.push(1, Made::Open(n)),
            Move::Data(n, bytes) => self.push(bytes.len(), Made::Data(n, bytes.to_vec())),
            Move::End(n, _) => self.push(0, Made::Finish(n)),
            Move::Reset(n) => self.push(0, Made::Reset(n)),
            Move::Stop(n) => self.push(0, Made::Stop(n)),
            Move::Credit(n, bytes) => self.say(&Frame::Stream {
                id: self.quic.number(n),
                frame: StreamFrame::Credit(bytes),
            }),
            Move::Done(n) => self.say(&Frame::Stream {
                id: self.quic.number(n),
                frame: StreamFrame::Done,
            }),
            Move::Ping => self.say(&Frame::Ping([5; PING_LEN])),
            Move::Control(bytes) => self.push(bytes.len(), Made::Control(bytes.to_vec())),
            // What this wire has no words for.
            _ => return Err(io::ErrorKind::Unsupported.into()),
        }
        Ok(())
    }

    fn flush(&mut self) -> BoxFuture<'_, io::Result<()>> {
        async move {
            self.pending = 0;
            for made in std::mem::take(&mut self.made) {
                if self.conn.close_reason().is_some() {
                    return Err(io::ErrorKind::ConnectionReset.into());
                }
                self.carry_out(made).await?;
            }
            Ok(())
        }
        .boxed()
    }

    fn pending(&self) -> usize {
        self.pending
    }
}
