use std::error::Error;
use std::fmt;

/// The state of the direction that this side sends.
///
/// `held` says that the application still has the half, so that it may work for the stream: the stream counts
/// against its limit until the application lets go.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum SendHalf {
    /// Takes bytes.
    #[default]
    Ready,
    /// Shut down: the end is announced, or will be.
    Shut {
        /// The peer's application read everything.
        confirmed: bool,
    },
    /// Abandoned by this side's application.
    Reset {
        /// The application's code.
        code: u32,
    },
    /// Stopped by the peer before it was shut down.
    Stopped {
        /// The peer's code.
        code: u32,
        /// The application has not let go of it.
        held: bool,
    },
    /// Stopped by the peer after it was shut down, which changes nothing for the application.
    ShutThenStopped {
        /// The peer's code.
        code: u32,
    },
    /// Ended because the peer was silent for too long.
    Disconnected {
        /// The application has not let go of it.
        held: bool,
    },
    /// Ended with the connection.
    ConnEnded,
}

/// Why a direction takes no bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum SendError {
    /// It was shut down.
    Shut,
    /// This side's application abandoned it, with this code.
    Reset(u32),
    /// The peer stopped it, with this code.
    Stopped(u32),
    /// The peer was silent for too long.
    Disconnected,
    /// The connection ended.
    ConnEnded,
}

impl SendHalf {
    /// Returns whether bytes may be written.
    ///
    /// # Errors
    ///
    /// The reason why not.
    pub fn check_write(self) -> Result<(), SendError> {
        Err(match self {
            Self::Ready => return Ok(()),
            Self::Shut { .. } | Self::ShutThenStopped { .. } => SendError::Shut,
            Self::Reset { code } => SendError::Reset(code),
            Self::Stopped { code, .. } => SendError::Stopped(code),
            Self::Disconnected { .. } => SendError::Disconnected,
            Self::ConnEnded => SendError::ConnEnded,
        })
    }

    /// Returns whether a shutdown succeeds. After the peer's stop it does: the peer wants no more, and there is no
    /// more.
    ///
    /// # Errors
    ///
    /// The reason why not.
    pub fn check_shutdown(self) -> Result<(), SendError> {
        match self.check_write() {
            Err(SendError::Shut | SendError::Stopped(_)) => Ok(()),
            other => other,
        }
    }

    /// Returns whether the application is done with this direction.
    pub fn is_done(self) -> bool {
        match self {
            Self::Ready => false,
            Self::Stopped { held, .. } | Self::Disconnected { held } => !held,
            Self::Shut { .. }
            | Self::ShutThenStopped { .. }
            | Self::Reset { .. }
            | Self::ConnEnded => true,
        }
    }

    /// Returns whether the peer has still to confirm that it read everything.
    pub fn awaits_confirmation(self) -> bool {
        self == Self::Shut { confirmed: false }
    }

    /// Returns whether the direction ended without the end that a reader takes for a clean one.
    pub fn is_cut(self) -> bool {
        !matches!(self, Self::Ready | Self::Shut { .. })
    }

    /// Shuts the direction down. Returns whether it was open.
    pub fn shut(&mut self) -> bool {
        let was_ready = *self == Self::Ready;
        if was_ready {
            *self = Self::Shut { confirmed: false };
        }
        self.release();
        was_ready
    }

    /// Abandons the direction if it is open, and lets go of it. Returns whether it was open.
    pub fn reset(&mut self, code: u32) -> bool {
        let was_ready = *self == Self::Ready;
        if was_ready {
            *self = Self::Reset { code };
        }
        self.release();
        was_ready
    }

    /// Notes that the application let go of the half.
    fn release(&mut self) {
        if let Self::Stopped { held, .. } | Self::Disconnected { held } = self {
            *held = false;
        }
    }

    /// Notes that the peer reads no more. Returns whether that is news.
    pub fn on_stop(&mut self, code: u32) -> bool {
        *self = match self {
            Self::Ready => Self::Stopped { code, held: true },
            Self::Shut { .. } => Self::ShutThenStopped { code },
            _ => return false,
        };
        true
    }

    /// Notes that the peer's application read everything.
    pub fn on_confirmed(&mut self) {
        if let Self::Shut { confirmed } = self {
            *confirmed = true;
        }
    }

    /// Ends an open direction because the peer is silent. Returns whether it was open.
    pub fn disconnect(&mut self) -> bool {
        let was_ready = *self == Self::Ready;
        if was_ready {
            *self = Self::Disconnected { held: true };
        }
        was_ready
    }

    /// Ends an open direction with the connection.
    pub fn on_conn_end(&mut self) {
        if *self == Self::Ready {
            *self = Self::ConnEnded;
        }
    }
}

impl fmt::Display for SendError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Shut => f.write_str("the direction was shut down"),
            Self::Reset(code) => write!(f, "the direction was reset with code {code}"),
            Self::Stopped(code) => write!(f, "the peer stopped the direction with code {code}"),
            Self::Disconnected => f.write_str("the peer was silent for too long"),
            Self::ConnEnded => f.write_str("the connection ended"),
        }
    }
}

impl Error for SendError {}

#[cfg(test)]
mod tests {
    use super::SendHalf::*;
    use super::*;

    const ALL: [SendHalf; 10] = [
        Ready,
        Shut { confirmed: false },
        Shut { confirmed: true },
        Reset { code: 1 },
        Stopped {
            code: 2,
            held: true,
        },
        Stopped {
            code: 2,
            held: false,
        },
        ShutThenStopped { code: 3 },
        Disconnected { held: true },
        Disconnected { held: false },
        ConnEnded,
    ];

    /// The state after `act` for each state, in the order of `ALL`.
    fn after<R>(act: impl Fn(&mut SendHalf) -> R) -> [SendHalf; 10] {
        ALL.map(|mut half| {
            act(&mut half);
            half
        })
    }

    /// `ALL` with other states at the given places.
    fn all_but(changes: &[(usize, SendHalf)]) -> [SendHalf; 10] {
        let mut all = ALL;
        for (place, half) in changes {
            all[*place] = *half;
        }
        all
    }

    /// Where the application holds a half that was cut, and the state when it lets go.
    const LETS_GO: [(usize, SendHalf); 2] = [
        (
            4,
            Stopped {
                code: 2,
                held: false,
            },
        ),
        (7, Disconnected { held: false }),
    ];

    #[test]
    fn a_shutdown_ends_an_open_half_and_lets_go_of_a_cut_one() {
        let shut = [(0, Shut { confirmed: false }), LETS_GO[0], LETS_GO[1]];
        assert_eq!(after(SendHalf::shut), all_but(&shut));
        assert_eq!(
            ALL.map(|mut half| half.shut()),
            ALL.map(|half| half == Ready)
        );
    }

    #[test]
    fn a_reset_cuts_an_open_half_and_lets_go_of_a_cut_one() {
        let reset = [(0, Reset { code: 9 }), LETS_GO[0], LETS_GO[1]];
        assert_eq!(after(|half| half.reset(9)), all_but(&reset));
        assert_eq!(
            ALL.map(|mut half| half.reset(9)),
            ALL.map(|half| half == Ready)
        );
    }

    #[test]
    fn a_stop_of_the_peer_cuts_what_it_may_still_read() {
        let stopped = [
            (
                0,
                Stopped {
                    code: 9,
                    held: true,
                },
            ),
            (1, ShutThenStopped { code: 9 }),
            (2, ShutThenStopped { code: 9 }),
        ];
        assert_eq!(after(|half| half.on_stop(9)), all_but(&stopped));
        let news = ALL.map(|mut half| half.on_stop(9));
        assert_eq!(news, ALL.map(|half| matches!(half, Ready | Shut { .. })));
    }

    #[test]
    fn only_a_shutdown_is_confirmed() {
        let confirmed = [(1, Shut { confirmed: true })];
        assert_eq!(after(SendHalf::on_confirmed), all_but(&confirmed));
    }

    #[test]
    fn silence_and_the_end_of_the_connection_cut_an_open_half_alone() {
        let cut = [(0, Disconnected { held: true })];
        assert_eq!(after(SendHalf::disconnect), all_but(&cut));
        assert_eq!(after(SendHalf::on_conn_end), all_but(&[(0, ConnEnded)]));
    }

    #[test]
    fn each_state_names_its_error_and_says_whether_the_application_is_done() {
        let errors = ALL.map(|half| half.check_write().err());
        let shut = Some(SendError::Shut);
        let stopped = Some(SendError::Stopped(2));
        let disconnected = Some(SendError::Disconnected);
        let ended = Some(SendError::ConnEnded);
        let reset = Some(SendError::Reset(1));
        assert_eq!(
            errors,
            [
                None,
                shut,
                shut,
                reset,
                stopped,
                stopped,
                shut,
                disconnected,
                disconnected,
                ended
            ]
        );
        let errors = ALL.map(|half| half.check_shutdown().err());
        assert_eq!(
            errors,
            [
                None,
                None,
                None,
                reset,
                None,
                None,
                None,
                disconnected,
                disconnected,
                ended
            ]
        );
        let done = ALL.map(SendHalf::is_done);
        assert_eq!(
            done,
            [
                false, true, true, true, false, true, true, false, true, true
            ]
        );
        assert_eq!(ALL.iter().filter(|h| h.awaits_confirmation()).count(), 1);
        assert_eq!(ALL.iter().filter(|h| h.is_cut()).count(), 7);
    }
}
