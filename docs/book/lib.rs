//! The book of pipewerks. Its chapters are in `src`; here are those with Rust blocks, so that each block is
//! compiled and run as a documentation test, together with those in the READMEs of the crates. The test `chapters` sees to it that none is missing.

macro_rules! chapters {
    ($($chapter:ident: $path:literal;)*) => {
        $(
            #[cfg(doctest)]
            #[doc = include_str!($path)]
            mod $chapter {}
        )*
    };
}

chapters! {
    start: "src/start.md";
    contract: "src/contract.md";
    transports: "src/transports.md";
    inproc: "src/inproc.md";
    tcp: "src/tcp.md";
    tls: "src/tls.md";
    ws: "src/ws.md";
    nats: "src/nats.md";
    unix: "src/unix.md";
    quic: "src/quic.md";
    wt: "src/wt.md";
    webrtc: "src/webrtc.md";
    bytes: "src/bytes.md";
    several: "src/several.md";
    security: "src/security.md";
    swapping: "src/swapping.md";
}

// The examples in the READMEs of the crates. Those of pipewerks and pipe-conformance are tested there.
chapters! {
    readme_core: "../../pipe-core/README.md";
    readme_net: "../../pipe-net/README.md";
    readme_inproc: "../../pipe-inproc/README.md";
    readme_mux: "../../pipe-mux/README.md";
    readme_sctp: "../../pipe-sctp/README.md";
    readme_tcp: "../../pipe-tcp/README.md";
    readme_tls: "../../pipe-tls/README.md";
    readme_ws: "../../pipe-ws/README.md";
    readme_nats: "../../pipe-nats/README.md";
    readme_unix: "../../pipe-unix/README.md";
    readme_quic: "../../pipe-quic/README.md";
    readme_webrtc: "../../pipe-webrtc/README.md";
}
