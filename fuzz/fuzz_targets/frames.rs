//! Frames of WebSocket: whatever comes, the payload is the same however the bytes are cut, and there is no more of it than
//! there were bytes.
#![no_main]

use libfuzzer_sys::fuzz_target;
use pipe_ws::decode_frames;

fuzz_target!(|bytes: &[u8]| {
    let (whole, end) = decode_frames(bytes, usize::MAX);
    assert!(whole.len() <= bytes.len());
    for piece in [1, 2, 7, 64] {
        assert_eq!(
            decode_frames(bytes, piece),
            (whole.clone(), end.clone()),
            "by {piece}"
        );
    }
});
