//! The socket file of a listener: what may be in its way, and what becomes of it.

use std::fs;
use std::os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt, symlink};
use std::os::unix::net::{UnixDatagram, UnixListener, UnixStream};
use std::path::PathBuf;
use std::sync::{Arc, Barrier};

use pipe_core::{Conn, ConnState, ErrorKind, Listener, Transport};
use pipe_unix::UnixTransport;

use crate::common::{self, Folder, addr, expect, expect_service, listen, listen_error, pair};

/// Leaves a socket file behind, as a process that dies does.
fn leave_behind(folder: &Folder, name: &str) -> PathBuf {
    let path = folder.file(name);
    drop(UnixListener::bind(&path).unwrap());
    assert!(path.exists());
    path
}

#[tokio::test]
async fn a_closed_listener_leaves_nothing_behind() {
    let folder = Folder::new();
    let listener = listen(&folder.addr("socket")).await;
    assert_eq!(folder.names(), ["socket", "socket.lock"]);
    let (dialed, accepted) = pair(&listener).await;
    listener.close();
    assert!(folder.names().is_empty());
    // The connection needs no file.
    common::expect_bytes(&dialed, &accepted).await;
    assert_eq!(*accepted.state().borrow(), ConnState::Connected);

    let again = listen(&folder.addr("socket")).await;
    // The one before has nothing to do with this file.
    listener.close();
    drop(listener);
    expect_service(&again).await;
    drop(again);
    assert!(folder.names().is_empty());
}

#[tokio::test]
async fn a_file_that_was_left_behind_is_replaced() {
    let folder = Folder::new();
    let path = leave_behind(&folder, "socket");
    let before = fs::metadata(&path).unwrap().ino();
    fs::hard_link(&path, folder.file("kept")).unwrap();
    let listener = listen(&folder.addr("socket")).await;
    assert_ne!(fs::metadata(&path).unwrap().ino(), before);
    expect_service(&listener).await;
}

#[tokio::test]
async fn a_file_and_a_lock_that_were_left_behind_are_taken_over() {
    let folder = Folder::new();
    leave_behind(&folder, "socket");
    fs::write(folder.file("socket.lock"), "").unwrap();
    let listener = listen(&folder.addr("socket")).await;
    expect_service(&listener).await;
    drop(listener);
    assert!(folder.names().is_empty());
}

#[tokio::test]
async fn the_file_of_a_listener_is_in_use() {
    let folder = Folder::new();
    let listener = listen(&folder.addr("socket")).await;
    let error = listen_error(&folder.addr("socket")).await;
    expect(
        &error,
        ErrorKind::AddrInUse,
        &[
            folder.addr("socket").as_str(),
            "there is a listener already",
        ],
    );
    expect_service(&listener).await;
}

#[tokio::test]
async fn the_file_of_a_foreign_listener_is_in_use_and_stays() {
    let folder = Folder::new();
    let foreign = UnixListener::bind(folder.file("socket")).unwrap();
    let error = listen_error(&folder.addr("socket")).await;
    expect(
        &error,
        ErrorKind::AddrInUse,
        &["there is a listener already"],
    );
    assert_eq!(folder.names(), ["socket"]);
    let _dialer = UnixStream::connect(folder.file("socket")).unwrap();
    foreign.accept().unwrap();
}

#[tokio::test]
async fn a_socket_of_another_type_is_in_use() {
    let folder = Folder::new();
    let _datagrams = UnixDatagram::bind(folder.file("socket")).unwrap();
    let error = listen_error(&folder.addr("socket")).await;
    expect(
        &error,
        ErrorKind::AddrInUse,
        &["there is a listener already"],
    );
    assert_eq!(folder.names(), ["socket"]);
}

#[tokio::test]
async fn what_is_no_socket_is_in_the_way_and_stays() {
    let folder = Folder::new();
    fs::write(folder.file("file"), "precious").unwrap();
    fs::create_dir(folder.file("directory")).unwrap();
    let stale = leave_behind(&folder, "stale");
    symlink(&stale, folder.file("link")).unwrap();
    for (name, what) in [
        ("file", "a file that is no socket is in the way"),
        ("directory", "a directory is in the way"),
        ("link", "a symbolic link is in the way"),
    ] {
        let error = listen_error(&folder.addr(name)).await;
        let shown = folder.file(name).display().to_string();
        expect(&error, ErrorKind::AddrInUse, &[what, &shown]);
    }
    assert_eq!(fs::read(folder.file("file")).unwrap(), b"precious");
    assert_eq!(folder.names(), ["directory", "file", "link", "stale"]);
}

#[tokio::test]
async fn a_file_of_the_locks_name_is_in_the_way_and_stays() {
    let folder = Folder::new();
    fs::write(folder.file("socket.lock"), "precious").unwrap();
    let error = listen_error(&folder.addr("socket")).await;
    expect(
        &error,
        ErrorKind::AddrInUse,
        &["socket.lock is in the way, which is no lock file"],
    );
    assert_eq!(fs::read(folder.file("socket.lock")).unwrap(), b"precious");
}

#[tokio::test]
async fn a_file_that_somebody_else_put_in_its_place_stays() {
    let folder = Folder::new();
    let listener = listen(&folder.addr("socket")).await;
    fs::remove_file(folder.file("socket")).unwrap();
    let foreign = UnixListener::bind(folder.file("socket")).unwrap();
    drop(listener);
    assert_eq!(folder.names(), ["socket"]);
    let _dialer = UnixStream::connect(folder.file("socket")).unwrap();
    foreign.accept().unwrap();
}

#[tokio::test]
async fn a_listener_whose_file_is_gone_closes_quietly() {
    let folder = Folder::new();
    let listener = listen(&folder.addr("socket")).await;
    fs::remove_file(folder.file("socket")).unwrap();
    fs::remove_file(folder.file("socket.lock")).unwrap();
    listener.close();
    assert!(folder.names().is_empty());
    expect_service(&listen(&folder.addr("socket")).await).await;
}

#[test]
fn of_many_who_find_the_same_stale_file_one_gets_it() {
    const RIVALS: usize = 6;
    for _ in 0..20 {
        let folder = Arc::new(Folder::new());
        leave_behind(&folder, "socket");
        let start = Arc::new(Barrier::new(RIVALS));
        let rivals: Vec<_> = (0..RIVALS)
            .map(|_| {
                let (folder, start) = (folder.clone(), start.clone());
                std::thread::spawn(move || {
                    let runtime = tokio::runtime::Builder::new_current_thread()
                        .enable_all()
                        .build()
                        .unwrap();
                    start.wait();
                    let transport = UnixTransport::new();
                    let listened = runtime.block_on(transport.listen(&folder.addr("socket")));
                    // All have tried before the winner is at its end.
                    start.wait();
                    match listened {
                        Ok(listener) => {
                            runtime.block_on(expect_service(&listener));
                            true
                        }
                        Err(error) => {
                            expect(
                                &error,
                                ErrorKind::AddrInUse,
                                &["there is a listener already"],
                            );
                            false
                        }
                    }
                })
            })
            .collect();
        let won = rivals.into_iter().filter_map(|rival| {
            let won = rival.join().expect("a rival that does not panic");
            won.then_some(())
        });
        assert_eq!(won.count(), 1);
        assert!(folder.names().is_empty());
    }
}

#[tokio::test]
async fn a_missing_directory_is_named_with_the_cause() {
    let folder = Folder::new();
    let addr = folder.addr("nowhere/socket");
    let error = listen_error(&addr).await;
    expect(
        &error,
        ErrorKind::Io,
        &[addr.as_str(), "nowhere/socket.lock", "No such file"],
    );
    let error = std::io::Error::from(error);
    assert_eq!(error.kind(), std::io::ErrorKind::NotFound);
}

#[cfg(target_os = "linux")]
#[tokio::test]
async fn a_directory_that_takes_no_files_is_named_with_the_cause() {
    // Not even root makes files there.
    let error = listen_error(&addr("unix:///sys/pipe-unix-test")).await;
    expect(
        &error,
        ErrorKind::Io,
        &["unix:///sys/pipe-unix-test", "Permission denied"],
    );
    let error = std::io::Error::from(error);
    assert_eq!(error.kind(), std::io::ErrorKind::PermissionDenied);
}

#[tokio::test]
async fn a_path_that_is_too_long_is_told_with_the_limit() {
    let long = addr(&format!("unix:///tmp/{}", "x".repeat(120)));
    for error in [listen_error(&long).await, common::dial_error(&long).await] {
        expect(
            &error,
            ErrorKind::AddrInvalid,
            &["at most 10", "this one has 125"],
        );
    }
}

#[tokio::test]
async fn the_file_has_the_mode_that_was_asked_for() {
    let folder = Folder::new();
    for mode in [0o600, 0o666, 0o770] {
        let transport = UnixTransport::new().with_mode(mode).unwrap();
        let listener = transport.listen(&folder.addr("socket")).await.unwrap();
        let file = fs::metadata(folder.file("socket")).unwrap();
        assert!(file.file_type().is_socket());
        assert_eq!(file.permissions().mode() & 0o7777, mode);
        expect_service(&listener).await;
    }
    let error = UnixTransport::new().with_mode(0o4755).unwrap_err();
    expect(
        &error,
        ErrorKind::ConfigInvalid,
        &["mode is 0o4755, but has to be from 0o0 to 0o777"],
    );
}

#[tokio::test]
async fn a_runtime_that_ends_takes_the_file_along_with_the_listener() {
    let folder = Folder::new();
    let addr = folder.addr("socket");
    std::thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .unwrap();
        let listener = runtime.block_on(listen(&addr));
        drop(runtime);
        drop(listener);
    })
    .join()
    .unwrap();
    assert!(folder.names().is_empty());
}
