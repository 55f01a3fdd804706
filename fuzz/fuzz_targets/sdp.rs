//! Any text: a session description or a candidate, or an error that says so. What is read is written and read
//! alike.

#![no_main]

use libfuzzer_sys::fuzz_target;
use pipe_webrtc::fuzzing;

fuzz_target!(|text: &str| {
    fuzzing::description(text);
    fuzzing::candidate(text);
});
