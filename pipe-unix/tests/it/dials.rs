//! Dials that find nobody, may not, or have to wait.

use std::fs;
use std::os::unix::net::{UnixDatagram, UnixListener};

use pipe_core::{Config, ErrorKind, Listener, Transport};
use pipe_unix::UnixTransport;
use tokio::task::JoinSet;

use crate::common::{Folder, dial_error, expect, soon};

#[tokio::test]
async fn a_dial_to_nobody_is_refused_with_the_reason() {
    let folder = Folder::new();
    fs::write(folder.file("file"), "").unwrap();
    drop(UnixListener::bind(folder.file("stale")).unwrap());
    for (name, kind, why) in [
        ("none", ErrorKind::Refused, "there is no such file"),
        ("stale", ErrorKind::Refused, "there is no listener"),
        ("file", ErrorKind::Refused, "the file is no socket"),
        ("no/where", ErrorKind::Unreachable, "its directory does not"),
        ("file/x", ErrorKind::Unreachable, "its path leads nowhere"),
    ] {
        let addr = folder.addr(name);
        expect(&dial_error(&addr).await, kind, &[addr.as_str(), why]);
    }
}

#[tokio::test]
async fn a_socket_of_another_type_is_no_peer() {
    let folder = Folder::new();
    let _datagrams = UnixDatagram::bind(folder.file("socket")).unwrap();
    let error = dial_error(&folder.addr("socket")).await;
    expect(&error, ErrorKind::Handshake, &["of another type"]);
}

#[cfg(target_os = "linux")]
#[test]
fn a_dial_without_the_permission_is_told_so_and_with_it_known() {
    use pipe_core::{Conn, PeerIdentity};
    use rustix::thread::{Uid, set_thread_res_uid};
    use std::os::unix::fs::PermissionsExt;

    const NOBODY: u32 = 65_534;
    let folder = Folder::new();
    fs::set_permissions(folder.path(), fs::Permissions::from_mode(0o755)).unwrap();
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let with_mode = |mode, name| {
        let transport = UnixTransport::new().with_mode(mode).unwrap();
        runtime
            .block_on(transport.listen(&folder.addr(name)))
            .unwrap()
    };
    let (shut, open) = (with_mode(0o000, "shut"), with_mode(0o666, "open"));
    let (shut_addr, open_addr) = (shut.local_addr(), open.local_addr());
    let dialer = std::thread::spawn(move || {
        // Root may everything; the user of this one thread changes. Anybody else stays who he is.
        let changed = set_thread_res_uid(None, Uid::from_raw(NOBODY), None).is_ok();
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .unwrap();
        runtime.block_on(async {
            let error = dial_error(&shut_addr).await;
            expect(
                &error,
                ErrorKind::Io,
                &[shut_addr.as_str(), "permission denied"],
            );
            let error = std::io::Error::from(error);
            assert_eq!(error.kind(), std::io::ErrorKind::PermissionDenied);
            let conn = soon(UnixTransport::new().dial(&open_addr)).await.unwrap();
            soon(conn.closed()).await;
        });
        changed
    });
    let accepted = runtime.block_on(soon(open.accept())).unwrap();
    let identity = accepted.peer_identity();
    drop(accepted);
    let changed = dialer.join().unwrap();
    let user = if changed {
        NOBODY
    } else {
        rustix::process::geteuid().as_raw()
    };
    let Some(PeerIdentity::Unix(peer)) = identity else {
        panic!("no credentials: {identity:?}");
    };
    assert_eq!(peer.uid, user);
}

#[tokio::test]
async fn a_burst_of_dials_beyond_the_backlog_is_served() {
    const DIALS: usize = 100;
    let folder = Folder::new();
    let config = Config::default()
        .with_accept_backlog(2)
        .with_max_handshakes(2);
    let transport = UnixTransport::new().with_config(config).unwrap();
    let listener = transport.listen(&folder.addr("socket")).await.unwrap();
    let mut dials = JoinSet::new();
    for _ in 0..DIALS {
        let (transport, addr) = (transport.clone(), listener.local_addr());
        dials.spawn(async move { soon(transport.dial(&addr)).await.unwrap() });
    }
    let mut accepted = Vec::new();
    for _ in 0..DIALS {
        accepted.push(soon(listener.accept()).await.unwrap());
    }
    let dialed = soon(dials.join_all()).await;
    assert_eq!((dialed.len(), accepted.len()), (DIALS, DIALS));
}
