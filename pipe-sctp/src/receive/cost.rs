//! What is stored counts against the receive buffer beyond its payload: about what it takes of the heap, so that a peer
//! gets no memory by sending little in many pieces.

/// What a chunk or a message counts beyond its payload, in bytes: an entry of a queue that doubles as it grows, and the
/// least allocation for a payload that was copied.
pub(super) const OVERHEAD: usize = 96;

/// What consecutive fragments of a message count beyond them, in bytes: an entry of a tree.
pub(super) const RUN: usize = 160;

/// What consecutive TSNs beyond a gap count, in bytes: an entry of a tree.
pub(super) const RANGE: usize = 48;

/// What a message of I-DATA chunks counts beyond them while it is incomplete, in bytes.
pub(super) const PARTIAL: usize = 1024;
