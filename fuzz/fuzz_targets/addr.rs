//! Any text: an address, or an error that says so. What is an address is written and read alike.

#![no_main]

use libfuzzer_sys::fuzz_target;
use pipe_core::{Addr, ErrorKind};

fuzz_target!(|text: &str| {
    let addr = match Addr::parse(text) {
        Ok(addr) => addr,
        Err(error) => {
            assert_eq!(error.kind(), ErrorKind::AddrInvalid);
            return;
        }
    };
    let shown = addr.to_string();
    let again = Addr::parse(&shown)
        .unwrap_or_else(|error| panic!("{text:?} is shown as {shown:?}: {error}"));
    assert_eq!(again, addr);
    assert_eq!(again.to_string(), shown);
    assert!(shown.starts_with(&format!("{}:", addr.scheme())));

    let before = addr.params().count();
    let more = addr.with_param("wire", text);
    let last = more.params().last();
    assert_eq!(more.params().count(), before + 1);
    assert_eq!(last, Some(("wire".to_owned(), text.to_owned())));
    assert_eq!(Addr::parse(more.as_str()).expect("an address"), more);
});
