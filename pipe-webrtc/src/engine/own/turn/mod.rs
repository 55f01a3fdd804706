//! A client of TURN (RFC 8656), without I/O.

mod client;
mod config;
mod event;
mod framing;
mod peers;
mod referral;
mod refusal;
mod request;
mod stream;
#[cfg(test)]
mod tests;

pub(crate) use client::TurnClient;
pub(crate) use config::TurnConfig;
pub(crate) use event::{Relayed, TurnEvent, TurnInput};
pub(crate) use referral::Referral;
pub(crate) use stream::{Connecting, StreamInput, TurnStream};
