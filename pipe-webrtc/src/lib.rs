//! The WebRTC transport of pipewerks: `webrtc+tcp://`, `webrtc+inproc://` and so on.
//!
//! A [`WebRtcTransport`] signals over another transport and then finds a direct path to the peer. One
//! peer connection is a [`WebRtcConn`], and its data channels carry the streams, with the whole
//! [contract](pipe_core#the-contract): what data channels cannot say by themselves is said in text
//! messages beside the bytes, so that a page in a browser can speak it too.

mod conn;
mod driver;
mod engine;
mod error;
mod establish;
mod listener;
mod negotiation;
mod outbound;
mod outbox;
mod settings;
mod shared;
pub mod signaling;
mod stream;
mod stream_core;
mod transport;
mod wire;

pub use conn::WebRtcConn;
pub use engine::{CandidatePair, Certificate, ChannelInfo, Faults, SctpStats};
pub use listener::WebRtcListener;
pub use settings::{AddrFilter, IceServer, InterfaceFilter, Network, WebRtcSettings};
pub use signaling::{Answered, MemorySignaling, Offered, Signaling, StreamSignaling};
pub use stream::{Message, WebRtcRecvStream, WebRtcSendStream, WebRtcStream};
pub use transport::WebRtcTransport;
pub use wire::Wire;
