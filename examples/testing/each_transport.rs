//! [`on_every_transport!`]: one named test of each function for each transport.

/// Makes tests of functions `async fn(addr: &str) -> anyhow::Result<()>`, each given an address to listen
/// on. The default registry meets there, so that nothing but the address tells the transports apart.
macro_rules! on_every_transport {
    ($($test:ident)*) => {
        on_every_transport! { @ inproc: "inproc://", $($test)* }
        on_every_transport! { @ tcp: "tcp://127.0.0.1:0", $($test)* }
        on_every_transport! { @ tls: "tls://127.0.0.1:0", $($test)* }
        on_every_transport! { @ ws: "ws://127.0.0.1:0", $($test)* }
        on_every_transport! { @ wss: "wss://127.0.0.1:0", $($test)* }
        // A name of the system's choice, which there is on Linux alone.
        #[cfg(target_os = "linux")]
        on_every_transport! { @ unix: "unix:///@", $($test)* }
        on_every_transport! { @ quic: "quic://127.0.0.1:0", $($test)* }
        on_every_transport! { @ wt: "wt://127.0.0.1:0", $($test)* }
        on_every_transport! { @ webrtc_by_inproc: "webrtc+inproc://", $($test)* }
        on_every_transport! { @ webrtc_by_tcp: "webrtc+tcp://127.0.0.1:0", $($test)* }
        on_every_transport! { @ webrtc_by_wss: "webrtc+wss://127.0.0.1:0", $($test)* }
        on_every_transport! { @ webrtc_by_wt: "webrtc+wt://127.0.0.1:0", $($test)* }
    };
    (@ $transport:ident: $addr:literal, $($test:ident)*) => {
        mod $transport {
            $(
                #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
                async fn $test() -> anyhow::Result<()> {
                    // Far more than it takes, for machines under load.
                    let limit = std::time::Duration::from_secs(120);
                    tokio::time::timeout(limit, super::$test($addr)).await?
                }
            )*
        }
    };
}
pub(crate) use on_every_transport;
