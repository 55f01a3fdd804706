//! The in-process transport of pipewerks: `inproc://name`.
//!
//! It is as strict as a real network: streams have bounded windows, opens wait at the limit, a drop
//! is a reset, and unread data is lost with its connection. So a program that works here works over
//! the other transports, and its tests run without a socket.
//!
//! The [`Link`] under a connection can be slowed, cut and healed while the connection lives, so that
//! a program meets bad networks before it leaves its process; driven by tokio's clock, it needs no
//! real waiting under paused time. On an ideal link there is no task and no timer: a write copies
//! into a ring, a read copies out of it.

mod conn;
mod conn_core;
mod credit;
mod desk;
mod event;
mod handle;
mod lane;
mod link;
mod listener;
mod name;
mod namespace;
mod pings;
mod pipe;
mod profile;
mod pump;
mod ring;
mod side;
mod stream;
mod stream_core;
mod sync;
mod transport;
mod wire;

pub use conn::InprocConn;
pub use link::Link;
pub use listener::InprocListener;
pub use namespace::Namespace;
pub use profile::LinkProfile;
pub use stream::{InprocRecvStream, InprocSendStream, InprocStream};
pub use transport::InprocTransport;
