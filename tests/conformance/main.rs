//! The conformance suite, on every transport of the default features.

mod inproc;
mod proxied;
mod tcp;

use inproc::{Inproc, SlowInproc};
use pipe_conformance::conformance;
use tcp::Tcp;

conformance!(Inproc, SlowInproc, Tcp);
