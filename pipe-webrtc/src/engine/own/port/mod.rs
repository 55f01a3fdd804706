//! One UDP port for many connections: a socket for each local address, and for each datagram the connection
//! that it is for.

mod inbox;
mod membership;
mod peek;
mod shared_port;
mod socket;
mod table;

pub(super) use inbox::{Datagrams, Inbox};
pub(super) use membership::Membership;
pub(crate) use shared_port::{PortSockets, SharedPort};
pub(super) use socket::PortSender;
pub(super) use table::Proof;
