/// The largest message that is sent, in bytes, where the peer takes it.
pub(crate) const MAX_MESSAGE: usize = 64 * 1024;

/// The protocol over the data channels.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Wire {
    /// The protocol `pipe/1`: both ends are pipewerks, or speak it, and the contract holds.
    #[default]
    Pipe,
    /// Plain data channels, for another implementation. Each channel is a stream, a message is
    /// bytes, and the channel's close is the end. Events without a message in that protocol do not
    /// arrive:
    ///
    /// - a shutdown closes the channel once the other direction has ended too, or is dropped;
    /// - a reset closes it at once, without a code, and reads as an end at the peer; a stop is not
    ///   sent;
    /// - the peer's close reads as a clean end, whether or not its data was complete;
    /// - a close of the connection carries no code and no reason;
    /// - [`drain`](pipe_core::Conn::drain) does not keep the peer from opening channels;
    /// - a stream that is left unread holds up the others once the window is full.
    Raw {
        /// Whether the channels "ping" and "echo" exist, negotiated with the ids 1 and 2. Without
        /// them [`ping`](pipe_core::Conn::ping) is
        /// [`Unsupported`](pipe_core::ErrorKind::Unsupported).
        ping: bool,
    },
}

impl Wire {
    pub(crate) fn is_raw(self) -> bool {
        self != Self::Pipe
    }
}
