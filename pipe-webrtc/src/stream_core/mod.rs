mod output;
mod plain;
mod raw;
mod sending;
mod state;
mod unread;
mod windows;

pub(crate) use output::Output;
pub(crate) use state::{Read, StreamCore};
pub(crate) use unread::Unread;
pub(crate) use windows::PeerWindows;
