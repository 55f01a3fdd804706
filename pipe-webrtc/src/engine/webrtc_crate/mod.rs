//! The engine of the crate `webrtc`: the only module that uses it.

mod channel;
mod checks;
mod crypto;
mod early;
mod gaps;
mod message_size;
mod options;
mod peer;
mod peer_event;
mod refusals;
mod resets;
mod runtime;
mod sctp_filter;
mod socket;
mod stats;
mod tunnel;
mod tunnels;
mod turn_server;
mod vitals;

pub(crate) use channel::Channel;
pub(crate) use peer::Peer;
pub(crate) use vitals::Vitals;

/// Maximum number of bytes of streams that the engine keeps until they have arrived. It has room for what is no stream's
/// besides.
pub(crate) const MAX_FLIGHT: usize = 6 * 1024 * 1024;
