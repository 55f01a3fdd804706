//! Turns the `.proto` file into Rust, without a `protoc` to be installed.

use std::error::Error;

fn main() -> Result<(), Box<dyn Error>> {
    println!("cargo::rerun-if-changed=proto");
    let files = protox::compile(["proto/weather.proto"], ["proto"])?;
    tonic_prost_build::compile_fds(files)?;
    Ok(())
}
