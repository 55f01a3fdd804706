//! Multicast DNS (RFC 6762), as far as candidates need it: browsers hide their addresses behind names
//! of it, and this side may (draft-ietf-mmusic-mdns-ice-candidates).

mod machine;
mod service;

#[cfg(any(fuzzing, test))]
pub(crate) use machine::Machine;
pub(crate) use machine::{Lookup, hidden_name};
pub(crate) use service::{MdnsService, MulticastInterface};
