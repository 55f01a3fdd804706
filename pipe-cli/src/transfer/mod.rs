//! `pipe send` and `pipe receive`: files and folders, resumed wherever they were broken off.
//!
//! # The protocol, `pipe-transfer/1`
//!
//! The sender dials. Each request has a stream of its own, opened by the sender, in the frames of
//! [`channel`](crate::channel); any number run at once.
//!
//! | Request | Answer |
//! |---|---|
//! | `hello` with the number of files and bytes, and that of the transfer | `welcome` |
//! | `folder` with a path and permissions | `done` |
//! | `file` with a path, a size, permissions, … | see below |
//! | `finish` with the number of files that could not be sent | `done` |
//!
//! Any of them can be answered with `refused` and the reason; `fatal` if the other requests would
//! fail alike. Paths are relative, with `/` between plain names; see [`rel_path`].
//!
//! A transfer belongs to the connections whose `hello` had its number, 128 random bits: `finish` ends the
//! transfer of its own connection, and it is whole when as many files and folders came as were announced. A
//! file that one transfer sends is refused to others, as long as the sender answers pings.
//!
//! A file:
//!
//! 1. The receiver answers `have`: how many bytes it has already (`offset`), and the SHA-256 of those. A sender
//!    without the token of the receiver's address is told of those only that its own transfer has sent.
//! 2. The sender compares this with as many bytes of its own, and says `from` the same offset when they are
//!    alike, or from 0.
//! 3. The sender sends the rest, in frames of bytes, and then `end` with the SHA-256 of the whole.
//! 4. The receiver compares it with what it has on disk, and answers `done` when the file is on disk under
//!    its name.
//!
//! No other state is kept: after any break, the same requests are made again. Until a file is
//! complete, it is `.NAME.pipe.part` beside its place.

mod file_error;
mod folder;
mod limits;
mod message;
mod part;
mod receive;
mod rel_path;
mod send;
mod source;
mod summary;
mod transfers;
mod trouble;

pub(crate) use receive::{ReceiveArgs, receive};
pub(crate) use send::{SendArgs, send};
