use std::time::Duration;

use pipe_proto::GrowthBudget;

use crate::{Error, ErrorKind, Result};

/// The settings that every transport honours.
///
/// Start from [`Config::default`] and change what has to differ:
///
/// ```
/// use pipe_core::Config;
/// use std::time::Duration;
///
/// let config = Config::default()
///     .with_stream_window(64 * 1024)
///     .with_keep_alive(Duration::from_secs(2));
/// config.validate()?;
/// # Ok::<(), pipe_core::Error>(())
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Config {
    /// Maximum number of streams opened by one side that are alive at once. Further opens wait. 256
    /// by default; from 1 to 65,536.
    pub max_streams: u32,
    /// Number of bytes that may be in flight or unread in one direction of a stream from its start,
    /// and at any time. A writer waits when they are used up. 256 KiB by default; from 1 byte to
    /// 1 GiB.
    pub stream_window: u32,
    /// Maximum number of bytes that this window grows to, where a stream needs more for its path: while the application
    /// reads all that comes, it has twice what is used in a round trip, and more while the sender speeds up. A stream
    /// that is not read keeps [`stream_window`](Self::stream_window).
    ///
    /// 32 MiB by default, which is 1 Gbit/s over a round trip of 250 ms; up to 1 GiB. Windows do not grow if it is
    /// `stream_window` or less.
    pub max_stream_window: u32,
    /// Maximum number of bytes that all windows of one direction of a connection grow by together. While it is
    /// used up, the streams that need it share it.
    ///
    /// 32 MiB by default; 0 keeps all windows as they are. It comes on top of
    /// [`connection_window`](Self::connection_window), and counts for no more than that.
    pub window_growth: u64,
    /// Budget that the windows of all connections with it grow out of together, beside
    /// [`window_growth`](Self::window_growth) of each: that of the process by default, 256 MiB.
    pub growth_budget: GrowthBudget,
    /// Maximum number of bytes in flight or unread in one direction of all streams together.
    ///
    /// 128 MiB by default, which is every stream's window at once, so that streams left unread never
    /// hold up others; a smaller one saves memory at that price. From `stream_window` upwards.
    pub connection_window: u64,
    /// Maximum number of connections that wait to be accepted at a listener. Further dials wait.
    /// 128 by default; from 1 to 65,536.
    pub accept_backlog: u32,
    /// Maximum number of incoming handshakes that run at once at a listener. 64 by default; from 1
    /// to 65,536.
    pub max_handshakes: u32,
    /// Time limit of a dial, and of the handshake of an incoming connection. 10 s by default.
    pub handshake_timeout: Duration,
    /// Time of silence after which a ping is sent. 5 s by default; less than `disconnected_after`.
    pub keep_alive: Duration,
    /// Time without packets from the peer after which a connection is
    /// [`Disconnected`](crate::ConnState::Disconnected). 10 s by default.
    pub disconnected_after: Duration,
    /// Time without packets from the peer after which a connection is
    /// [`Failed`](crate::ConnState::Failed), counted from the last one received. 30 s by default;
    /// more than `disconnected_after`.
    pub failed_after: Duration,
    /// Effect of a disconnect on the streams of the connection. They wait by default.
    pub on_disconnect: OnDisconnect,
}

/// The effect on the streams of a connection that becomes
/// [`Disconnected`](crate::ConnState::Disconnected).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum OnDisconnect {
    /// Their reads and writes wait, and go on without a loss once the peer is back.
    #[default]
    Wait,
    /// Streams end with [`Disconnected`](crate::ErrorKind::Disconnected). The connection itself
    /// waits, and carries new streams once the peer is reachable again.
    FailStreams,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            max_streams: 256,
            stream_window: 256 * 1024,
            max_stream_window: 32 * 1024 * 1024,
            window_growth: 32 * 1024 * 1024,
            growth_budget: GrowthBudget::of_process(),
            connection_window: 128 * 1024 * 1024,
            accept_backlog: 128,
            max_handshakes: 64,
            handshake_timeout: Duration::from_secs(10),
            keep_alive: Duration::from_secs(5),
            disconnected_after: Duration::from_secs(10),
            failed_after: Duration::from_secs(30),
            on_disconnect: OnDisconnect::Wait,
        }
    }
}

macro_rules! setters {
    ($($setter:ident, $field:ident: $type:ty;)*) => {
        $(
            #[doc = concat!("Sets [`", stringify!($field), "`](Self::", stringify!($field), ").")]
            #[must_use]
            pub fn $setter(mut self, $field: $type) -> Self {
                self.$field = $field;
                self
            }
        )*
    };
}

impl Config {
    setters! {
        with_max_streams, max_streams: u32;
        with_stream_window, stream_window: u32;
        with_max_stream_window, max_stream_window: u32;
        with_window_growth, window_growth: u64;
        with_growth_budget, growth_budget: GrowthBudget;
        with_connection_window, connection_window: u64;
        with_accept_backlog, accept_backlog: u32;
        with_max_handshakes, max_handshakes: u32;
        with_handshake_timeout, handshake_timeout: Duration;
        with_keep_alive, keep_alive: Duration;
        with_disconnected_after, disconnected_after: Duration;
        with_failed_after, failed_after: Duration;
        with_on_disconnect, on_disconnect: OnDisconnect;
    }

    /// Returns whether a connection's streams can use all their windows at once, so that
    /// [`connection_window`](Self::connection_window) never blocks a writer.
    pub fn connection_window_is_ample(&self) -> bool {
        // Streams of both openers carry bytes in each direction.
        self.connection_window >= 2 * u64::from(self.max_streams) * u64::from(self.stream_window)
    }

    /// Returns the number of bytes that all windows of one direction of a connection may grow by together:
    /// [`window_growth`](Self::window_growth), as far as the other settings leave a use for it.
    pub fn effective_window_growth(&self) -> u64 {
        if self.max_stream_window <= self.stream_window {
            return 0;
        }
        self.window_growth.min(self.connection_window)
    }

    /// Checks every setting against its range. Transports call it before they use a configuration.
    ///
    /// # Errors
    ///
    /// [`ConfigInvalid`](ErrorKind::ConfigInvalid), which names the setting, its value and its limit.
    pub fn validate(&self) -> Result<()> {
        in_range("max_streams", self.max_streams, 1, 65_536)?;
        in_range("stream_window", self.stream_window, 1, 1 << 30)?;
        in_range("max_stream_window", self.max_stream_window, 0, 1 << 30)?;
        in_range(
            "connection_window",
            self.connection_window,
            u64::from(self.stream_window),
            u64::MAX,
        )?;
        in_range("accept_backlog", self.accept_backlog, 1, 65_536)?;
        in_range("max_handshakes", self.max_handshakes, 1, 65_536)?;
        duration("handshake_timeout", self.handshake_timeout)?;
        duration("keep_alive", self.keep_alive)?;
        duration("disconnected_after", self.disconnected_after)?;
        duration("failed_after", self.failed_after)?;
        ordered(
            "keep_alive",
            self.keep_alive,
            "disconnected_after",
            self.disconnected_after,
        )?;
        ordered(
            "disconnected_after",
            self.disconnected_after,
            "failed_after",
            self.failed_after,
        )
    }
}

fn in_range<T: Copy + PartialOrd + std::fmt::Display>(
    name: &str,
    value: T,
    min: T,
    max: T,
) -> Result<()> {
    if value < min || value > max {
        return Err(invalid(format!(
            "{name} is {value}, but has to be from {min} to {max}"
        )));
    }
    Ok(())
}

fn duration(name: &str, value: Duration) -> Result<()> {
    const MIN: Duration = Duration::from_millis(1);
    const MAX: Duration = Duration::from_secs(5 * 60);
    if value < MIN || value > MAX {
        return Err(invalid(format!(
            "{name} is {value:?}, but has to be from {MIN:?} to {MAX:?}"
        )));
    }
    Ok(())
}

fn ordered(less: &str, a: Duration, more: &str, b: Duration) -> Result<()> {
    if a >= b {
        return Err(invalid(format!(
            "{less} is {a:?}, but has to be less than {more}, {b:?}"
        )));
    }
    Ok(())
}

fn invalid(message: String) -> Error {
    Error::new(ErrorKind::ConfigInvalid, message)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_default_is_valid() {
        Config::default().validate().unwrap();
    }

    #[test]
    fn windows_grow_only_where_the_settings_leave_a_use_for_it() {
        let growth = |config: Config| config.effective_window_growth();
        let ok = Config::default;
        assert_eq!(growth(ok()), 32 << 20);
        assert_eq!(growth(ok().with_window_growth(0)), 0);
        assert_eq!(growth(ok().with_max_stream_window(256 * 1024)), 0);
        assert_eq!(growth(ok().with_stream_window(64 << 20)), 0);
        assert_eq!(growth(ok().with_connection_window(1 << 20)), 1 << 20);
    }

    #[test]
    fn each_setting_out_of_range_is_named_with_its_limit() {
        let ms = Duration::from_millis;
        let ok = Config::default;
        let cases = [
            (
                ok().with_max_streams(0),
                "max_streams is 0, but has to be from 1 to 65536",
            ),
            (
                ok().with_stream_window(0),
                "stream_window is 0, but has to be from 1 to 1073741824",
            ),
            (
                ok().with_max_stream_window(u32::MAX),
                "max_stream_window is 4294967295, but has to be from 0 to 1073741824",
            ),
            (
                ok().with_connection_window(1),
                "connection_window is 1, but has to be from 262144",
            ),
            (ok().with_accept_backlog(0), "accept_backlog is 0"),
            (
                ok().with_max_handshakes(70_000),
                "max_handshakes is 70000, but has to be from 1 to",
            ),
            (
                ok().with_handshake_timeout(Duration::ZERO),
                "handshake_timeout is 0ns",
            ),
            (
                ok().with_keep_alive(ms(300_001)),
                "keep_alive is 300.001s, but has to be from 1ms to",
            ),
            (
                ok().with_keep_alive(ms(10_000)),
                "keep_alive is 10s, but has to be less than disc",
            ),
            (
                ok().with_failed_after(ms(9_000)),
                "disconnected_after is 10s, but has to be less",
            ),
        ];
        for (config, message) in cases {
            let error = config.validate().unwrap_err();
            assert_eq!(error.kind(), ErrorKind::ConfigInvalid);
            assert!(error.to_string().starts_with(message), "{error}");
        }
    }
}
