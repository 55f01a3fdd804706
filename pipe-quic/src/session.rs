use pipe_core::backend::PingWaiter;
use pipe_core::backend::proto::{Carrier, DrainMode, Hello, Session, SessionConfig};
use pipe_core::{Config, Wire};
use tokio::time::Instant;

use crate::profile::most_stream_window;
use crate::stream_inner::StreamRef;

/// The session of a connection.
pub(crate) type QuicSession = Session<StreamRef, PingWaiter>;

/// Starts the session of a connection. Its first frame is the hello.
pub(crate) fn start_session(config: &Config, wire: Wire, listens: bool) -> QuicSession {
    let carrier = Carrier {
        local_bit: u64::from(listens),
        opens_by_frame: false,
        has_orphans: false,
        ends_natively: true,
        drain: DrainMode::WhenIdle,
        is_plain: wire == Wire::Raw,
    };
    let mut session_config = SessionConfig::from(config);
    session_config.max_stream_window = most_stream_window(config);
    if wire == Wire::Raw {
        // A plain peer does not know when this side is done with a stream. QUIC counts by itself.
        session_config.hello.max_streams = Hello::UNLIMITED.max_streams;
    }
    Session::new(carrier, session_config, Instant::now().into_std())
}
