//! Signalling by requests over HTTP, in the shape of WHIP (RFC 9725).

mod addr;
mod answering;
mod body;
mod client;
mod dialing;
mod door;
mod fragment;
mod gate;
mod offers;
mod refusal;
mod resources;
mod service;
mod transport;
mod wire;

pub use service::WhipService;
pub use transport::WhipTransport;
