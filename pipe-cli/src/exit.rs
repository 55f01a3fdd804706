use std::process::ExitCode;

/// The result of the program, as its exit code.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub(crate) enum Exit {
    /// Everything was done.
    Done = 0,
    /// Something was not done, for a reason that none of the others names.
    Failed = 1,
    /// The arguments make no sense.
    Usage = 2,
    /// No connection could be made, or nothing could be listened on.
    Unreached = 3,
    /// One of the two sides could not prove its identity.
    Unauthenticated = 4,
    /// The connection was made and then lost.
    Lost = 5,
    /// Stopped by Ctrl-C before everything was done: 128 and the number of SIGINT.
    Interrupted = 130,
    /// Stopped by SIGTERM before everything was done: 128 and the number of SIGTERM.
    Terminated = 143,
}

/// Text about the codes in the help and the manual.
pub(crate) const HELP: &str = "\
Exit codes:
  0    everything was done
  1    something failed
  2    the arguments make no sense
  3    could not connect, or could not listen
  4    one side could not prove who it is (certificates, tokens)
  5    the connection was lost
  130  stopped by Ctrl-C (143: by SIGTERM) before everything was done

The first Ctrl-C or SIGTERM lets what is under way end, the second one ends at once.";

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        Self::from(exit as u8)
    }
}
