//! The conformance suite on `fifo://`.

#[cfg(target_os = "linux")]
mod cable;
#[cfg(target_os = "linux")]
mod fixture;

#[cfg(target_os = "linux")]
fn main() -> std::process::ExitCode {
    pipe_conformance::Suite::new()
        .with(fixture::Fifo::new())
        .main()
}

#[cfg(not(target_os = "linux"))]
fn main() {}
