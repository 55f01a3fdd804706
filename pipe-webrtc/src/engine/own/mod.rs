//! The engine of this crate: ICE, DTLS and SCTP without I/O under one task, which owns its sockets and one
//! timer.

mod alert;
mod candidate;
mod channel;
mod channel_state;
mod channels;
mod core;
mod credentials;
mod dtls;
mod dtls_transport;
mod events;
mod fingerprint;
#[cfg(any(fuzzing, test))]
pub mod fuzzing;
mod gather;
mod gathering;
mod held;
mod ice;
mod mdns;
mod names;
mod outgoing;
mod payload;
mod peer;
mod port;
mod relays;
mod resolver;
mod routes;
mod run;
mod sctp_transport;
mod sdp;
mod server;
mod shared;
mod socket;
mod sockets;
mod stun;
mod transmit;
mod turn;
mod unread;
mod vitals;

pub(crate) use channel::Channel;
pub(crate) use peer::{Events, MAX_FLIGHT, Peer};
pub(crate) use port::{PortSockets, SharedPort};
pub(crate) use server::ServerAddr;
