//! The messages that two sides exchange before a connection is made, and their carriers.

mod by_hand;
mod memory;
mod message;
mod stream;

use std::future::Future;

use pipe_core::Result;

pub use by_hand::{Answered, Offered};
pub(crate) use by_hand::{ConnTask, Hand, Reply, hand, write};
pub use memory::MemorySignaling;
pub use message::{Description, IceCandidate, MAX_SIGNAL_LEN, Refusal, SIGNALING_VERSION, Signal};
pub use stream::StreamSignaling;

/// A channel between the two sides of a negotiation: it carries [`Signal`]s in both directions, in
/// their order.
///
/// It has to be authentic: the fingerprint that a description carries is what the peer's certificate
/// is checked against. It stays in use after the connection is made, for restarts of ICE, as long as it
/// lives.
pub trait Signaling: Send + 'static {
    /// Sends a message.
    ///
    /// # Errors
    ///
    /// An error ends the negotiation.
    fn send(&mut self, signal: Signal) -> impl Future<Output = Result<()>> + Send;

    /// Waits for the next message; `None` once the other side has ended the channel.
    ///
    /// # Errors
    ///
    /// An error ends the negotiation.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future must lose no message.
    fn receive(&mut self) -> impl Future<Output = Result<Option<Signal>>> + Send;

    /// Returns whether the side that answers can send [`Signal::Restart`]. Where it cannot, ICE restarts when the other
    /// side finds that it has to. It can by default.
    fn can_ask_for_restarts(&self) -> bool {
        true
    }
}
