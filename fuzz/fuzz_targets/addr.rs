//! Any text: an address, a list of them, or an error that says so. What is an address is written and read alike.

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
    assert_eq!(Addr::list(addr.alternatives()).expect("a list"), addr);
    assert!(addr.alternatives().len() <= Addr::MAX_LIST);

    let more = addr.clone().with_param("wire", text);
    assert_eq!(Addr::parse(more.as_str()).expect("an address"), more);
    assert_eq!(more.alternatives().len(), addr.alternatives().len());
    for (part, more) in addr.alternatives().iter().zip(more.alternatives()) {
        assert!(part.as_str().starts_with(&format!("{}:", part.scheme())));
        let last = more.params().last();
        assert_eq!(more.params().count(), part.params().count() + 1);
        assert_eq!(last, Some(("wire".to_owned(), text.to_owned())));
    }
});
