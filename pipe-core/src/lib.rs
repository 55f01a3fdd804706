//! The traits of pipewerks, and the building blocks of every transport.
//!
//! An application is written against [`Transport`], [`Listener`], [`Conn`] and [`Stream`], and runs
//! unchanged over any transport. Applications usually depend on the facade `pipewerks`, which
//! re-exports all of this; an author of a transport depends on this crate.
//!
//! # The contract
//!
//! Every transport promises, on any carrier:
//!
//! | Event | Here | At the peer |
//! |---|---|---|
//! | stream dropped before its shutdown | reset(0), in the background | reads give `Reset`, never `Ok(0)` |
//! | receive half dropped before its end | stop(0) | writes give `Stopped`; the other direction goes on |
//! | shutdown | flushes, then ends this direction; can be repeated | all bytes, then `Ok(0)` for ever |
//! | drop after shutdown | nothing is lost while the connection lives | as above |
//! | reset(c) | pending writes fail | reads give `Reset` with c; unread data may be lost |
//! | stop(c) | one's own reads fail | writes give `Stopped` with c |
//! | close(c, r) | all pending operations give `Closed` at once | `Closed` with c and r; unread data may be lost |
//! | drain | no new streams; waits for the open ones; then close(0) | streams complete, then `Closed` |
//! | last `Conn` and stream dropped | close(0, "") | `Closed`, by the peer, 0 |
//! | peer vanishes | `Disconnected`, then `Failed` by the times in [`Config`] | |
//! | peer does not accept streams | opens succeed to the limit, then wait | a bounded backlog |
//! | a stream stalls unread | its writer waits at the window | every other stream goes on |
//! | listener closed or dropped | `accept` gives `Closed`; the address is free | new dials are refused |
//!
//! A clean end is `Ok(0)`, and comes only after the peer's shutdown: truncation is never silent. A
//! stream is visible to the peer at [`Conn::open_stream`], not at the first write.
//!
//! # For authors of transports
//!
//! The module [`backend`] holds what transports share. The crate `pipe-conformance` tests a transport against
//! the contract.

mod addr;
pub mod backend;
mod config;
mod conn;
mod erased;
mod error;
mod identity;
mod registry;
mod state;
mod stream;
mod sync;
mod transport;
mod wire;

pub use addr::Addr;
pub use backend::{Admit, Incoming};
pub use config::{Config, OnDisconnect};
pub use conn::Conn;
pub use erased::{BoxConn, BoxListener, BoxRecvStream, BoxSendStream, BoxStream, BoxTransport};
pub use error::{CloseReason, Error, ErrorKind, MAX_REASON_LEN, Result};
pub use identity::{PeerIdentity, UnixCredentials};
#[doc(inline)]
pub use pipe_proto::GrowthBudget;
pub use registry::Registry;
pub use state::{ConnState, ConnStats};
pub use stream::{RecvStream, SendStream, Stream};
pub use transport::{Listener, Transport};
pub use wire::Wire;
