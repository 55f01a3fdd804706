//! What is peculiar to FIFOs: files, and those who leave them behind.
#![cfg(target_os = "linux")]

use std::fs;
use std::io::Write;
use std::os::unix::fs::{FileTypeExt, PermissionsExt};
use std::path::{Path, PathBuf};

use pipe_core::{Addr, Config, Conn, ErrorKind, Listener, Registry, Transport};
use pipe_fifo::{FifoListener, FifoStream, FifoTransport};
use rustix::fs::{CWD, FileType, Mode, mknodat};
use tempfile::TempDir;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::unix::pipe;

fn place() -> (TempDir, PathBuf, Addr) {
    let folder = TempDir::new().unwrap();
    let path = folder.path().join("app");
    let addr = format!("fifo://{}", path.display()).parse().unwrap();
    (folder, path, addr)
}

fn files(folder: &TempDir) -> Vec<String> {
    let entries = fs::read_dir(folder.path()).unwrap();
    let name = |entry: std::io::Result<fs::DirEntry>| entry.unwrap().file_name();
    entries
        .map(|entry| name(entry).into_string().unwrap())
        .collect()
}

// ANCHOR: registry
#[tokio::test]
async fn a_program_reaches_it_by_its_scheme() -> Result<(), Box<dyn std::error::Error>> {
    let (_folder, _, addr) = place();
    // All the transports of pipewerks, and this one.
    let transports: Registry = pipewerks::registry().clone().with(FifoTransport::new());

    let listener = transports.listen(&addr).await?;
    let (dialed, accepted) = tokio::try_join!(transports.dial(&addr), listener.accept())?;
    let mut question = dialed.open_stream().await?;
    question.write_all(b"who is there?").await?;
    question.shutdown().await?;

    let mut text = String::new();
    let mut asked = accepted.accept_stream().await?;
    asked.read_to_string(&mut text).await?;
    assert_eq!(text, "who is there?");
    Ok(())
}
// ANCHOR_END: registry

#[tokio::test]
async fn a_connection_leaves_no_files_and_only_its_user_may_connect() {
    let (folder, path, addr) = place();
    let transport = FifoTransport::new();
    let listener = transport.listen(&addr).await.unwrap();
    let file = fs::metadata(&path).unwrap();
    assert!(file.file_type().is_fifo());
    assert_eq!(file.permissions().mode() & 0o077, 0);

    let _pair = tokio::try_join!(transport.dial(&addr), listener.accept()).unwrap();
    assert_eq!(files(&folder), ["app"]);
    listener.close();
    assert_eq!(files(&folder), [""; 0]);
}

#[tokio::test]
async fn a_fifo_that_was_left_behind_is_used_again() {
    let (_folder, path, addr) = place();
    let left = FifoListener::bind(&path).unwrap();
    let renamed = path.with_extension("old");
    fs::rename(&path, &renamed).unwrap();
    drop(left);
    fs::rename(&renamed, &path).unwrap();

    let transport = FifoTransport::new();
    let error = transport.dial(&addr).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Refused);
    assert!(error.to_string().contains("no listener"), "{error}");

    let listener = transport.listen(&addr).await.unwrap();
    let _pair = tokio::try_join!(transport.dial(&addr), listener.accept()).unwrap();
}

#[tokio::test]
async fn what_is_no_fifo_stays_as_it_is() {
    let (_folder, path, addr) = place();
    fs::write(&path, "a diary").unwrap();
    let transport = FifoTransport::new();
    let error = transport.listen(&addr).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::AddrInUse);
    assert!(error.to_string().contains("no FIFO"), "{error}");
    let error = transport.dial(&addr).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Refused);
    assert_eq!(fs::read_to_string(&path).unwrap(), "a diary");
}

#[tokio::test]
async fn a_folder_that_does_not_exist_is_named() {
    let transport = FifoTransport::new();
    let addr: Addr = "fifo:///no/such/folder/app".parse().unwrap();
    let error = transport.listen(&addr).await.unwrap_err();
    assert!(error.to_string().contains(addr.as_str()), "{error}");
    assert!(error.to_string().contains("directory"), "{error}");
    let error = transport.dial(&addr).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Refused);
}

// ANCHOR: hostile
#[tokio::test]
async fn garbage_and_calls_of_nobody_delay_no_dialer() {
    let (folder, path, addr) = place();
    let transport = FifoTransport::new();
    let listener = transport.listen(&addr).await.unwrap();
    let mut hostile = fs::OpenOptions::new().write(true).open(&path).unwrap();
    hostile.write_all(&b"\xff".repeat(10_000)).unwrap();
    hostile.write_all(b"\n../../../etc/passwd\n").unwrap();
    hostile
        .write_all(b"\n00000000ffffffff\nunfinished")
        .unwrap();

    let _pair = tokio::try_join!(transport.dial(&addr), listener.accept()).unwrap();
    assert_eq!(files(&folder), ["app"]);
}

#[tokio::test]
async fn a_dialer_that_says_nothing_is_given_up() {
    let (_folder, path, addr) = place();
    let config = Config::default().with_handshake_timeout(std::time::Duration::from_millis(50));
    let transport = FifoTransport::new().with_config(config).unwrap();
    let _listener = transport.listen(&addr).await.unwrap();
    let mut mute = FifoStream::connect(Path::new(&path)).await.unwrap();
    let mut heard = Vec::new();
    mute.read_to_end(&mut heard).await.unwrap();
}

#[tokio::test]
async fn a_dialer_that_has_closed_its_end_is_not_waited_for() {
    let (folder, path, _) = place();
    let listener = FifoListener::bind(&path).unwrap();
    let [_up, down] = ["up", "down"].map(|end| {
        let fifo = folder.path().join(format!("app.00000000ffffffff.{end}"));
        mknodat(CWD, &fifo, FileType::Fifo, Mode::RUSR | Mode::WUSR, 0).unwrap();
        fifo
    });
    let _reader = pipe::OpenOptions::new().open_receiver(down).unwrap();
    let mut door = fs::OpenOptions::new().write(true).open(&path).unwrap();
    door.write_all(b"\n00000000ffffffff\n").unwrap();

    let call = std::future::poll_fn(|cx| listener.poll_accept(cx)).await;
    let error = FifoStream::answer(&path, call.unwrap()).await.unwrap_err();
    assert_eq!(error.kind(), std::io::ErrorKind::ConnectionAborted);
}
// ANCHOR_END: hostile

#[tokio::test]
async fn a_dial_that_waits_learns_that_the_listener_is_gone() {
    let (folder, path, addr) = place();
    let listener = FifoListener::bind(&path).unwrap();
    let transport = FifoTransport::new();
    let dial = tokio::spawn(async move { transport.dial(&addr).await });
    std::future::poll_fn(|cx| listener.poll_accept(cx))
        .await
        .unwrap();
    drop(listener);
    let error = dial.await.unwrap().unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Refused);
    assert_eq!(files(&folder), [""; 0]);
}

#[tokio::test]
async fn a_dial_that_is_dropped_leaves_nothing_behind() {
    let (folder, path, addr) = place();
    let listener = FifoListener::bind(&path).unwrap();
    let transport = FifoTransport::new();
    {
        let called = std::future::poll_fn(|cx| listener.poll_accept(cx));
        tokio::select! {
            call = called => { call.unwrap(); }
            dialed = transport.dial(&addr) => panic!("nobody answered, but {dialed:?}"),
        }
    }
    assert_eq!(files(&folder), ["app"]);
}
