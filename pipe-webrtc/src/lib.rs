//! The WebRTC transport of pipewerks: `webrtc+tcp://`, `webrtc+inproc://` and so on.
//!
//! A [`WebRtcTransport`] signals over another transport and then finds a direct path to the peer.
//! One peer connection is a [`WebRtcConn`], and its data channels carry the streams, with the whole
//! [contract](pipe_core#the-contract): text messages beside the bytes carry the events that data
//! channels lack, so that a page in a browser can use it too (`docs/wire-webrtc.md`). [`Wire::Raw`]
//! reaches peers with plain data channels.
//!
//! # Signalling
//!
//! `webrtc+tcp://host:port` signals over the transport of `tcp://`, and so on for every scheme of the
//! transport that [`WebRtcTransport::new`] is given. `webrtc+http://host:port/path` and `webrtc+https://…` signal by requests over
//! HTTP, in the shape of WHIP: those are addresses of `WhipTransport`, behind the feature `http`. A program with a channel of its own implements
//! [`Signaling`] and uses [`WebRtcTransport::offer_over`] and [`WebRtcTransport::answer_over`]; a person
//! carries one text each way with [`WebRtcTransport::offer_by_hand`].
//!
//! # Properties of the transport below
//!
//! - There are two engines, and [`Engine`] chooses: that of this crate, and the crate `webrtc` behind the
//!   feature `webrtc`.
//! - After a cut, bytes that were on their way go out again within a second of the path's return. On the
//!   crate they wait for its timer, which doubles from 1 s up to 60 s while the cut lasts (RFC 9260, section
//!   6.3.3): a cut of 10 s may hold bytes up for 16 s.
//! - Each channel that has carried a stream is kept for the next one. A connection keeps as many as it
//!   had streams open at once, up to twice that, of about 14 KiB each.

mod addr;
mod candidates;
mod command;
mod conn;
mod driver;
mod engine;
mod error;
mod establish;
mod events;
mod filter;
#[cfg(feature = "http")]
mod http;
mod ice_server;
mod interfaces;
mod listener;
mod negotiation;
mod outbound;
mod outbox;
mod settings;
mod setup;
mod shared;
pub mod signaling;
mod stream;
mod stream_core;
mod transport;
mod wire;

pub use conn::WebRtcConn;
#[cfg(any(fuzzing, test))]
#[doc(hidden)]
pub use engine::fuzzing;
pub use engine::{CandidatePair, Certificate, ChannelInfo, Faults, SctpStats, UdpPortStats};
pub use events::{ConnEvent, ConnEvents};
pub use filter::{AddrFilter, InterfaceFilter, Network};
#[cfg(feature = "http")]
pub use http::{WhipService, WhipTransport};
pub use ice_server::IceServer;
pub use listener::WebRtcListener;
pub use pipe_net::{HostPort, NoProxy, Proxy, TcpDialer};
#[cfg(feature = "http")]
pub use pipe_net::{HttpRequest, HttpVerdict, ProxyProtocol, SocketOptions};
#[cfg(feature = "http")]
pub use pipe_tls::CertSha256;
pub use pipe_tls::{Identity, Roots, TlsOptions};
pub use settings::{Engine, WebRtcSettings, default_config};
pub use signaling::{Answered, MemorySignaling, Offered, Signaling, StreamSignaling};
pub use stream::{Message, WebRtcRecvStream, WebRtcSendStream, WebRtcStream};
pub use transport::WebRtcTransport;
pub use wire::Wire;
