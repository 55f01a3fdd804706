//! What `build.rs` makes of `proto/weather.proto`.

// The lints of the project are for code that people write.
#![allow(clippy::all, missing_docs, unreachable_pub, unused_qualifications)]

tonic::include_proto!("weather");
