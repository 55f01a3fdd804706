//! The peer connection under a pipewerks connection: a [`Peer`], its [`Channel`]s, and their events.
//!
//! There are two of them behind this interface, and [`Engine`](crate::Engine) chooses: [`own`], and the
//! crate `webrtc` in [`webrtc_crate`].

mod certificate;
mod channel;
mod channel_info;
mod event;
#[cfg(feature = "webrtc")]
mod external;
mod faults;
mod options;
mod own;
mod peer;
mod refusals;
mod stats;
mod task;
#[cfg(feature = "webrtc")]
mod webrtc_crate;
mod words;

pub use certificate::Certificate;
pub(crate) use channel::Channel;
pub use channel_info::ChannelInfo;
pub(crate) use channel_info::ChannelOptions;
pub(crate) use event::{Candidate, ChannelEvent, IceState, PeerEvent};
pub use faults::Faults;
pub(crate) use options::PeerOptions;
#[cfg(any(fuzzing, test))]
pub use own::fuzzing;
pub(crate) use own::{ServerAddr, SharedPort};
pub(crate) use peer::{Peer, PeerEvents};
pub use stats::{CandidatePair, SctpStats, UdpPortStats};
#[cfg(feature = "webrtc")]
pub(crate) use webrtc_crate::{Peer as CratePeer, Vitals};
