//! yamux, the multiplexer of pipewerks: many streams over one byte stream, each with its own window, as the
//! [specification](https://github.com/hashicorp/yamux/blob/master/spec.md) has it.

mod core;
mod frame;
mod handle;
mod limits;
mod output;
mod received;
mod remote;
mod session;
mod stream;
mod unread;

pub(crate) use handle::YamuxHandle;
pub(crate) use limits::Limits;
pub(crate) use session::Yamux;
pub(crate) use stream::YamuxStream;

/// The window that every stream has from its start, in bytes.
pub(crate) const WINDOW: u32 = 256 * 1024;

/// The number of the stream that carries the control channel.
pub(crate) const CONTROL: u32 = 1;

/// How much one frame carries at most, in bytes: a longer one delays other streams.
const FRAME: usize = 64 * 1024;
