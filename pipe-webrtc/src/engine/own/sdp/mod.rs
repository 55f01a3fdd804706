//! Session descriptions of one section: the data channels of a connection (RFC 8829 and 8841).
//!
//! A peer's description may have further sections, as a browser's has that also sends video. An answer
//! rejects them.

mod parse;
#[cfg(test)]
mod tests;
mod write;

use pipe_core::{Error, ErrorKind, Result};

use super::credentials::Credentials;
use super::fingerprint::Fingerprint;
use crate::error::{handshake, protocol};

/// Largest description, in bytes.
pub(crate) const MAX_LEN: usize = 256 * 1024;

/// Maximum number of sections.
const MAX_SECTIONS: usize = 128;

/// Maximum number of candidates that are kept of a description, and the length of each, in bytes.
pub(crate) const MAX_CANDIDATES: usize = 64;
pub(crate) const MAX_CANDIDATE_LEN: usize = 512;

/// Maximum number of fingerprints.
const MAX_FINGERPRINTS: usize = 16;

/// Largest name of a section, in bytes.
const MAX_MID: usize = 64;

/// SCTP port where a description names none (RFC 8841, section 12.2).
pub(crate) const SCTP_PORT: u16 = 5000;

/// Maximum message size of a side that names none (RFC 8841, section 6.1), in bytes.
const UNNAMED_MESSAGE: u32 = 65_536;

/// The application that SCTP carries.
const CHANNELS: &str = "webrtc-datachannel";

/// The name of the section in an offer of this side.
const MID: &str = "0";

/// A session description.
///
/// Its text is that of `Display`, with lines that end in CR LF.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Description {
    pub(crate) session: Session,
    /// Whether the author checks nothing by itself (RFC 8445, section 2.5).
    pub(crate) ice_lite: bool,
    /// Whether candidates may follow the description (RFC 8840).
    pub(crate) trickle: bool,
    pub(crate) credentials: Credentials,
    pub(crate) setup: Setup,
    pub(crate) fingerprints: Vec<Fingerprint>,
    /// Candidates as in `a=` lines, from `candidate:` on (RFC 8839, section 5.1).
    pub(crate) candidates: Vec<String>,
    pub(crate) end_of_candidates: bool,
    pub(crate) transport: Transport,
    /// The name of the section, which candidates may carry.
    pub(crate) mid: Option<String>,
    /// Whether the section is in a BUNDLE group (RFC 9143).
    pub(crate) bundle: bool,
    pub(crate) sctp_port: u16,
    /// Largest message that the author takes, in bytes; 0 is any size (RFC 8841, section 6.1).
    pub(crate) max_message_size: u32,
    /// The other sections, in their order.
    pub(crate) others: Vec<OtherSection>,
    /// Number of those that come before the data channels.
    pub(crate) index: usize,
}

/// What one side puts into its offer or answer.
#[derive(Clone, Debug)]
pub(crate) struct Local {
    pub(crate) session: Session,
    pub(crate) credentials: Credentials,
    pub(crate) fingerprint: Fingerprint,
    /// Largest message that this side takes, in bytes; 0 is any size.
    pub(crate) max_message_size: u32,
    pub(crate) candidates: Vec<String>,
    pub(crate) end_of_candidates: bool,
}

/// Identity of a session, and the number of the description within it (RFC 8866, section 5.2).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Session {
    pub(crate) id: u64,
    pub(crate) version: u64,
}

impl Session {
    /// Makes the identity of a new session (RFC 8829, section 5.2.1).
    ///
    /// # Errors
    ///
    /// [`Io`](ErrorKind::Io) when the system gives no random bytes.
    pub(crate) fn generate() -> Result<Self> {
        let mut random = [0; 8];
        getrandom::fill(&mut random).map_err(|error| {
            let why = format!("the system gives no random bytes: {error}");
            Error::with_source(ErrorKind::Io, why, error)
        })?;
        Ok(Self {
            id: u64::from_ne_bytes(random) >> 1,
            version: 1,
        })
    }

    /// Returns the identity of the next description of the session.
    pub(crate) fn next(self) -> Self {
        Self {
            version: self.version.wrapping_add(1),
            ..self
        }
    }
}

/// The DTLS role of the author (RFC 4145, section 4, and RFC 8842).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Setup {
    /// Client.
    Active,
    /// Server.
    Passive,
    /// Either, in an offer.
    ActPass,
}

impl Setup {
    const fn name(self) -> &'static str {
        match self {
            Self::Active => "active",
            Self::Passive => "passive",
            Self::ActPass => "actpass",
        }
    }
}

/// The form of the section's first line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Transport {
    /// `UDP/DTLS/SCTP webrtc-datachannel` (RFC 8841).
    Udp,
    /// `TCP/DTLS/SCTP webrtc-datachannel`, where the default candidate is one of TCP.
    Tcp,
    /// `DTLS/SCTP webrtc-datachannel`, as in later drafts of it.
    Dtls,
    /// `DTLS/SCTP` with the SCTP port as its format, and `a=sctpmap` as in earlier ones.
    Draft,
}

/// A section that is not used.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct OtherSection {
    /// The kind of media, such as "audio".
    kind: String,
    protocol: String,
    /// The first of its formats.
    format: String,
    mid: Option<String>,
}

impl Description {
    /// Makes an offer.
    pub(crate) fn offer(local: Local) -> Self {
        Self {
            session: local.session,
            ice_lite: false,
            trickle: true,
            credentials: local.credentials,
            setup: Setup::ActPass,
            fingerprints: vec![local.fingerprint],
            candidates: local.candidates,
            end_of_candidates: local.end_of_candidates,
            transport: Transport::Udp,
            mid: Some(MID.to_owned()),
            bundle: true,
            sctp_port: SCTP_PORT,
            max_message_size: local.max_message_size,
            others: Vec::new(),
            index: 0,
        }
    }

    /// Makes the answer to this offer of a peer. `role` is that of this side in the DTLS association which
    /// the offer continues, if there is one; without, this side is the client if it may choose (RFC 8842,
    /// section 5.3).
    ///
    /// # Errors
    ///
    /// [`Unsupported`](ErrorKind::Unsupported) if the offer does not admit that role.
    pub(crate) fn answer(&self, local: Local, role: Option<Setup>) -> Result<Self> {
        let setup = match (self.setup, role) {
            (Setup::ActPass, None) => Setup::Active,
            (Setup::ActPass, Some(role)) => role,
            (Setup::Passive, None | Some(Setup::Active)) => Setup::Active,
            (Setup::Active, None | Some(Setup::Passive)) => Setup::Passive,
            (asked, Some(_)) => {
                let why = format!(
                    "the peer offers to be \"{}\" in DTLS, which it has not been so far",
                    asked.name()
                );
                return Err(Error::new(ErrorKind::Unsupported, why));
            }
        };
        Ok(Self {
            setup,
            transport: self.transport,
            mid: self.mid.clone(),
            bundle: self.bundle,
            others: self.others.clone(),
            index: self.index,
            ..Self::offer(local)
        })
    }

    /// Returns the DTLS role of this side after the peer's answer to this offer.
    ///
    /// # Errors
    ///
    /// [`Protocol`](ErrorKind::Protocol) if the answer does not fit the offer.
    pub(crate) fn role_after(&self, answer: &Self) -> Result<Setup> {
        match (self.setup, answer.setup) {
            (Setup::ActPass | Setup::Passive, Setup::Active) => Ok(Setup::Passive),
            (Setup::ActPass | Setup::Active, Setup::Passive) => Ok(Setup::Active),
            (offered, answered) => Err(protocol(format_args!(
                "an answer of a=setup:{} to an offer of a=setup:{}",
                answered.name(),
                offered.name()
            ))),
        }
    }

    /// Returns the largest message that the author takes, in bytes: `None` for any size.
    pub(crate) fn message_limit(&self) -> Option<u32> {
        (self.max_message_size > 0).then_some(self.max_message_size)
    }
}

/// Creates the error of a description that cannot be used. Lines count from 1.
fn unusable(line: usize, why: impl std::fmt::Display) -> Error {
    handshake(format_args!(
        "the peer's session description is unusable: line {line}: {why}"
    ))
}
