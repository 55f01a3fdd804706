use pipe_core::{Error, ErrorKind};

/// Whether a connection was used before its handshake was over, and whether it is over by now (0-RTT, RFC
/// 9001, section 4.6). See [`QuicTransport::with_zero_rtt`](crate::QuicTransport::with_zero_rtt).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum EarlyData {
    /// The handshake was over before the connection was used: always so where early data is off.
    #[default]
    None,
    /// The handshake is under way. At the dialer, it is not known yet whether the listener takes what was
    /// sent. At the listener, what comes may be a recorded copy that is sent once more.
    Pending,
    /// The handshake is over: the listener has taken what was sent early, and it came from the dialer
    /// itself.
    Accepted,
}

/// Returns the error of everything on a connection whose early data was not taken.
pub(crate) fn refused() -> Error {
    let why = "the listener did not take the data that was sent before the handshake was over (0-RTT): it \
               has read nothing of it; dial again";
    Error::new(ErrorKind::Refused, why)
}
