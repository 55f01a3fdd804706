//! Bad input gets a clear error of the right kind.

use pipe_core::{Addr, Config, ErrorKind, Listener, Transport};
use pipe_inproc::{InprocTransport, Namespace};

fn transport() -> InprocTransport {
    InprocTransport::new().with_namespace(Namespace::new())
}

fn addr(text: &str) -> Addr {
    text.parse().unwrap()
}

#[tokio::test]
async fn a_window_of_zero_is_refused_before_anything_is_made() {
    let error = transport()
        .with_config(Config::default().with_stream_window(0))
        .unwrap_err();
    assert_eq!(error.kind(), ErrorKind::ConfigInvalid);
    assert_eq!(
        error.to_string(),
        "stream_window is 0, but has to be from 1 to 1073741824"
    );
}

#[tokio::test]
async fn refusal_of() {
    let error = transport()
        .dial(&addr("inproc://nobody"))
        .await
        .unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Refused);
    assert_eq!(
        error.to_string(),
        "there is no listener on inproc://nobody in this process"
    );
}

#[tokio::test]
async fn a_name_in_use() {
    let transport = transport();
    let first = transport.listen(&addr("inproc://app")).await.unwrap();
    for again in ["inproc://app", "inproc://app/"] {
        let error = transport.listen(&addr(again)).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::AddrInUse);
        assert_eq!(
            error.to_string(),
            format!("there is a listener on {again} already")
        );
    }
    let conn = transport.dial(&addr("inproc://app")).await.unwrap();
    first.accept().await.unwrap();
    drop(first);
    transport.listen(&addr("inproc://app")).await.unwrap();
    drop(conn);
}

#[tokio::test]
async fn addresses_that_make_no_sense() {
    let transport = transport();
    for (text, kind, why) in [
        (
            "tcp://127.0.0.1:1",
            ErrorKind::AddrUnsupported,
            "is no inproc:// address",
        ),
        (
            "inproc://",
            ErrorKind::AddrInvalid,
            "it has no name to dial",
        ),
        (
            "inproc://a:1",
            ErrorKind::AddrInvalid,
            "a name in this process has no port",
        ),
        (
            "inproc://a?speed=1",
            ErrorKind::AddrInvalid,
            "the option \"speed\" is unknown",
        ),
    ] {
        let error = transport.dial(&addr(text)).await.unwrap_err();
        assert_eq!(error.kind(), kind, "{text}");
        assert!(error.to_string().contains(why), "{error}");
    }
    let error = transport
        .listen(&addr("inproc://a?link=wifi"))
        .await
        .unwrap_err();
    assert_eq!(error.kind(), ErrorKind::AddrInvalid);
    assert!(
        error
            .to_string()
            .contains("a link is chosen by the side that dials"),
        "{error}"
    );
}

#[tokio::test]
async fn a_given_name_is_a_name_like_others() {
    let transport = transport();
    let given = transport.listen(&addr("inproc://")).await.unwrap();
    let name = given.local_addr();
    assert_eq!(
        transport.listen(&name).await.unwrap_err().kind(),
        ErrorKind::AddrInUse
    );
    drop(given);
    let again = transport.listen(&name).await.unwrap();
    assert_eq!(again.local_addr(), name);
    assert_ne!(
        transport
            .listen(&addr("inproc://"))
            .await
            .unwrap()
            .local_addr(),
        name
    );
}

#[tokio::test]
async fn namespaces_are_apart() {
    let (one, other) = (transport(), transport());
    let _listener = one.listen(&addr("inproc://app")).await.unwrap();
    assert_eq!(
        other.dial(&addr("inproc://app")).await.unwrap_err().kind(),
        ErrorKind::Refused
    );
    other.listen(&addr("inproc://app")).await.unwrap();
}

#[test]
fn outside_a_runtime() {
    let transport = transport();
    let made = futures::executor::block_on(transport.listen(&addr("inproc://app")));
    let listener = made.unwrap();
    let error = futures::executor::block_on(transport.dial(&listener.local_addr())).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unsupported);
    assert!(
        error.to_string().contains("needs a tokio runtime"),
        "{error}"
    );
}
