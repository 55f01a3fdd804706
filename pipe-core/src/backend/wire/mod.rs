//! The control protocol `pipe/1`, without any I/O.
//!
//! What plain multiplexers cannot say (that a stream ended cleanly, with which code it was reset or
//! stopped, why the connection was closed, that no more streams are wanted) goes over one control
//! channel beside the streams, whose bytes stay as they are. `docs/wire.md` specifies it.

mod control;
mod message;
mod outbox;

pub use control::{Control, ControlEvent};
pub use message::{Hello, MAX_PAYLOAD, Message, PING_LEN, random_ping};
pub use outbox::Outbox;
