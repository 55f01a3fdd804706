//! The conformance suite of pipewerks.
//!
//! A program that works over one transport works over all of them, as long as every transport keeps
//! the [contract](pipe_core#the-contract). This crate tests one against it, in cases of a named
//! behaviour each, run with the dialer opening the streams and with the listener opening them, with random
//! payloads from a printed seed. Each runs through the erased types, for which it is compiled once; some
//! that show each kind of call run through the transport's own types as well.
//!
//! # Testing a transport
//!
//! A [`Fixture`] tells the suite how to make the transport, and [`conformance!`] makes the `main` of a
//! test target that has `harness = false`:
//!
//! ```
//! use pipe_conformance::{Capability, Fixture, Setup, conformance};
//! use pipe_core::{Addr, Config, Result};
//! use pipe_inproc::InprocTransport;
//!
//! struct Inproc;
//!
//! impl Fixture for Inproc {
//!     type Transport = InprocTransport;
//!
//!     fn name(&self) -> &str {
//!         "inproc"
//!     }
//!
//!     fn setup(&self, config: Config) -> Result<Setup<InprocTransport>> {
//!         Ok(Setup::new(InprocTransport::new().with_config(config)?))
//!     }
//!
//!     fn listen_addr(&self) -> Addr {
//!         let name = format!("inproc://inproc-{}", fastrand::u64(..));
//!         name.parse().expect("a name with a number")
//!     }
//!
//!     fn vacant_addr(&self) -> Addr {
//!         self.listen_addr()
//!     }
//!
//!     fn lacks(&self) -> Vec<(Capability, &'static str)> {
//!         vec![(Capability::Faults, "this fixture keeps its link to itself")]
//!     }
//! }
//!
//! conformance!(Inproc);
//! ```
//!
//! A transport whose bytes another one carries, such as TCP, is cut like a cable: [`Cabled`] puts a [`Cable`] in front
//! of its listeners.
//!
//! Each case is a trial of the name `fixture/mode/behaviour`, such as
//! `inproc/erased/a_reset_reaches_the_peers_read`, and the program takes the arguments of Rust's
//! own test harness: a filter, `--exact`, `--list`, `--skip`, `--test-threads`.
//!
//! # Outcomes
//!
//! A case fails when it panics, when anything else on the threads of its runtime panics (a background
//! task of the transport, say), when it is not over within [`Fixture::limit`], and when it blocks its
//! threads. It is skipped only if the fixture [lacks](Fixture::lacks) what it needs; the reason is
//! printed.
//!
//! At the end the program prints a matrix of the cases and the transports. If nothing was filtered
//! out, it also writes it to `conformance/PACKAGE-TEST.md` in cargo's target folder.
//!
//! # The machine's pace
//!
//! Time limits count ticks that the process was awake for, so a machine that stalls fails nothing. A
//! fixture on a simulated link can have [paused time](Clock::Paused) instead, where no wait takes any.
//!
//! # Environment variables
//!
//! - `PIPE_CONFORMANCE_SEED`: the seed of the payloads, a number; random by default. A case that fails
//!   prints its seed.
//! - `PIPE_CONFORMANCE_MATRIX`: the path to write the matrix to.
//! - `PIPE_CONFORMANCE_ISOLATED`: set by the suite itself when it runs a case that measures memory or
//!   file descriptors in a process of its own.
//!
//! # Features
//!
//! `count-heap` (on by default) sets a global allocator that counts what is in use, for the cases
//! about memory. A test target with a global allocator of its own has to switch it off.

mod cable;
mod case;
mod cases;
mod clock;
mod echo;
mod ending;
mod env;
mod expect;
mod fixture;
pub mod hostile;
mod interrupt;
mod matrix;
mod measure;
mod mode;
mod panics;
mod payload;
mod run;
mod service;
mod start;
mod subject;
mod suite;
mod threads;
mod time;
mod waits;
mod window;

pub use cable::{Cable, Cabled, CabledListener};
pub use fixture::{Capability, Clock, Faults, Fixture, Setup, Stalled};
pub use mode::Mode;
pub use run::{Outcome, case_names, run_case};
pub use suite::Suite;

/// The `main` of a test target with `harness = false`: every case for each of these
/// [fixtures](Fixture). See the [crate's docs](crate) for an example.
///
/// It is short for [`Suite::main`].
#[macro_export]
macro_rules! conformance {
    ($($fixture:expr),+ $(,)?) => {
        fn main() -> ::std::process::ExitCode {
            $crate::Suite::new()$(.with($fixture))+.main()
        }
    };
}

/// Compiles the examples of the README.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;
