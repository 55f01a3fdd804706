//! Connections over a session: what all bindings have in common.

mod conn;
mod conn_ref;
mod core;
mod deferred;
mod half;
mod macros;
mod stream_ref;

pub use self::core::{Apart, SessionCore, SessionState};
#[doc(inline)]
pub use crate::__session_conn as session_conn;
#[doc(inline)]
pub use crate::__session_stream as session_stream;
pub use conn::{Changes, SessionConn, State};
pub use conn_ref::ConnRef;
pub use deferred::Deferred;
pub use half::{Half, SessionIo};
pub use stream_ref::{StreamBase, StreamInner, StreamRef, StreamState};
