use std::time::Duration;

use pipe_core::Config;

/// How many connections an attack has that opens a thousand streams on each.
pub(crate) const CROWD: usize = 1;

/// How many connections of strangers an attack has. What the process holds anyway is little beside them.
pub(crate) const STRANGERS: usize = 8;

/// How the listener under attack is configured.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Setting {
    /// That of a listener which is open to strangers, except that windows may grow.
    Usual,
    /// The same, with windows that stay as they are.
    Strangers,
    /// A thousand streams at once, and 8 MiB of unread bytes of all together.
    Crowd,
}

impl Setting {
    /// Returns the name that [`by_name`](Self::by_name) knows.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Usual => "usual",
            Self::Strangers => "strangers",
            Self::Crowd => "crowd",
        }
    }

    /// Returns the setting of this name.
    pub(crate) fn by_name(name: &str) -> Result<Self, String> {
        [Self::Usual, Self::Strangers, Self::Crowd]
            .into_iter()
            .find(|setting| setting.name() == name)
            .ok_or_else(|| format!("there is no setting {name}"))
    }

    /// Returns the configuration of the listener.
    pub(crate) fn config(self) -> Config {
        match self {
            Self::Usual => config(),
            Self::Strangers => config().with_window_growth(0),
            Self::Crowd => config()
                .with_window_growth(0)
                .with_max_streams(1000)
                .with_connection_window(8 << 20),
        }
    }

    /// Returns how many bytes each connection may cost: 2.2 times what its window grants and what its streams cost
    /// beside that, or 3 MiB for a stranger.
    pub(crate) fn limit(self, stream_cost: usize) -> usize {
        let config = self.config();
        match self {
            Self::Strangers => 3 << 20,
            Self::Usual | Self::Crowd => {
                let window = config.connection_window as usize;
                window * 22 / 10 + config.max_streams as usize * stream_cost
            }
        }
    }
}

/// The settings of a listener that is open to strangers, as the book has them, but that gives peers up early: one
/// that is killed says nothing over a wire of datagrams.
pub(crate) fn config() -> Config {
    Config::default()
        .with_max_streams(32)
        .with_stream_window(64 * 1024)
        .with_connection_window(1024 * 1024)
        .with_max_handshakes(16)
        .with_accept_backlog(32)
        .with_handshake_timeout(Duration::from_secs(5))
        .with_keep_alive(Duration::from_secs(1))
        .with_disconnected_after(Duration::from_secs(3))
        .with_failed_after(Duration::from_secs(6))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_setting_is_found_by_its_name() {
        for setting in [Setting::Usual, Setting::Strangers, Setting::Crowd] {
            assert_eq!(Setting::by_name(setting.name()), Ok(setting));
            setting.config().validate().unwrap();
        }
        assert!(Setting::by_name("none").is_err());
    }
}
