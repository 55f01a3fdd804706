#![doc = include_str!("../README.md")]
//!
//! - [`Frame`] and [`StreamFrame`] are the vocabulary of `pipe/1`; [`codec`] writes them as bytes or as lines of
//!   text. `docs/wire.md` and `docs/wire-webrtc.md` specify both.
//! - [`Stream`] keeps the state of one stream: a [`SendHalf`], a [`RecvHalf`], and the frames that it has to send.
//! - [`Session`] keeps the state of one connection: its streams, the handshake, pings, liveness, drain and close.
//! - [`Windows`] decides which windows grow with the path, for sessions and for transports without one.
//! - [`Carrier`] names what the multiplexer below does by itself, so that no frame says it again.
//!
//! The caller moves the bytes: it passes in frames, byte counts and the time, and takes out frames and events.

mod carrier;
pub mod codec;
mod control;
mod drain;
mod event;
mod frame;
mod growth_budget;
mod liveness;
mod orphans;
mod pings;
mod recv;
mod send;
mod session;
mod stream;
mod timers;
mod usage;
mod violation;
mod windows;

pub use carrier::{Carrier, DrainMode};
pub use event::{Event, OpenError, Totals};
pub use frame::{Frame, Hello, MAX_REASON_LEN, PING_LEN, PingBytes, StreamFrame};
pub use growth_budget::GrowthBudget;
pub use liveness::{Liveness, LivenessEvent};
pub use recv::{RecvError, RecvHalf};
pub use send::{SendError, SendHalf};
pub use session::{Session, SessionConfig, StreamHandle};
pub use stream::{Origin, Reaction, Stream};
pub use violation::{Violation, ViolationKind};
pub use windows::{GrantedGrowth, Growth, Windows};
