use std::fmt;

/// The types through which a case runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Mode {
    /// Through the transport's own types: a few cases of each kind of call.
    Static,
    /// Through the erased types, over a [`BoxTransport`](pipe_core::BoxTransport): every case.
    Erased,
}

impl fmt::Display for Mode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Static => "static",
            Self::Erased => "erased",
        })
    }
}
