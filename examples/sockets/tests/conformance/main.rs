//! The conformance suite on `sockets://`.

mod cable;
mod fixture;

fn main() -> std::process::ExitCode {
    pipe_conformance::Suite::new().with(fixture::Sockets).main()
}
