use std::error::Error;
use std::fmt;

/// The rule of the protocol that a peer broke. It ends the connection.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Violation {
    kind: ViolationKind,
    what: String,
}

/// When a peer broke the protocol.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum ViolationKind {
    /// Before its hello: it speaks another protocol.
    Handshake,
    /// After its hello.
    Protocol,
}

impl Violation {
    /// Creates the violation of a peer that sent `what`.
    pub fn new(what: impl fmt::Display) -> Self {
        Self {
            kind: ViolationKind::Protocol,
            what: what.to_string(),
        }
    }

    /// Creates the violation of a peer that does not speak the protocol.
    pub fn handshake(what: impl fmt::Display) -> Self {
        Self {
            kind: ViolationKind::Handshake,
            what: what.to_string(),
        }
    }

    /// Returns when the peer broke the protocol.
    pub fn kind(&self) -> ViolationKind {
        self.kind
    }
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.what)
    }
}

impl Error for Violation {}
