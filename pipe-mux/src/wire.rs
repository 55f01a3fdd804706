use pipe_core::{Addr, Result};

/// What is spoken over the byte stream.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Wire {
    /// yamux with the control protocol `pipe/1`: both ends are pipewerks, and the contract holds.
    #[default]
    Pipe,
    /// Plain yamux, for a peer of another make. What it cannot say does not arrive:
    ///
    /// - a reset or stop carries no code (0 is reported), and ends both directions of the stream, once
    ///   this side is done with both;
    /// - after this side's own shutdown, a stop is not told: what still comes is thrown away;
    /// - a close carries no code and no reason: the peer's streams are reset by this side's, and the
    ///   peer's own is told with code 0, or as a failure if it ends the byte stream without a GoAway;
    /// - [`drain`](pipe_core::Conn::drain) does not keep the peer from opening streams.
    ///
    /// After a GoAway of the peer no more streams can be opened; those that are open go on, and the
    /// connection closes with the last one.
    Raw,
}

impl Wire {
    /// Reads the option `wire` of an address: `pipe`, which it is where the option is missing, or `raw`.
    ///
    /// # Errors
    ///
    /// [`AddrInvalid`](pipe_core::ErrorKind::AddrInvalid) for any other value.
    pub fn from_addr(addr: &Addr) -> Result<Self> {
        match addr.param("wire").as_deref() {
            None | Some("pipe") => Ok(Self::Pipe),
            Some("raw") => Ok(Self::Raw),
            Some(other) => {
                let why = format!("the wire {other:?} is unknown; there are pipe and raw");
                Err(addr.invalid(why))
            }
        }
    }
}
