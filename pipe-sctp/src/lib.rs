//! SCTP for WebRTC data channels, as a state machine without I/O.
//!
//! An [`Association`] takes packets out of a DTLS connection with
//! [`handle_packet`](Association::handle_packet), gives packets for it with
//! [`poll_transmit`](Association::poll_transmit), and is told the time. It opens no socket, starts no task and reads
//! no clock.
//!
//! It speaks RFC 9260 as RFC 8831 needs it, with stream resets (RFC 6525), partial reliability (RFC 3758,
//! RFC 7496), interleaved messages (RFC 8260), the I bit (RFC 7053) and packets without checksum inside DTLS
//! (RFC 9653). Losses are found by time (RACK and tail-loss probes, RFC 8985); the congestion window is CUBIC's
//! (RFC 9438) and paced. [`dcep`] reads and writes the messages that open data channels (RFC 8832).
//!
//! # Examples
//!
//! ```
//! use bytes::Bytes;
//! use pipe_sctp::{Association, Config, SendOptions};
//! use std::time::Instant;
//!
//! let now = Instant::now();
//! let mut a = Association::new(Config::default(), 1, now);
//! let mut b = Association::new(Config::default(), 2, now);
//! a.connect(now);
//! a.send(now, 0, 53, Bytes::from_static(b"hello"), SendOptions::default())?;
//! let message = loop {
//!     while let Some(packet) = a.poll_transmit(now) {
//!         b.handle_packet(now, packet);
//!     }
//!     if let Some(message) = b.poll_message() {
//!         break message;
//!     }
//!     while let Some(packet) = b.poll_transmit(now) {
//!         a.handle_packet(now, packet);
//!     }
//! };
//! assert_eq!(&message.payload[..], b"hello");
//! # Ok::<(), pipe_sctp::SendError>(())
//! ```

#![forbid(unsafe_code)]

mod association;
mod chunk;
mod config;
pub mod congestion;
mod cookie;
pub mod dcep;
mod event;
mod packet;
mod param;
mod range_set;
mod receive;
mod reset;
mod rtt;
mod send;
mod stats;
mod timers;
mod tsn;
mod wire;

pub use crate::{
    association::Association,
    config::Config,
    congestion::CongestionKind,
    event::{CloseReason, Event, Message, SendError, SendOptions, State},
    stats::Stats,
};
