//! Measures pipewerks side by side with the alternatives of a user.
//!
//! ```text
//! cargo run --release -p pipe-bench -- inproc
//! cargo run --release -p pipe-bench -- tcp
//! cargo run --release -p pipe-bench -- ws
//! cargo run --release -p pipe-bench -- quic
//! cargo run --release -p pipe-bench -- webrtc
//! cargo run --release -p pipe-bench -- wan
//! cargo run --release -p pipe-bench --features rivals -- rivals
//! ```
//!
//! # How it measures
//!
//! A [`Scenario`] has several [contenders](Scenario::contender): ours first, then the alternatives.
//! [`interleave`] runs them in turn, round by round in one process, so that whatever else the machine
//! does meets all of them alike. The first round warms up and does not count. A figure is the median
//! of the other rounds, shown with its spread and with the median of the rounds' ratios of ours to each
//! alternative; figures of different runs of the program are not to be compared. Some figures have a
//! [`Goal`].
//!
//! # What it measures with
//!
//! [`Lane`] moves bytes from a writer to a reader, with buffers at chosen offsets in their pages;
//! [`extremes`] finds the offsets where that is fastest and slowest; [`copies`] does the same for plain
//! copies. [`round_trip`] sends a message to and fro.
//! [`echo_streams`] opens, uses and ends streams, [`connect_times`] connections. [`idle_streams`] and
//! [`idle_conns`] count their memory. They
//! work over anything that has streams of bytes: see [`Opener`] and [`Acceptor`].

mod alignment;
mod cells;
mod conns;
mod copies;
mod idle;
pub mod inproc;
mod interleave;
mod lane;
mod measure;
#[path = "../../pipe-ws/tests/it/messages.rs"]
mod messages;
mod opener;
mod page_buffer;
pub mod quic;
mod report;
#[cfg(feature = "rivals")]
pub mod rivals;
mod round_trip;
mod scenario;
mod streams;
mod summary;
pub mod tcp;
#[cfg(unix)]
pub mod wan;
pub mod webrtc;
pub mod ws;
pub mod wt;
mod yamux_crate;

pub use alignment::{Extremes, extremes};
pub use conns::connect_times;
pub use copies::copies;
pub use idle::{Heap, SETTLE, idle_conns, idle_streams};
pub use interleave::interleave;
pub use lane::{Lane, Transfer};
pub use opener::{Acceptor, ByteStream, ConnStreams, Opener};
pub use page_buffer::{PAGE, PageBuffer};
pub use report::{Comparison, Environment, Report, Row};
pub use round_trip::{round_trip, round_trip_beside};
pub use scenario::{Better, Figure, Flavor, Goal, Scenario};
pub use streams::echo_streams;
pub use summary::Summary;
