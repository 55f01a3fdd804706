use std::collections::HashSet;

use super::*;

#[test]
fn every_form_is_read_and_written_alike() {
    for text in [
        "inproc://name",
        "inproc://",
        "tcp://127.0.0.1:0",
        "tcp://[::1]:7000",
        "tls://example.org:7000?cert-sha256=00ff",
        "unix:///run/app.sock",
        "quic://example.org:443",
        "webrtc+tcp://127.0.0.1:7000/room",
    ] {
        let addr: Addr = text.parse().unwrap();
        assert_eq!(addr.to_string(), text);
        assert_eq!(Addr::try_from(text.to_owned()).unwrap(), addr);
        assert_eq!(Addr::try_from(&text.to_owned()).unwrap(), Addr::from(&addr));
    }
}

#[test]
fn what_would_not_survive_being_written_is_refused() {
    let error = Addr::parse("file://=///x:/y").unwrap_err();
    assert_eq!(error.kind(), ErrorKind::AddrInvalid);
    assert!(error.to_string().contains("another one"), "{error}");
    for text in ["file://host/y", "file:///x:/y", "unix:///x:/y"] {
        let addr = Addr::parse(text).unwrap();
        assert_eq!(Addr::parse(addr.as_str()).unwrap(), addr, "{text}");
    }
}

#[test]
fn the_parts_can_be_told() {
    let addr = Addr::parse("webrtc+tcp://[::1]:7000/room?wire=raw&name=a%20b").unwrap();
    assert_eq!(addr.scheme(), "webrtc+tcp");
    assert_eq!(addr.host(), Some("[::1]"));
    assert_eq!(addr.port(), Some(7000));
    assert_eq!(addr.path(), "/room");
    assert_eq!(addr.param("wire").as_deref(), Some("raw"));
    assert_eq!(addr.param("name").as_deref(), Some("a b"));
    assert_eq!(addr.param("none"), None);
    assert_eq!(Addr::parse("unix:///run/x").unwrap().host(), None);
    assert_eq!(Addr::parse("inproc://").unwrap().host(), None);
}

#[test]
fn what_is_wrong_is_said() {
    for (text, why) in [
        ("", "expected the form scheme://…"),
        ("localhost:80", "expected the form scheme://…"),
        ("tcp:localhost", "expected the form scheme://…"),
        ("://x", "the scheme is missing"),
        ("tcp:a://x", "expected the form scheme://…"),
        ("\0tcp://x", "expected the form scheme://…"),
        ("1tcp://x", "relative URL without a base"),
        ("tcp://host:99999", "invalid port number"),
        ("tcp://host:-1", "invalid port number"),
        ("tcp://[::1", "invalid IPv6 address"),
        ("tcp://ho st:1", "invalid international domain name"),
        ("tcp://a#b", "an address has no fragment (#…)"),
        (" tcp://a", "it has white space in it"),
        ("tcp://a\nb", "it has white space in it"),
    ] {
        let error = Addr::parse(text).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::AddrInvalid);
        let shown = error.to_string();
        assert!(
            shown.starts_with(&format!("invalid address {text:?}: ")),
            "{shown}"
        );
        if text != "tcp://ho st:1" {
            assert!(shown.ends_with(why), "{shown}");
        }
    }
}

#[test]
fn an_option_is_known_and_given_once() {
    let check = |query: &str, known: &[&str]| {
        let addr = Addr::parse(&format!("tcp://host:1{query}")).unwrap();
        addr.check_params(known)
            .map_err(|error| (error.kind(), error.to_string()))
    };
    check("", &[]).unwrap();
    check("?b=1&a=1", &["a", "b"]).unwrap();
    for (query, known, why) in [
        (
            "?a=1",
            &[][..],
            "the option \"a\" is unknown; there are none",
        ),
        ("?b", &["a"], "the option \"b\" is unknown; there is only a"),
        (
            "?c",
            &["a", "b"],
            "the option \"c\" is unknown; there are a, b",
        ),
        (
            "?a=1&b=1&a=1",
            &["a", "b"],
            "the option \"a\" is given twice",
        ),
    ] {
        let why = format!("invalid address tcp://host:1{query}: {why}");
        assert_eq!(check(query, known), Err((ErrorKind::AddrInvalid, why)));
    }
}

#[test]
fn an_address_of_another_scheme_is_unsupported() {
    let addr = Addr::parse("tcp://host:1").unwrap();
    addr.check_scheme("tcp").unwrap();
    let error = addr.check_scheme("quic").unwrap_err();
    assert_eq!(error.kind(), ErrorKind::AddrUnsupported);
    assert_eq!(error.to_string(), "tcp://host:1 is no quic:// address");
}

#[test]
fn a_user_and_a_password_are_seen() {
    for (text, has) in [
        ("tcp://host:1", false),
        ("tcp://me@host:1", true),
        ("tcp://:secret@host:1", true),
    ] {
        assert_eq!(Addr::parse(text).unwrap().has_user(), has, "{text}");
    }
}

#[test]
fn an_opaque_address_is_given_once() {
    let addrs: HashSet<_> = ["unix", "mux", "unix"]
        .map(|scheme| Addr::opaque(scheme).unwrap())
        .into();
    assert_eq!(addrs.len(), 3);
    assert!(addrs.iter().all(|addr| addr.as_str().contains("://~")));
    assert!(Addr::opaque("no scheme").is_err());
}

#[test]
fn equal_text_is_an_equal_address() {
    let set: HashSet<Addr> = ["TCP://host:1", "tcp://host:1"]
        .iter()
        .map(|a| Addr::parse(a).unwrap())
        .collect();
    assert_eq!(set.len(), 1);
}

/// Lists as they are written, with the number of their addresses.
const LISTS: [(&str, usize); 4] = [
    ("quic://a:1,tls://a:2?cert-sha256=00ff,wss://a/pipe", 3),
    ("unix:///a,b,unix:///c", 2),
    ("tcp://[::1]:7000,tcp://127.0.0.1:7000", 2),
    ("inproc://,inproc://x?link=lan,,b", 2),
];

#[test]
fn a_list_is_read_and_written_alike() {
    for (text, count) in LISTS {
        let addr = Addr::parse(text).unwrap();
        assert_eq!(addr.to_string(), text);
        assert_eq!(format!("{addr:?}"), format!("{text:?}"));
        assert_eq!(addr.alternatives().len(), count, "{text}");
        for part in addr.alternatives() {
            assert_eq!(part.alternatives(), std::slice::from_ref(part));
        }
        assert_eq!(Addr::list(addr.alternatives()).unwrap(), addr);
        assert_eq!(Addr::list([&addr]).unwrap(), addr);
    }
    let list = Addr::parse(LISTS[0].0).unwrap();
    let texts: Vec<_> = list.alternatives().iter().map(Addr::as_str).collect();
    assert_eq!(
        texts,
        ["quic://a:1", "tls://a:2?cert-sha256=00ff", "wss://a/pipe"]
    );
}

#[test]
fn lists_are_equal_when_they_have_the_same_addresses_in_the_same_order() {
    let parse = |text: &str| Addr::parse(text).unwrap();
    let list = parse("tcp://a:1,TCP://b:2");
    assert_eq!(list, parse("tcp://a:1,tcp://b:2"));
    assert_ne!(list, parse("tcp://b:2,tcp://a:1"));
    assert_ne!(list, parse("tcp://a:1"));
    let set: HashSet<_> = [list.clone(), list].into();
    assert_eq!(set.len(), 1);
}

#[test]
fn a_list_has_no_parts_of_an_address() {
    let list = Addr::parse("tcp://a:1/x?k=v,tls://u@b:2/y?k=w").unwrap();
    assert_eq!(list.scheme(), ",");
    assert_eq!((list.host(), list.port(), list.path()), (None, None, ""));
    assert_eq!(list.param("k"), None);
    assert_eq!(list.params().count(), 0);
    assert!(list.has_user(), "one of its addresses has");
    let error = list.check_scheme("tcp").unwrap_err();
    assert_eq!(error.kind(), ErrorKind::AddrUnsupported);
    let why = format!("{list} is a list of addresses, and no tcp:// address");
    assert_eq!(error.to_string(), why);
    // No address has the scheme of a list.
    assert!(Addr::parse(",://x").is_err());
}

#[test]
fn an_option_is_added_to_each_address_of_a_list() {
    let list = Addr::parse("tcp://a:1?k=v,unix:///b").unwrap();
    let more = list.with_param("token", "x,y://z");
    let text = "tcp://a:1?k=v&token=x%2Cy%3A%2F%2Fz,unix:///b?token=x%2Cy%3A%2F%2Fz";
    assert_eq!(more.as_str(), text);
    assert_eq!(Addr::parse(text).unwrap(), more);
    assert_eq!(
        more.alternatives()[1].param("token").as_deref(),
        Some("x,y://z")
    );
}

#[test]
fn the_wrong_address_of_a_list_is_named() {
    for (text, part, place, why) in [
        (",tcp://a", "", "1 of the 2", "it is empty"),
        ("tcp://a:1,,tcp://b", "tcp://a:1,", "1 of the 2", "%2C"),
        ("tcp://a,tcp://b:2,", "tcp://b:2,", "2 of the 2", "%2C"),
        ("tcp://a, tcp://b", " tcp://b", "2 of the 2", "white space"),
        (
            "tcp://a,tls://b:x,ws://c",
            "tls://b:x",
            "2 of the 3",
            "port",
        ),
        ("tcp://a,tcp://b#c", "tcp://b#c", "2 of the 2", "fragment"),
        // The address of a web server has slashes for these backslashes once it is written down.
        (
            "ws://a/,b:\\\\c,ws://d",
            "ws://a/,b:\\\\c",
            "1 of the 2",
            "once",
        ),
    ] {
        let error = Addr::parse(text).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::AddrInvalid);
        let shown = error.to_string();
        let start = format!("invalid address {part:?}: number {place} in a list: ");
        assert!(shown.starts_with(&start), "{shown}");
        assert!(shown.contains(why), "{shown}");
    }
}

#[test]
fn what_would_become_a_list_once_it_is_written_down_is_refused() {
    for text in [
        "ws://a/,b:\\\\c",
        "ws://a/,b:/c/..//d",
        "tcp://a/,b:/c/..//d",
    ] {
        let error = Addr::parse(text).unwrap_err();
        assert!(error.to_string().contains("another one"), "{error}");
    }
}

#[test]
fn a_list_is_bounded() {
    let parse = |count| Addr::parse(&vec!["tcp://a:1"; count].join(","));
    let full = parse(Addr::MAX_LIST).unwrap();
    assert_eq!(full.alternatives().len(), 16);
    for error in [
        parse(17).unwrap_err(),
        Addr::list([&full, &full]).unwrap_err(),
        Addr::list(std::iter::repeat("tcp://a:1")).unwrap_err(),
    ] {
        assert_eq!(error.kind(), ErrorKind::AddrInvalid);
        assert!(error.to_string().contains("at most 16"), "{error}");
    }
}

#[test]
fn a_list_is_made_of_addresses_and_lists() {
    let list = Addr::list(["tcp://a,tcp://b", "tcp://c"]).unwrap();
    assert_eq!(list.as_str(), "tcp://a,tcp://b,tcp://c");
    let one = Addr::list(["unix:///a,"]).unwrap();
    assert_eq!(one, Addr::parse("unix:///a,").unwrap());
    for (addrs, why) in [
        (&[][..], "a list needs an address"),
        (&["unix:///a,", "unix:///b"], "%2C"),
        (&["unix:///a", "b"], "invalid address \"b\""),
    ] {
        let error = Addr::list(addrs.iter().copied()).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::AddrInvalid);
        assert!(error.to_string().contains(why), "{error}");
    }
}

#[test]
fn a_list_costs_a_single_address_no_memory() {
    assert_eq!(size_of::<Addr>(), size_of::<Url>());
}

#[cfg(feature = "native")]
#[test]
fn the_url_of_a_list_is_that_of_its_first_address() {
    let list = Addr::parse("tcp://a:1,tls://b:2").unwrap();
    assert_eq!(list.as_url().as_str(), "tcp://a:1");
}

#[cfg(feature = "serde")]
#[test]
fn serde_reads_what_it_writes_and_refuses_the_rest() {
    let addr = Addr::parse("tcp://host:1").unwrap();
    let json = serde_json::to_string(&addr).unwrap();
    assert_eq!(json, r#""tcp://host:1""#);
    assert_eq!(serde_json::from_str::<Addr>(&json).unwrap(), addr);
    assert!(serde_json::from_str::<Addr>(r#""tcp""#).is_err());
    for (text, _) in LISTS {
        let list = Addr::parse(text).unwrap();
        let json = serde_json::to_string(&list).unwrap();
        assert_eq!(json, format!("{text:?}"));
        assert_eq!(serde_json::from_str::<Addr>(&json).unwrap(), list);
    }
}
