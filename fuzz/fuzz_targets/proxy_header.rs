//! The header of the PROXY protocol: whatever comes, it is read in one way, wherever it is cut.
#![no_main]

use libfuzzer_sys::fuzz_target;
use pipe_net::parse_header;

/// Maximum length of a header of version 1, and of version 2, in bytes.
const MAX: [usize; 2] = [107, 4096];

fuzz_target!(|bytes: &[u8]| {
    let whole = parse_header(bytes);
    if let Ok(Some((_, len))) = whole {
        assert!(len <= bytes.len());
        let version_2 = usize::from(bytes[0] != b'P');
        assert!((15..=MAX[version_2]).contains(&len), "{len}");
        // What follows changes nothing.
        assert_eq!(parse_header(&bytes[..len]), whole);
    }
    if whole == Ok(None) {
        assert!(bytes.len() < MAX[1]);
    }
    // What is not whole becomes whole, or wrong, and nothing else.
    for cut in 0..bytes.len().min(200) {
        match parse_header(&bytes[..cut]) {
            Ok(None) => {}
            Ok(Some(found)) => assert_eq!(whole, Ok(Some(found))),
            Err(_) => assert!(whole.is_err()),
        }
    }
});
