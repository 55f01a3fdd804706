//! Building blocks of listeners, for authors of transports.
//!
//! A listener has two halves. An [`Accept`] takes in raw connections and makes connections of them; a
//! [`HandshakeQueue`] runs it: handshakes side by side and bounded, the newcomer before the old, finished
//! connections in a bounded queue. A transport whose connections need no handshake uses the
//! [`AcceptQueue`] alone.

mod accept_queue;
mod handshake_queue;
mod handshakes;
mod incoming;
#[cfg(test)]
mod tests;
mod turns;

pub use accept_queue::{AcceptQueue, Place};
pub use handshake_queue::{Accept, FIRST_BYTE_TIMEOUT, HandshakeQueue, MAX_SILENT, Progress};
pub use incoming::{Admission, Admit, Incoming};
