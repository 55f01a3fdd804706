//! The peer connection under a pipewerks connection: the one place that knows the `webrtc` crate.
//!
//! What the others see of it are a [`Peer`], its [`Channel`]s, and their events. Another engine takes
//! its place by offering the same.

mod certificate;
mod channel;
mod external;
mod faults;
mod peer;
mod refusals;
mod runtime;
mod task;

pub use certificate::Certificate;
pub use channel::ChannelInfo;
pub(crate) use channel::{Channel, ChannelEvent, ChannelOptions};
pub use faults::Faults;
pub(crate) use peer::{Candidate, IceState, Peer, PeerEvent, PeerOptions};
pub use peer::{CandidatePair, SctpStats};
