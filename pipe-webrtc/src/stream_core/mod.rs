mod output;
mod plain;
mod raw;
mod state;
mod unread;

pub(crate) use output::Output;
pub(crate) use state::{StreamRef, StreamState};
pub(crate) use unread::Unread;
