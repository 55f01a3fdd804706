use futures::FutureExt;

use super::*;

#[test]
fn an_unknown_scheme_is_named_together_with_the_known_ones() {
    let addr = Addr::parse("gopher://example.org:70").unwrap();
    let error = Registry::new()
        .dial(&addr)
        .now_or_never()
        .unwrap()
        .unwrap_err();
    assert_eq!(error.kind(), ErrorKind::AddrUnsupported);
    assert_eq!(
        error.to_string(),
        "no transport for gopher://example.org:70: the scheme \"gopher\" is unknown; \
         no transport is registered"
    );
    let listen = Registry::new().listen(&addr).now_or_never().unwrap();
    assert_eq!(listen.unwrap_err().kind(), ErrorKind::AddrUnsupported);
}
