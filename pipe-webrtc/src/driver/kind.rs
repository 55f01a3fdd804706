/// The purpose of a channel.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Control,
    Ping,
    Echo,
    /// Carries streams that this side opens.
    Ours,
    /// Carries streams that the peer opens.
    Theirs,
}
