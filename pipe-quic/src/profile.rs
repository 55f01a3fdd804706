use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use pipe_core::{Config, Wire};
use quinn::congestion::CubicConfig;
use quinn::{EndpointConfig, MtuDiscoveryConfig, TransportConfig, VarInt};

/// Maximum number of bytes that the system joins to one receive (GRO).
const RECEIVE: usize = 64 * 1024;

/// The kind of paths that a transport uses.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Profile {
    /// Any network: datagrams of 1,200 bytes at first, and of up to 1,452 where they get through. They are of 1,452 from
    /// the start where the peer is at a loopback address.
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
const MIN_WINDOW: u64 = 1024;

/// Maximum length of a chain of certificates, in bytes.
const CRYPTO_BUFFER: usize = 64 * 1024;

/// Number of streams of both directions, and of one, that the peer may open beyond those of `pipe/1`: the session's own,
/// and those of HTTP/3 (control, two of compression, and some of kinds that are not known here).
const WEB_STREAMS: (u32, u32) = (1, 7);

/// Number of bytes of datagrams of QUIC that are kept. None is read.
const DATAGRAMS: usize = 8 * 1024;

/// The round trip that a path is taken to have until it is measured. What is lost before that is sent again after three of
/// them. RFC 9002 (section 6.2.2) advises 333 ms, so that a first datagram that a crowd has pushed out of a socket's buffer
/// costs a dial a second. Google's implementation has 100 ms. A longer path costs a datagram or two that are sent twice.
const INITIAL_RTT: Duration = Duration::from_millis(100);

/// What connections are used for.
#[derive(Clone, Copy, Debug)]
pub(crate) struct UseOfQuic {
    pub(crate) wire: Wire,
    /// Whether HTTP/3 is between the streams and QUIC.
    pub(crate) is_web: bool,
}

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
        let _ = config.max_udp_payload_size(self.largest_received());
        config
    }

    fn largest_received(self) -> u16 {
        self.largest() + 20
    }

    /// Returns for how many datagrams a receive needs room, of those that the system may join. quinn (0.11) has 32
    /// buffers in each endpoint, each for that many of the largest.
    pub(crate) fn receive_segments(self, system: usize) -> usize {
        system.min(RECEIVE.div_ceil(self.largest_received().into()))
    }

    /// Returns the settings of a connection with this peer.
    pub(crate) fn transport(
        self,
        config: &Config,
        UseOfQuic { wire, is_web }: UseOfQuic,
        peer: SocketAddr,
    ) -> Arc<TransportConfig> {
        let mut transport = TransportConfig::default();
        let mut discovery = MtuDiscoveryConfig::default();
        discovery.upper_bound(self.largest());
        let mut discovers = true;
        if peer.ip().to_canonical().is_loopback() {
            // They get through there: several datagrams fewer for each connection, which quinn (0.11) reads by the byte.
            let first = Self::Wan.largest();
            transport.initial_mtu(first);
            discovers = first < self.largest();
        }
        let (reserve, growth) = match wire {
            // CREDIT says what a window has grown to. QUIC's own windows hold a peer that does not keep to it.
            Wire::Pipe => (RESERVE, config.effective_window_growth()),
            Wire::Raw if is_web => (RESERVE, 0),
            Wire::Raw => (0, 0),
        };
        let window = config.connection_window.saturating_add(reserve);
        let stream_window = match wire {
            Wire::Pipe => most_stream_window(config),
            Wire::Raw => config.stream_window,
        };
        let stream_window = u64::from(stream_window).max(MIN_WINDOW) + 1;
        transport
            .congestion_controller_factory(Arc::new(CubicConfig::default()))
            .mtu_discovery_config(discovers.then_some(discovery))
            .initial_rtt(INITIAL_RTT)
            .max_idle_timeout(idle_timeout(config.failed_after).try_into().ok())
            .crypto_buffer_size(CRYPTO_BUFFER)
            .datagram_receive_buffer_size(None)
            // One more for the first byte of a stream.
            .stream_receive_window(var_int(stream_window))
            .receive_window(var_int(window.saturating_add(growth)))
            .send_window(window);
        let (bidi, uni) = if is_web { WEB_STREAMS } else { (0, 0) };
        if is_web {
            // Browsers speak to no listener that takes none.
            transport.datagram_receive_buffer_size(Some(DATAGRAMS));
        }
        match wire {
            Wire::Pipe => {
                // The opener's limit counts, since it is the one that tracks when both ends are
                // done. This one is above it, since it is raised only when an eighth of it is used
                // up.
                let streams = (config.max_streams * 8).div_ceil(7) + 2 + bidi;
                transport
                    .max_concurrent_bidi_streams(streams.into())
                    .max_concurrent_uni_streams((1 + uni).into());
            }
            Wire::Raw => {
                transport
                    .max_concurrent_bidi_streams((config.max_streams + bidi).into())
                    .max_concurrent_uni_streams(uni.into())
                    .keep_alive_interval(Some(config.keep_alive));
            }
        }
        Arc::new(transport)
    }
}

/// Returns what the window of a stream may grow to, which is QUIC's own window of every stream. Earlier builds do not count
/// and fill that: a few of their streams that are not read leave room for others in the window of the connection.
pub(crate) fn most_stream_window(config: &Config) -> u32 {
    let growth = config
        .effective_window_growth()
        .min(config.connection_window / 4);
    let grown = u64::from(config.stream_window).saturating_add(growth);
    let most = config.max_stream_window.max(config.stream_window);
    u32::try_from(grown).map_or(most, |grown| grown.min(most))
}

fn var_int(value: u64) -> VarInt {
    VarInt::from_u64(value).unwrap_or(VarInt::MAX)
}

/// Returns QUIC's own idle timeout, which is longer than the connection's own clock. It covers
/// phases without that clock. Of both sides' timeouts the shorter one counts (RFC 9000, section
/// 10.1).
fn idle_timeout(failed_after: Duration) -> Duration {
    2 * failed_after
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_window_of_a_stream_grows_to_a_part_of_the_connections_at_most() {
        let most = |config: Config| most_stream_window(&config);
        let default = Config::default;
        assert_eq!(most(default()), 32 << 20);
        assert_eq!(most(default().with_window_growth(0)), 256 << 10);
        assert_eq!(most(default().with_max_stream_window(1 << 20)), 1 << 20);
        let small = default().with_connection_window(1 << 20);
        assert_eq!(most(small), 512 << 10);
        let large = default().with_stream_window(64 << 20);
        assert_eq!(most(large), 64 << 20);
    }

    #[test]
    fn a_receive_has_room_for_all_that_the_system_joins_and_no_more() {
        for profile in [Profile::Wan, Profile::Loopback] {
            let datagram = usize::from(profile.largest_received());
            let room = profile.receive_segments(64) * datagram;
            assert!((RECEIVE..RECEIVE + datagram).contains(&room), "{room}");
            assert_eq!(profile.receive_segments(1), 1);
        }
    }
}
