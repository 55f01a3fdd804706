use bytes::BytesMut;

/// An event of a peer connection, whose channels are of type `C`.
#[derive(Debug)]
pub(crate) enum PeerEvent<C> {
    /// A candidate of this side, for the other one.
    Candidate(Candidate),
    /// No more candidates of this side follow.
    GatheringDone,
    Ice(IceState),
    /// The peer has opened a channel.
    Channel(C),
    /// The transport under the channels is over.
    Closed,
}

impl<C> PeerEvent<C> {
    /// Returns the event with another type of channel.
    pub(crate) fn map<D>(self, channel: impl FnOnce(C) -> D) -> PeerEvent<D> {
        match self {
            Self::Candidate(candidate) => PeerEvent::Candidate(candidate),
            Self::GatheringDone => PeerEvent::GatheringDone,
            Self::Ice(state) => PeerEvent::Ice(state),
            Self::Channel(opened) => PeerEvent::Channel(channel(opened)),
            Self::Closed => PeerEvent::Closed,
        }
    }
}

/// An event of a channel.
#[derive(Debug)]
pub(crate) enum ChannelEvent {
    Open,
    Text(BytesMut),
    Bytes(BytesMut),
    /// The channel is closed: by the peer, or with the transport under it. From the crate `webrtc` earlier
    /// messages may follow.
    Closed,
    /// The engine has stopped. Nothing follows.
    Gone,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum IceState {
    Connecting,
    Connected,
    #[cfg_attr(
        not(feature = "webrtc"),
        expect(dead_code, reason = "the driver notices by itself")
    )]
    Disconnected,
    #[cfg_attr(
        not(feature = "webrtc"),
        expect(dead_code, reason = "the driver notices by itself")
    )]
    Failed,
}

/// A way to reach one side (RFC 8839, section 5.1).
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Candidate {
    pub(crate) candidate: String,
    pub(crate) mid: Option<String>,
    pub(crate) line: Option<u16>,
}
