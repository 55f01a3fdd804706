/// The bounds on the peer of a connection.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Limits {
    /// Maximum number of bytes of a stream that the peer may send ahead of its reader, as yamux
    /// grants them.
    pub(crate) window: u32,
    /// Maximum number of unread bytes of a stream; below `window` where the peer counts them by
    /// itself.
    pub(crate) stream_unread: u32,
    /// Maximum number of unread bytes of all streams together.
    pub(crate) conn_unread: Option<u64>,
}
