//! Hostile peers against every transport of the default features: what the listener's other peers notice, and
//! what the attack costs in memory. With `PIPE_HOSTILE_SOAK` it is a soak (`ci/soak-hostile`).

mod byte_streams;
#[path = "../../pipe-ws/tests/it/messages.rs"]
mod messages;
mod quic;
mod targets;
mod webrtc;

use pipe_conformance::hostile::{Suite, Target, yamux::Yamux};
use targets::{Inproc, Quic, Tcp, Tls, WebRtc, Ws, Wss, Wt};

/// What a connection over WebRTC costs beside its windows: the engine's buffers, and SCTP's.
const WEBRTC_CONN: usize = 2 << 20;

/// What the windows of plain channels cost: twice 32 times one and a message, and what the engine holds.
const RAW_CHANNELS: usize = 2 * (32 * (96 << 10) + (1 << 20));

/// What a plain channel may hold, which has no part in a window of the connection.
const RAW_CHANNEL: usize = 64 << 10;

/// What the windows of a connection over plain yamux cost: 256 KiB each, whatever is configured.
const RAW_WINDOWS: usize = 2 * 32 * (256 << 10);

/// What a stream over QUIC may hold beside its bytes: quinn (0.11) puts small frames together once the datagrams that
/// they came in are of 32 KiB.
const QUIC_STREAM: usize = 32 << 10;

fn main() -> std::process::ExitCode {
    let tcp = || Yamux::new(byte_streams::tcp).with_stalled(byte_streams::stalled_tcp);
    let suite = Suite::new()
        .with(Target::new(Tcp { raw: false }).with_attacker(tcp()))
        .with(
            Target::new(Tcp { raw: true })
                .with_attacker(tcp().raw())
                .with_windows(RAW_WINDOWS),
        )
        .with(
            Target::new(Tls).with_attacker(
                Yamux::new(byte_streams::tls)
                    .with_silent(byte_streams::tcp)
                    .with_stalled(byte_streams::stalled_tls),
            ),
        )
        .with(
            Target::new(Ws).with_attacker(
                Yamux::new(byte_streams::ws)
                    .with_silent(byte_streams::tcp)
                    .with_stalled(byte_streams::stalled_ws),
            ),
        )
        .with(
            Target::new(Wss).with_attacker(
                Yamux::new(byte_streams::wss)
                    .with_silent(byte_streams::tcp)
                    .with_stalled(byte_streams::stalled_wss),
            ),
        );
    #[cfg(unix)]
    let suite =
        suite.with(Target::new(targets::Unix).with_attacker(Yamux::new(byte_streams::unix)));
    suite
        .with(
            Target::new(Quic)
                .with_attacker(quic::Quic { web: false })
                .with_stream_cost(QUIC_STREAM),
        )
        .with(
            Target::new(Wt)
                .with_attacker(quic::Quic { web: true })
                .with_stream_cost(QUIC_STREAM),
        )
        .with(
            Target::new(WebRtc { raw: false })
                .with_attacker(webrtc::WebRtc { raw: false })
                .with_conn_cost(WEBRTC_CONN),
        )
        .with(
            Target::new(WebRtc { raw: true })
                .with_attacker(webrtc::WebRtc { raw: true })
                .with_windows(RAW_CHANNELS)
                .with_stream_cost(RAW_CHANNEL)
                .with_conn_cost(WEBRTC_CONN),
        )
        .with(Target::new(Inproc).in_process())
        .main()
}
