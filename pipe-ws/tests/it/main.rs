//! Integration tests of `ws://` and `wss://`.

mod another_make;
#[cfg(feature = "tower")]
mod behind;
mod common;
mod messages;
mod requests;
mod rules;
