//! Attacks by hostile peers, as a library.
//!
//! What the contract promises has to hold against peers that break the rules. Each attack runs against a
//! listener whose process is measured, while an innocent peer asks for an echo every few milliseconds and dials
//! again and again:
//!
//! | What | Bound, with `PIPE_HOSTILE_SLACK=1` |
//! |---|---|
//! | an innocent echo, 99 of 100 | 20 ms, or 3 times what it takes before the attack |
//! | an innocent dial, 99 of 100 | 50 ms, or 3 times what it takes before the attack; 300 ms where it has to take the place of another handshake |
//! | the growth of the heap | a small cost of each connection and of the process; where windows are filled, twice the connection windows as well |
//! | the growth of the heap and of the resident bytes, where streams are not read | 2.2 times the connection window with a thousand streams, and 3 MiB for a connection with the settings for strangers; with what a target says that its streams cost |
//! | handlers of streams at once | `max_streams` of each connection, and as many while one takes the place of another |
//! | time on a processor for so many bytes | 5 times that of the easy way to send as many, where an attack asks for much work |
//! | packets to addresses that a peer names | 8 to each of 64 for an attempt |
//! | what is left 20 s after the attack | nothing: no handler, connection or descriptor, and 2 MiB of the heap at most |
//!
//! With more slack the machine counts as shared: 3 times what an innocent peer of a second listener waits at the
//! same time, which is not attacked, is allowed as well. An attack whose latencies are beyond the bounds is made
//! up to three times.
//!
//! A panic in the process fails the attack, too.
//!
//! The attacks through the public traits need nothing but a [`Fixture`](crate::Fixture). Those on the wire are
//! written in [moves](Move), which an [`Attacker`] puts on the wire of the transport; [`yamux`] is one for any
//! byte stream.
//!
//! ```no_run
//! # struct Mine;
//! # impl pipe_conformance::Fixture for Mine {
//! #     type Transport = pipe_core::BoxTransport;
//! #     fn name(&self) -> &str { "mine" }
//! #     fn setup(&self, _: pipe_core::Config)
//! #         -> pipe_core::Result<pipe_conformance::Setup<Self::Transport>> { unreachable!() }
//! #     fn listen_addr(&self) -> pipe_core::Addr { unreachable!() }
//! #     fn vacant_addr(&self) -> pipe_core::Addr { unreachable!() }
//! # }
//! use pipe_conformance::hostile::{Suite, Target};
//!
//! fn main() -> std::process::ExitCode {
//!     Suite::new().with(Target::new(Mine)).main()
//! }
//! ```
//!
//! The victim and the attacker are processes of their own: this program once more. The attacks are measured one
//! after another; while one is, others wait until nothing is left of theirs, as many as `--test-threads` says. Their
//! figures are printed with the matrix.
//!
//! # The attacks
//!
//! | Attack | What the peer does | What has to hold |
//! |---|---|---|
//! | `rapid_reset` | opens, resets and stops streams, as many as are allowed at once | a place belongs to the application until it has let go: bounded handlers |
//! | `rapid_reset_at_once` | the same without a pause | as above, and the others are served |
//! | `unread_windows` | sends beyond all windows to handlers that do not read | the receiver enforces the windows: bounded memory |
//! | `one_byte_frames_unread` | fills the windows in frames of one byte | a byte costs no more memory than is counted for it |
//! | `bytes_before_the_hello` | opens and sends before its hello | nothing is kept for a peer before its hello |
//! | `numbers_used_again` | uses numbers of streams again, and goes | entries are not overwritten: no handler and no descriptor stays |
//! | `silent_handshakes` | 400 connections that say nothing | silent peers take no place: dials are not held up |
//! | `streams_beyond_the_limit` | opens streams beyond the limit | `max_streams` means itself: bounded handlers |
//! | `colliding_numbers` | uses numbers that collide in an unkeyed hash | tables are keyed or ordered: bounded work |
//! | `pings_without_end`, `answers_that_are_never_read`, `pings_at_once` | pings without end, and without reading the answers | answers are bounded |
//! | `output_that_is_never_read`, `credit_that_is_never_read` | makes the listener say much, and does not read | what this side has to say is bounded and merged |
//! | `messages_about_unknown_streams` | messages about streams that do not come | they are bounded and looked at once: bounded work |
//! | `one_byte_credits` | lets many writers go byte by byte | credit wakes those that can go on: bounded work |
//! | `one_byte_messages`, `idle_frames` | messages in frames of one byte, and frames that say nothing | a turn is bounded: the others are served |
//! | `streams_whose_end_does_not_come` | streams that are stopped and do not end | a stream that lingers costs no work by itself |
//! | `candidates_without_end` | names a thousand addresses that do not answer (WebRTC), some in long candidates before its offer | few packets for each attempt, bounded memory |
//! | `handshakes_that_stall` | 400 connections of another source that begin their handshake and stall | a source that has few comes first: dials get a place |
//! | `opens_and_drops`, `writes_and_never_reads`, `dials_and_drops`, `one_byte_writes`, `holds_all_streams`, `closes_in_the_middle` | the same kinds through the public traits: opens and drops, does not read, dials and drops, writes single bytes, holds all streams, closes in the middle | as above |
//! | `a_thousand_streams_of_single_bytes`, `a_thousand_streams_of_small_messages`, `a_thousand_full_windows` | fills the windows of a thousand streams that are not read: byte by byte, by messages of 100 bytes, and a stream at a time | memory follows the bytes that are counted, whatever the sizes of frames and messages |
//! | `a_stranger_sends_single_bytes`, `a_stranger_sends_small_messages`, `a_stranger_fills_windows` | the same on eight connections, with the settings for strangers | a connection costs 3 MiB at most |
//! | `a_thousand_streams_beside_one_that_is_read`, `a_stranger_sends_beside_what_is_read` | sends single bytes on streams that are not read, between many on one that is | bytes that lie hold no memory of those that were read |
//!
//! # Environment variables
//!
//! - `PIPE_HOSTILE_SECONDS`: how long each attack goes on, 1 by default.
//! - `PIPE_HOSTILE_SLACK`: how many times the bounds of latency are allowed, 5 by default, since the three sides
//!   share one machine; 1 on a quiet one.
//! - `PIPE_HOSTILE_SOAK`: `TARGET SECONDS` runs a soak instead: a slow reader, a stalled one, ten connections a
//!   second, and one attack after another. It prints the curve of memory and descriptors every
//!   `PIPE_HOSTILE_EVERY` seconds (10), and whether it was flat.
//! - `PIPE_HOSTILE_ROLE`: set by the suite itself for the processes that it starts.

mod attack;
mod catalog;
mod environment;
mod innocent;
mod machine;
mod memory;
mod on_wire;
mod peer;
mod setting;
mod sides;
mod soak;
mod suite;
mod target;
mod through_traits;
mod victim;
pub mod yamux;

pub use peer::{Attacker, Held, Move, MoveKind, NO_CANDIDATES, Peer, Reading, held};
pub use suite::{Suite, play, run_attack};
pub use target::Target;
