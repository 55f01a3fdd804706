//! Building blocks for authors of transports.
//!
//! An application needs nothing of this. It changes more often than the rest of the crate.
//!
//! - **Listeners.** An [`Accept`] takes in raw connections and makes connections of them; a
//!   [`HandshakeQueue`] runs it: handshakes side by side and bounded, the newcomer before the old, finished
//!   connections in a bounded queue. A transport whose connections need no handshake uses the
//!   [`AcceptQueue`] alone. An [`Admission`] decides who is taken in.
//! - **The session**: [`proto`] has the frames and the rules of a connection without I/O. [`send_error`],
//!   [`recv_error`] and [`open_error`] turn its errors into those of this crate.
//! - **Connections over a session**: a transport implements [`SessionConn`], whose hooks say what is particular to its
//!   carrier, and [`SessionIo`], which moves bytes. [`session_conn!`] and [`session_stream!`] define its public types. What
//!   these share is a [`SessionCore`], a [`StreamRef`] for each stream, and a [`Half`] for each direction of one.
//! - **Bindings**: for streams that exist already, a [`Binding`] gives each its [`StreamIo`], and [`BoundConn`] and
//!   [`BoundStream`] are its connections and streams.
//! - **Connections.** [`ConnStatus`] keeps the state and the end in step, with the first reason; [`Liveness`]
//!   decides about pings and failure by silence; [`StreamSlots`] has opens wait at the limit; [`ConnWindow`]
//!   bounds what all streams hold; [`Backlog`] queues the streams that wait to be accepted;
//!   [`PeerWindows`] counts the credit of a peer; [`Pings`] sends the pings of the application.
//! - **Streams.** [`joined_stream!`] makes a stream of its halves; [`proto::SendHalf`] and [`proto::RecvHalf`] say how
//!   a direction stands.
//! - **Dials**: [`race`] tries several ways to a peer as RFC 8305 (Happy Eyeballs) has it, and [`furthest`] picks the error
//!   where all fail.
//! - [`dial_within`], [`protocol`] and [`random_ping`] are for what all transports do alike; [`first_bytes`] cuts a
//!   vectored write to a window; [`fmt_conn`] shows a connection.

mod accept;
mod accept_queue;
mod backlog;
mod bound;
mod close_cell;
mod common;
mod handshake_queue;
mod handshakes;
mod incoming;
mod joined_stream;
mod peer_windows;
mod pings;
mod progress;
mod race;
mod session;
mod session_conn;
mod slots;
mod status;
#[cfg(test)]
mod tests;
mod turns;
mod window;

#[doc(inline)]
pub use crate::__joined_stream as joined_stream;
pub use accept::{Accept, MAX_SILENT};
pub use accept_queue::{AcceptQueue, Place};
pub use backlog::Backlog;
pub use bound::{
    Binding, BoundConn, BoundRecvStream, BoundSendStream, BoundStream, ConnCore, DriverGuard,
    IoState, NextId, StreamCore, StreamIo,
};
pub use common::{dial_within, first_bytes, fmt_conn, now, protocol, random_ping};
pub use handshake_queue::HandshakeQueue;
pub use incoming::{Admission, Admit, Incoming};
pub use peer_windows::PeerWindows;
pub use pings::{PingWaiter, Pings};
pub use pipe_proto as proto;
pub use pipe_proto::{Liveness, LivenessEvent};
pub use progress::{FIRST_BYTE_TIMEOUT, Progress};
pub use race::{furthest, race};
pub use session::{liveness, lost, open_error, recv_error, send_error};
pub use session_conn::{
    Apart, Changes, ConnRef, Deferred, Half, SessionConn, SessionCore, SessionIo, SessionState,
    State, StreamBase, StreamInner, StreamRef, StreamState, session_conn, session_stream,
};
pub use slots::{StreamSlot, StreamSlots};
pub use status::ConnStatus;
pub use window::{ConnWindow, WindowTicket};
