//! The peer connection under a pipewerks connection: the only module that uses the `webrtc` crate.
//!
//! Its interface is a [`Peer`], its [`Channel`]s, and their events. Another engine can replace it
//! with the same interface.

mod certificate;
mod channel;
mod checks;
mod crypto;
mod early;
mod external;
mod faults;
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
mod task;
mod tunnel;
mod tunnels;
mod turn_server;
mod vitals;

pub use certificate::Certificate;
pub use channel::ChannelInfo;
pub(crate) use channel::{Channel, ChannelEvent, ChannelOptions};
pub use faults::Faults;
pub(crate) use options::PeerOptions;
pub(crate) use peer::Peer;
pub(crate) use peer_event::{Candidate, IceState, PeerEvent};
pub use stats::{CandidatePair, SctpStats};
pub(crate) use vitals::Vitals;
