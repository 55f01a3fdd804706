use std::sync::Arc;
use std::time::Duration;

use pipe_core::{Config, Wire};
use quinn::congestion::CubicConfig;
use quinn::{EndpointConfig, MtuDiscoveryConfig, TransportConfig, VarInt};

/// The kind of paths that a transport uses.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Profile {
    /// Any network: datagrams of 1,200 bytes at first, and of up to 1,452 where they get through.
    #[default]
    Wan,
    /// The loopback device, or a network of large frames: datagrams of up to 6,500 bytes. It moves
    /// about twice as much there, and works between any two ends: with one of the other profile, the
    /// datagrams stay small.
    Loopback,
}

/// Number of bytes that a connection accepts beyond those of the application's streams: for the
/// control streams and the first bytes of streams.
const RESERVE: u64 = 128 * 1024;

/// The least stream window, in bytes: the control streams have it, too.
const MIN_WINDOW: u32 = 1024;

/// Maximum length of a chain of certificates, in bytes.
const CRYPTO_BUFFER: usize = 64 * 1024;

impl Profile {
    /// Returns the largest datagram to send, in bytes. The system sends ten of them at once, within
    /// 64 KiB.
    fn largest(self) -> u16 {
        match self {
            Self::Wan => 1452,
            Self::Loopback => 6500,
        }
    }

    /// Returns the settings of an endpoint.
    pub(crate) fn endpoint(self) -> EndpointConfig {
        let mut config = EndpointConfig::default();
        // Bounds the buffers of the socket. 1,472 bytes, and those of the other profile, are in range.
        let _ = config.max_udp_payload_size(self.largest() + 20);
        config
    }

    /// Returns the settings of a connection.
    pub(crate) fn transport(self, config: &Config, wire: Wire) -> Arc<TransportConfig> {
        let mut transport = TransportConfig::default();
        let mut discovery = MtuDiscoveryConfig::default();
        discovery.upper_bound(self.largest());
        let reserve = match wire {
            Wire::Pipe => RESERVE,
            Wire::Raw => 0,
        };
        let window = config.connection_window.saturating_add(reserve);
        transport
            .congestion_controller_factory(Arc::new(CubicConfig::default()))
            .mtu_discovery_config(Some(discovery))
            .max_idle_timeout(idle_timeout(config.failed_after).try_into().ok())
            .crypto_buffer_size(CRYPTO_BUFFER)
            .datagram_receive_buffer_size(None)
            // One more for the first byte of a stream.
            .stream_receive_window((config.stream_window.max(MIN_WINDOW) + 1).into())
            .receive_window(VarInt::from_u64(window).unwrap_or(VarInt::MAX))
            .send_window(window);
        match wire {
            Wire::Pipe => {
                // The opener's limit counts, since it is the one that tracks when both ends are
                // done. This one is above it, since it is raised only when an eighth of it is used
                // up.
                let streams = (config.max_streams * 8).div_ceil(7) + 2;
                transport
                    .max_concurrent_bidi_streams(streams.into())
                    .max_concurrent_uni_streams(1_u32.into());
            }
            Wire::Raw => {
                transport
                    .max_concurrent_bidi_streams(config.max_streams.into())
                    .max_concurrent_uni_streams(0_u32.into())
                    .keep_alive_interval(Some(config.keep_alive));
            }
        }
        Arc::new(transport)
    }
}

/// Returns QUIC's own idle timeout, which is longer than the connection's own clock. It covers
/// phases without that clock. Of both sides' timeouts the shorter one counts (RFC 9000, section
/// 10.1).
fn idle_timeout(failed_after: Duration) -> Duration {
    2 * failed_after
}
