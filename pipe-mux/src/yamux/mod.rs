//! The frames of yamux, the multiplexer of pipewerks, as its
//! [specification](https://github.com/hashicorp/yamux/blob/master/spec.md) has them, and the buffers on both sides
//! of the byte stream.

pub(crate) mod frame;
mod input;
mod limits;
mod numbers;
mod output;
mod pace;
mod received;
mod unread;

pub(crate) use frame::{Header, broken};
pub(crate) use input::Input;
pub(crate) use limits::Limits;
pub(crate) use numbers::LateNumbers;
pub(crate) use output::Output;
pub(crate) use received::Received;
pub(crate) use unread::Unread;

/// The window that every stream has from its start, in bytes.
pub(crate) const WINDOW: u32 = 256 * 1024;

/// The number of the stream that carries the control channel.
pub(crate) const CONTROL: u32 = 1;

/// The longest body of a data frame that this side sends, in bytes: a longer one delays other streams.
pub(crate) const MAX_BODY: usize = 64 * 1024;
