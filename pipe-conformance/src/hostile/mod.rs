//! Attacks by hostile peers, as a library.
//!
//! What the contract promises has to hold against peers that break the rules. Each attack runs against a
//! listener whose process is measured, while an innocent peer asks for an echo every few milliseconds and dials
//! again and again:
//!
//! | What | Bound |
//! |---|---|
//! | an innocent echo, 99 of 100 | 20 ms |
//! | an innocent dial, 99 of 100 | 100 ms |
//! | the growth of the heap | twice the connection windows, and a fixed cost of each connection and of the process |
//! | handlers of streams at once | `max_streams` of each connection, and as many while one takes the place of another |
//! | what is left 20 s after the attack | nothing: no handler, connection or descriptor |
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
//! The victim and the attacker are processes of their own: this program once more. The attacks run one after
//! another, and their figures are printed with the matrix.
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
mod innocent;
mod peer;
mod sides;
mod soak;
mod suite;
mod target;
mod victim;
pub mod yamux;

pub use peer::{Attacker, Held, Move, MoveKind, NO_CANDIDATES, Peer, Reading, held};
pub use suite::Suite;
pub use target::Target;
