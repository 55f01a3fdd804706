mod output;
mod plain;
mod raw;
mod sending;
mod state;
mod unread;

pub(crate) use output::Output;
pub(crate) use state::StreamCore;
pub(crate) use unread::Unread;
