/// What a channel is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Control,
    Ping,
    Echo,
    /// It carries streams that this side opens.
    Ours,
    /// It carries streams that the peer opens.
    Theirs,
}
