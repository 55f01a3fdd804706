//! The book of pipewerks. Its chapters are in `src`; here are those with Rust blocks, so that each block is
//! compiled and run as a documentation test. The test `chapters` sees to it that none is missing.

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
    unix: "src/unix.md";
    quic: "src/quic.md";
    webrtc: "src/webrtc.md";
    bytes: "src/bytes.md";
    security: "src/security.md";
    swapping: "src/swapping.md";
}
