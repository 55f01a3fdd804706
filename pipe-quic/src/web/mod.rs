//! WebTransport over HTTP/3 (RFC 9114, RFC 9220, draft-ietf-webtrans-http3): how a connection becomes a session.

mod dialing;
mod gate;
mod one_ways;
mod session;
mod transport;

pub(crate) use dialing::{WebDial, ask, explain};
pub(crate) use gate::{Gate, receive};
pub(crate) use session::{WebSession, open_one_way};
pub use transport::WtTransport;
