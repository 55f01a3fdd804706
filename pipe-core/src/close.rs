use std::fmt;
use std::sync::{Arc, OnceLock};

use tokio::sync::Notify;

use crate::Error;

/// The longest reason of a close, in bytes. A longer one is cut at a character's boundary.
///
/// It is what fits into the one packet that QUIC closes a connection with (RFC 9000, section 19.19,
/// in a datagram of 1,200 bytes), so that a reason arrives alike over every transport.
pub const MAX_REASON_LEN: usize = 1024;

/// Why a connection is over.
#[derive(Clone, Debug)]
pub enum CloseReason {
    /// This side closed it, or dropped its last handle (code 0, no reason).
    Local {
        /// The application's code.
        code: u32,
        /// The application's reason, for people.
        reason: Arc<str>,
    },
    /// The peer closed it, or dropped its last handle (code 0, no reason).
    Remote {
        /// The application's code.
        code: u32,
        /// The application's reason, for people.
        reason: Arc<str>,
    },
    /// It was lost, of the cause in the error.
    Failed(Error),
}

impl CloseReason {
    /// A close by this side. A reason above [`MAX_REASON_LEN`] is cut.
    pub fn local(code: u32, reason: &str) -> Self {
        Self::Local {
            code,
            reason: cut(reason).into(),
        }
    }

    /// A close by the peer. A reason above [`MAX_REASON_LEN`] is cut.
    pub fn remote(code: u32, reason: &str) -> Self {
        Self::Remote {
            code,
            reason: cut(reason).into(),
        }
    }

    /// The application's code; none after a failure.
    pub fn code(&self) -> Option<u32> {
        match self {
            Self::Local { code, .. } | Self::Remote { code, .. } => Some(*code),
            Self::Failed(_) => None,
        }
    }
}

impl fmt::Display for CloseReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (by, code, reason) = match self {
            Self::Local { code, reason } => ("locally", code, reason),
            Self::Remote { code, reason } => ("by the peer", code, reason),
            Self::Failed(error) => return write!(f, "failed: {error}"),
        };
        write!(f, "closed {by} with code {code}")?;
        if !reason.is_empty() {
            write!(f, ": {reason}")?;
        }
        Ok(())
    }
}

pub(crate) fn cut(reason: &str) -> &str {
    let mut end = reason.len().min(MAX_REASON_LEN);
    while !reason.is_char_boundary(end) {
        end -= 1;
    }
    &reason[..end]
}

/// Holds why something is over: the first reason stays, and any number of tasks can wait for it.
#[derive(Debug, Default)]
pub struct CloseCell {
    reason: OnceLock<CloseReason>,
    set: Notify,
}

impl CloseCell {
    /// A cell without a reason.
    pub fn new() -> Self {
        Self::default()
    }

    /// Sets the reason, unless there is one. Returns whether this one counts.
    pub fn set(&self, reason: CloseReason) -> bool {
        let first = self.reason.set(reason).is_ok();
        if first {
            self.set.notify_waiters();
        }
        first
    }

    /// The reason, if there is one yet.
    #[inline]
    pub fn get(&self) -> Option<&CloseReason> {
        self.reason.get()
    }

    /// Waits for the reason.
    ///
    /// # Cancel safety
    ///
    /// Safe to drop.
    pub async fn wait(&self) -> &CloseReason {
        loop {
            let set = self.set.notified();
            if let Some(reason) = self.reason.get() {
                return reason;
            }
            set.await;
        }
    }
}

#[cfg(test)]
mod tests {
    use futures::future::join_all;

    use super::*;

    #[tokio::test]
    async fn the_first_reason_stays_and_reaches_every_waiter() {
        let cell = Arc::new(CloseCell::new());
        let waiters: Vec<_> = (0..50)
            .map(|_| {
                let cell = cell.clone();
                tokio::spawn(async move { cell.wait().await.code() })
            })
            .collect();
        tokio::task::yield_now().await;
        assert!(cell.get().is_none());
        assert!(cell.set(CloseReason::local(1, "first")));
        assert!(!cell.set(CloseReason::remote(2, "second")));
        for code in join_all(waiters).await {
            assert_eq!(code.unwrap(), Some(1));
        }
        assert_eq!(cell.wait().await.code(), Some(1));
    }

    #[test]
    fn a_long_reason_is_cut_between_characters() {
        let CloseReason::Local { reason, .. } = CloseReason::local(0, &"ä".repeat(40_000)) else {
            unreachable!()
        };
        assert_eq!(&*reason, "ä".repeat(MAX_REASON_LEN / 2));
        let CloseReason::Remote { reason, .. } =
            CloseReason::remote(0, &format!("x{}", "ä".repeat(40_000)))
        else {
            unreachable!()
        };
        assert_eq!(reason.len(), MAX_REASON_LEN - 1);
    }
}
