use std::error::Error;
use std::fmt;

/// The state of the direction that this side receives.
///
/// `held` says that the application still has the half, so that it may work for the stream: the stream counts
/// against its limit until the application lets go.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum RecvHalf {
    /// Bytes may come.
    #[default]
    Open,
    /// The peer announced the end; some bytes are unread.
    SizeKnown {
        /// How many bytes the direction has in all.
        total: u64,
    },
    /// All bytes up to the end were read.
    Ended,
    /// Abandoned by the peer.
    Reset {
        /// The peer's code.
        code: u32,
        /// The application has not let go of it.
        held: bool,
    },
    /// Stopped by this side's application.
    Stopped {
        /// The application's code.
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

/// Why a direction gives no more bytes, other than its end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum RecvError {
    /// The peer abandoned it, with this code.
    Reset(u32),
    /// This side's application stopped it, with this code.
    Stopped(u32),
    /// The peer was silent for too long.
    Disconnected,
    /// The connection ended.
    ConnEnded,
}

impl RecvHalf {
    /// Returns whether bytes may be read, or the end.
    ///
    /// # Errors
    ///
    /// The reason why not.
    pub fn check_read(self) -> Result<(), RecvError> {
        Err(match self {
            Self::Open | Self::SizeKnown { .. } | Self::Ended => return Ok(()),
            Self::Reset { code, .. } => RecvError::Reset(code),
            Self::Stopped { code } => RecvError::Stopped(code),
            Self::Disconnected { .. } => RecvError::Disconnected,
            Self::ConnEnded => RecvError::ConnEnded,
        })
    }

    /// Returns whether bytes that come are for the application; otherwise they are discarded.
    pub fn takes_bytes(self) -> bool {
        matches!(self, Self::Open | Self::SizeKnown { .. })
    }

    /// Returns whether the application is done with this direction.
    pub fn is_done(self) -> bool {
        match self {
            Self::Open | Self::SizeKnown { .. } => false,
            Self::Reset { held, .. } | Self::Disconnected { held } => !held,
            Self::Ended | Self::Stopped { .. } | Self::ConnEnded => true,
        }
    }

    /// Notes the peer's announcement of the end, after `read` bytes were read.
    pub fn on_end(&mut self, total: u64, read: u64) {
        if *self == Self::Open {
            *self = Self::SizeKnown { total };
        }
        self.on_read(read);
    }

    /// Notes that `read` bytes were read in all. Returns whether they are all.
    pub fn on_read(&mut self, read: u64) -> bool {
        let is_last = *self == Self::SizeKnown { total: read };
        if is_last {
            *self = Self::Ended;
        }
        is_last
    }

    /// Notes that the peer abandoned the direction. Returns whether that is news.
    pub fn on_reset(&mut self, code: u32) -> bool {
        self.cut(Self::Reset { code, held: true })
    }

    /// Stops the direction if bytes may still come, and lets go of it. Returns whether the peer has to be told.
    pub fn stop(&mut self, code: u32) -> bool {
        let tells = self.cut(Self::Stopped { code });
        if let Self::Reset { held, .. } | Self::Disconnected { held } = self {
            *held = false;
        }
        tells
    }

    /// Ends the direction because the peer is silent. Returns whether it was open.
    pub fn disconnect(&mut self) -> bool {
        self.cut(Self::Disconnected { held: true })
    }

    /// Ends the direction with the connection.
    pub fn on_conn_end(&mut self) {
        self.cut(Self::ConnEnded);
    }

    fn cut(&mut self, to: Self) -> bool {
        let may_come = self.takes_bytes();
        if may_come {
            *self = to;
        }
        may_come
    }
}

impl fmt::Display for RecvError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Reset(code) => write!(f, "the peer reset the direction with code {code}"),
            Self::Stopped(code) => write!(f, "the direction was stopped with code {code}"),
            Self::Disconnected => f.write_str("the peer was silent for too long"),
            Self::ConnEnded => f.write_str("the connection ended"),
        }
    }
}

impl Error for RecvError {}

#[cfg(test)]
mod tests {
    use super::RecvHalf::*;
    use super::*;

    const ALL: [RecvHalf; 9] = [
        Open,
        SizeKnown { total: 5 },
        Ended,
        Reset {
            code: 1,
            held: true,
        },
        Reset {
            code: 1,
            held: false,
        },
        Stopped { code: 2 },
        Disconnected { held: true },
        Disconnected { held: false },
        ConnEnded,
    ];

    fn after<R>(act: impl Fn(&mut RecvHalf) -> R) -> [RecvHalf; 9] {
        ALL.map(|mut half| {
            act(&mut half);
            half
        })
    }

    fn all_but(changes: &[(usize, RecvHalf)]) -> [RecvHalf; 9] {
        let mut all = ALL;
        for (place, half) in changes {
            all[*place] = *half;
        }
        all
    }

    #[test]
    fn the_end_is_known_before_it_is_reached() {
        let known = [(0, SizeKnown { total: 7 })];
        assert_eq!(after(|half| half.on_end(7, 3)), all_but(&known));
        let reached = [(0, Ended), (1, Ended)];
        assert_eq!(after(|half| half.on_end(5, 5)), all_but(&reached));
    }

    #[test]
    fn the_last_byte_ends_the_direction() {
        assert_eq!(after(|half| half.on_read(5)), all_but(&[(1, Ended)]));
        assert_eq!(after(|half| half.on_read(4)), ALL);
        assert_eq!(
            ALL.map(|mut half| half.on_read(5)),
            ALL.map(|half| half == ALL[1])
        );
    }

    #[test]
    fn a_reset_of_the_peer_cuts_what_was_not_read_to_its_end() {
        let reset = Reset {
            code: 9,
            held: true,
        };
        let cut = [(0, reset), (1, reset)];
        assert_eq!(after(|half| half.on_reset(9)), all_but(&cut));
        assert_eq!(
            ALL.map(|mut half| half.on_reset(9)),
            ALL.map(RecvHalf::takes_bytes)
        );
    }

    #[test]
    fn a_stop_cuts_an_open_half_and_lets_go_of_a_cut_one() {
        let stopped = Stopped { code: 9 };
        let let_go = Reset {
            code: 1,
            held: false,
        };
        let changes = [
            (0, stopped),
            (1, stopped),
            (3, let_go),
            (6, Disconnected { held: false }),
        ];
        assert_eq!(after(|half| half.stop(9)), all_but(&changes));
        assert_eq!(
            ALL.map(|mut half| half.stop(9)),
            ALL.map(RecvHalf::takes_bytes)
        );
    }

    #[test]
    fn silence_and_the_end_of_the_connection_cut_what_may_still_come() {
        let cut = Disconnected { held: true };
        assert_eq!(after(RecvHalf::disconnect), all_but(&[(0, cut), (1, cut)]));
        assert_eq!(
            after(RecvHalf::on_conn_end),
            all_but(&[(0, ConnEnded), (1, ConnEnded)])
        );
    }

    #[test]
    fn each_state_names_its_error_and_says_whether_the_application_is_done() {
        let reset = Some(RecvError::Reset(1));
        let silent = Some(RecvError::Disconnected);
        assert_eq!(
            ALL.map(|half| half.check_read().err()),
            [
                None,
                None,
                None,
                reset,
                reset,
                Some(RecvError::Stopped(2)),
                silent,
                silent,
                Some(RecvError::ConnEnded)
            ]
        );
        assert_eq!(
            ALL.map(RecvHalf::is_done),
            [false, false, true, false, true, true, false, true, true]
        );
    }
}
