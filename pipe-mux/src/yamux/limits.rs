/// The bounds of what a peer may do to a connection.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Limits {
    /// How many bytes of a stream the peer may send ahead of its reader, as yamux grants them.
    pub(crate) window: u32,
    /// How many bytes of a stream may be unread; below `window` where the peer counts them by itself.
    pub(crate) stream_unread: u32,
    /// How many bytes of all streams together may be unread.
    pub(crate) conn_unread: Option<u64>,
}
