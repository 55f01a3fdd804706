//! The conformance suite on `sockets://`.

mod fixture;
mod proxied;

fn main() -> std::process::ExitCode {
    pipe_conformance::Suite::new().with(fixture::Sockets).main()
}
