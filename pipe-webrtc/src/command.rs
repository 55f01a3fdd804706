use pipe_core::{Error, Result};
use tokio::sync::oneshot;

use crate::engine::Candidate;

/// What the negotiation of a connection is asked to do.
#[derive(Debug)]
pub(crate) enum Command {
    /// This side can be reached so.
    Candidate(Candidate),
    /// This side has no more candidates.
    EndOfCandidates,
    /// Find a new path.
    Restart(Option<oneshot::Sender<Result<()>>>),
    /// The connection was not made; the peer is told why.
    Refuse(Error),
}
