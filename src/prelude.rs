//! The traits, to be imported all at once: `use pipewerks::prelude::*;`.

pub use pipe_core::{Conn, Listener, RecvStream, SendStream, Stream, Transport};
