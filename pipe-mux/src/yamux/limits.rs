/// The bounds of what a peer may do to a connection.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Limits {
    /// How many bytes of a stream the peer may send ahead of its reader, as yamux grants them.
    pub(crate) window: u32,
    /// How many bytes of a stream may be unread; below `window` where the peer counts them by itself.
    pub(crate) stream_unread: u32,
    /// How many bytes of all streams together may be unread.
    pub(crate) conn_unread: Option<u64>,
    /// How many streams of both sides there may be.
    pub(crate) max_streams: usize,
    /// The number of the control channel, whose bytes count neither as unread bytes of a stream nor of the
    /// connection. With one, the numbers of the peer's streams rise strictly; without, a number may come
    /// late, but none may come twice.
    pub(crate) control: Option<u32>,
}
