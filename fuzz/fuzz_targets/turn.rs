//! Any packets of servers of STUN and TURN, and of multicast DNS: none does harm.

#![no_main]

use libfuzzer_sys::fuzz_target;
use pipe_webrtc::fuzzing;

fuzz_target!(|input: (bool, Vec<Vec<u8>>)| {
    let (answers, packets) = input;
    fuzzing::packets(&packets, answers);
});
