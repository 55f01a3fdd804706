//! The QUIC transport of pipewerks: `quic://host:port`, on [quinn].
//!
//! [`QuicTransport`] keeps the whole [contract](pipe_core#the-contract) between two ends of
//! pipewerks, and speaks [plain QUIC streams](#plain-quic) to others. A listener without a certificate
//! makes one, and its address can be dialed as it is:
//!
//! ```
//! # tokio::runtime::Builder::new_current_thread().enable_all().build()?.block_on(async {
//! use pipe_core::{Conn, Listener, Transport};
//! use pipe_quic::QuicTransport;
//! use tokio::io::{AsyncReadExt, AsyncWriteExt};
//!
//! let transport = QuicTransport::new();
//! let listener = transport.listen(&"quic://127.0.0.1:0".parse()?).await?;
//! let addr = listener.local_addr();
//! let (client, server) = tokio::try_join!(transport.dial(&addr), listener.accept())?;
//!
//! let mut stream = client.open_stream().await?;
//! stream.write_all(b"hello").await?;
//! stream.shutdown().await?;
//!
//! let mut text = String::new();
//! server.accept_stream().await?.read_to_string(&mut text).await?;
//! assert_eq!(text, "hello");
//!
//! drop(stream);
//! client.drain().await?;
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! # })?;
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! # What it does with the configuration
//!
//! Every setting of [`Config`](pipe_core::Config) counts, with these remarks:
//!
//! - The sender counts `stream_window` and what it grows to, and `connection_window` where it is smaller than all
//!   streams' windows together, so that streams left unread hold up neither pings nor closes. QUIC's own
//!   windows hold a peer that does not: `max_stream_window` for a stream, and for all together
//!   `connection_window` and `window_growth`. Earlier builds, and plain peers (`wire=raw`, with `stream_window`), have
//!   no others; those are of 1 KiB at least.
//! - `max_streams` is counted by the opener: a stream is over when both ends are done with it. QUIC's own
//!   limit, against peers that break the rules, is an eighth above it. quinn keeps a place for each
//!   stream that the peer may open, so thousands cost memory in every connection.
//! - QUIC's idle timeout is twice `failed_after`, and the connection's own clock gives up before it. Of
//!   the two sides' timeouts QUIC uses the shorter one.
//!
//! [`Profile`] says what the paths are like. Datagrams are sent ten at a time where the system can.
//!
//! # Addresses and sockets
//!
//! - A client may change its address, by itself or through address translation: the connection goes on,
//!   and [`remote_addr`](pipe_core::Conn::remote_addr) follows. [`QuicConn::endpoint`] can move to
//!   another socket.
//! - The dials of a transport and its clones share a socket: one for IPv4, one for IPv6, and others in each tokio
//!   runtime that they are made in. [`QuicTransport::with_socket_per_dial`] gives each dial one of its own,
//!   and [`QuicListener::transport`] dials through the listener's.
//! - A socket is closed when no connection needs it, whatever handles are still held; one that dials share is kept for
//!   3 s more as long as there is the transport. A socket that fails takes its connections with it, and the next dial has
//!   a new one.
//! - See [`QuicListener`] for the address of a closed listener.
//! - A dial that has no answer after 3 ms probes, with one byte from a second socket, whether a listener is there: a
//!   dial to a port without a listener is refused at once, where the network reports that.
//!
//! # The end of a connection
//!
//! A close goes over the control stream first and over QUIC when the peer has it, or after 3 s: QUIC's
//! own close is a single packet, and quinn (0.11) does not send it while data waits for the congestion
//! window. A program that ends right after a [`close`](pipe_core::Conn::close) may end before it is
//! sent; [`drain`](pipe_core::Conn::drain) returns when the peer has acknowledged it.
//!
//! # The beginning of a connection
//!
//! A dial takes one round trip, and two where the listener asks for a certificate. Every connection
//! proves anew who its ends are: sessions are not resumed.
//!
//! Early data (0-RTT) is an option of both ends, off by default: the second dial to an address then
//! takes no round trip. It has a price, since an attacker on the path can replay it:
//! [`QuicTransport::with_zero_rtt`] describes when, and the remedies. [`QuicConn::early_data`] and
//! [`QuicConn::confirmed`] report whether the handshake is over.
//!
//! # Plain QUIC
//!
//! With `?wire=raw&alpn=…` ([`Wire::Raw`]) it speaks plain bidirectional streams to another
//! implementation. Events without a message in QUIC do not arrive:
//!
//! - a stream is visible to the peer with its first byte, not when it is opened;
//! - a stream holds its slot until it is over at this side; beyond that, the peer's own limit
//!   counts;
//! - a dial is over before the listener has judged this side's certificate: a refusal ends the
//!   connection a little later;
//! - [`ping`](pipe_core::Conn::ping) is [`Unsupported`](pipe_core::ErrorKind::Unsupported). The peer's QUIC
//!   is asked for signs of life, which says nothing of its program;
//! - [`drain`](pipe_core::Conn::drain) does not keep the peer from opening streams. It waits for
//!   those that are open here and, for what this side has sent, until the peer's QUIC has it;
//! - a [`close`](pipe_core::Conn::close) while much data is under way may not reach the peer, which
//!   then finds out by QUIC's idle timeout: quinn (0.11) does not send it while data waits for the
//!   congestion window. Between two ends of pipewerks it goes another way first;
//! - codes of the peer above `u32::MAX` are reported as `u32::MAX`;
//! - streams in one direction, which the peer may try to open, are not allowed.
//!
//! # On the wire
//!
//! The protocol (ALPN) is `pipe/1`, over version 1 of QUIC (RFC 9000). Messages are frames of
//! [`pipe_core::backend::proto`] in its [binary codec](pipe_core::backend::proto::codec::binary).
//!
//! - Each side opens one stream in one direction, its **control stream**, which lasts as long as the
//!   connection, and sends HELLO first. Until the peer's HELLO has come, no streams are opened. A
//!   control stream that ends, and a second stream of this kind, are against the rules.
//! - Streams of the application are bidirectional. The opener sends the byte 0x01 first, which makes the
//!   stream visible; what follows is the application's. The byte goes with what is written first, or by itself
//!   when the stream is read first or a millisecond has passed. Numbers of streams are QUIC's.
//! - The end, reset and stop of a direction are QUIC's own (FIN, RESET_STREAM, STOP_SENDING), and their
//!   codes are the application's 32 bits.
//! - A peer that does not take what is said over the control stream breaks the rules: 1,024 answers to pings and
//!   messages about 8 × max_streams + 64 streams are kept for it.
//! - PING, PONG, DONE and CREDIT are as over yamux. The windows of streams are counted where both HELLOs have the flag
//!   for growth, and are QUIC's own otherwise. A side with a `connection_window` says CREDIT 4,294,967,295 when the
//!   rest of a direction will not be read.
//! - DRAIN is answered with DRAINED when all streams that its receiver opened are over at both ends.
//! - CLOSE is the last message. Its receiver closes the QUIC connection; its sender does when it is
//!   acknowledged, with the same code and reason.
//! - END, RESET, STOP and TAKEN are against the rules.
//! - A side that resumes a session with early data takes the peer's HELLO to be the one of the connection
//!   that the session is from, and the peer says the same.
//! - A connection that is given up is closed with a code of QUIC above those of the application:
//!   2³² the peer broke the rules, 2³² + 1 it was silent for too long, 2³² + 2 it does not speak `pipe/1`,
//!   2³² + 3 its listener or dialer has gone.
//!
//! # WebTransport on the wire
//!
//! `wt://` ([`WtTransport`]) is the same in a session of WebTransport (draft-ietf-webtrans-http3) over HTTP/3, with the protocol
//! (ALPN) `h3`:
//!
//! - Both sides open the control stream of HTTP/3 with their SETTINGS, which allow one session. The dialer asks for it with an
//!   extended CONNECT (RFC 9220) that offers the subprotocol `pipe.1`, and the listener answers 200. QPACK has no dynamic table.
//! - The control stream of `pipe/1` is the first stream of one direction in the session: 0x40 0x54 and the session's number come
//!   before its HELLO. The dialer opens it without waiting for the answer; the listener says its HELLO when it has the dialer's.
//! - Streams begin with 0x40 0x41, the session's number, and the byte 0x01 (without that byte where the wire is raw).
//! - Codes of streams and of QUIC's close are those of the application in the range that HTTP/3 keeps for WebTransport; the codes
//!   above 2³² are as above.
//! - A close is said by CLOSE, and then by a CLOSE_WEBTRANSPORT_SESSION capsule and the end of the session's own stream. Of a peer
//!   on a raw wire the capsule, or that end, is the close.

mod addr;
mod arrivals;
mod conn;
mod conn_end;
mod conn_inner;
mod control_output;
mod control_stream;
mod desk;
mod dial;
mod dial_endpoints;
mod dialect;
mod door;
mod driver;
mod early;
mod early_data;
mod ends;
mod error;
mod first_packet;
mod handshake;
mod joined;
mod lingering;
mod listener;
mod probe;
mod profile;
mod reception;
mod session;
mod sessions;
mod settings;
mod socket;
mod stream;
mod stream_inner;
mod transport;
mod web;

pub use conn::QuicConn;
pub use early_data::EarlyData;
pub use listener::QuicListener;
pub use pipe_core::Wire;
#[cfg(unix)]
pub use pipe_net::{GivenKind, GivenSocket, listen_fds};
pub use pipe_net::{HttpRequest, HttpVerdict};
pub use pipe_tls::{CertPins, CertSha256, Identity, Roots, TlsOptions};
pub use profile::Profile;
#[cfg(feature = "native")]
pub use quinn;
pub use stream::{QuicRecvStream, QuicSendStream, QuicStream};
pub use transport::QuicTransport;
pub use web::WtTransport;
