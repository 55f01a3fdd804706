//! A network in virtual time: two endpoints, a link each way, and a ledger of what must arrive.
//!
//! Everything that happens follows from one seed. The endpoints stand behind [`Stack`], so that other
//! implementations can take either side.

// Each test uses a part.
#![allow(dead_code, unreachable_pub, unused_imports)]

pub mod association;
pub mod ledger;
pub mod link;
pub mod mutate;
pub mod pair;
pub mod scenario;
pub mod stack;

pub use association::Ours;
pub use ledger::Ledger;
pub use link::{Link, LinkConfig};
pub use pair::{Pair, Step};
pub use scenario::{Action, PATIENCE, Scenario, Timed};
pub use stack::{Output, Sending, Stack};
