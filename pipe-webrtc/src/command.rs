use pipe_core::{Error, Result};
use tokio::sync::oneshot;

use crate::engine::Candidate;

/// A command to the negotiation of a connection.
#[derive(Debug)]
pub(crate) enum Command {
    /// Send this candidate to the peer.
    Candidate(Candidate),
    /// Tell the peer that no more candidates follow.
    EndOfCandidates,
    /// Find a new path.
    Restart(Option<oneshot::Sender<Result<()>>>),
    /// Send the peer the error of a connection that was not made.
    Refuse(Error),
}
