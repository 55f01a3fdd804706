use pipe_core::{Error, ErrorKind};

/// The use of a connection before its handshake was over (0-RTT, RFC 9001, section 4.6). See
/// [`QuicTransport::with_zero_rtt`](crate::QuicTransport::with_zero_rtt).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum EarlyData {
    /// The handshake was over before the connection was used: always so where early data is off.
    #[default]
    None,
    /// The handshake is in progress. At the dialer, it is not known yet whether the listener
    /// accepts the early data. At the listener, received data may be a replay of a recorded copy.
    Pending,
    /// The handshake is over: the listener has accepted the early data, and it came from the dialer
    /// itself.
    Accepted,
}

/// Returns the error of everything on a connection whose early data was not taken.
pub(crate) fn refused() -> Error {
    let why = "the listener did not take the data that was sent before the handshake was over (0-RTT): it \
               has read nothing of it; dial again";
    Error::new(ErrorKind::Refused, why)
}
