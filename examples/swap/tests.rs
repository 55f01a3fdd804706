//! The whole program, over `inproc://`.

use std::fs;
use std::path::{Path, PathBuf};

use pipewerks::inproc::{InprocTransport, Namespace};
use pipewerks::{Conn, Listener, Transport};
use tokio::io::AsyncWriteExt;
use tokio::task::JoinSet;

use crate::client::Client;
use crate::exchange::{Exchange, Outcome};
use crate::folder::Folder;
use crate::message::{Answer, Entry, Request};
use crate::progress::Progress;
use crate::rel_path::RelPath;
use crate::route::ROUTES;
use crate::server;
use crate::source::Source;

fn path(text: &str) -> RelPath {
    RelPath::parse(text).unwrap()
}

fn isolated() -> InprocTransport {
    InprocTransport::new().with_namespace(Namespace::new())
}

/// Sends these to a server and back, over the ideal link.
async fn exchange(paths: &[PathBuf]) -> Outcome {
    let source = Source::collect(paths).unwrap();
    Exchange::new(&ROUTES[0], &source, 8).run(&isolated()).await
}

/// A connection to a server that serves `root` as long as the set lives.
async fn dial(root: &Path) -> (impl Conn, JoinSet<()>) {
    let transport = isolated();
    let listener = transport
        .listen(&"inproc://".parse().unwrap())
        .await
        .unwrap();
    let addr = listener.local_addr();
    let mut server = JoinSet::new();
    server.spawn(server::serve(listener, Folder::new(root).unwrap()));
    (transport.dial(&addr).await.unwrap(), server)
}

#[tokio::test(flavor = "multi_thread")]
async fn files_and_folders_of_all_kinds_come_back_as_they_were() {
    let temp = tempfile::tempdir().unwrap();
    let folder = temp.path().join("folder");
    fs::create_dir_all(folder.join("deep/er")).unwrap();
    fs::create_dir_all(folder.join("empty/too")).unwrap();
    fs::write(folder.join("empty file"), "").unwrap();
    fs::write(folder.join("ä日本"), "unicode").unwrap();
    let big: Vec<u8> = (0..3_000_001_u32).map(|i| (i % 251) as u8).collect();
    fs::write(folder.join("deep/er/big"), &big).unwrap();
    let single = temp.path().join("single");
    fs::write(&single, "x").unwrap();

    let outcome = exchange(&[folder, single]).await;
    assert!(outcome.verified(), "{outcome:?}");
    assert_eq!((outcome.files, outcome.bytes), (4, 3_000_001 + 7 + 1));
    assert!(outcome.receive_rate.unwrap() > 0.0);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_empty_folder_alone_can_be_sent() {
    let temp = tempfile::tempdir().unwrap();
    let outcome = exchange(&[temp.path().to_owned()]).await;
    assert!(outcome.verified(), "{outcome:?}");
    assert_eq!(outcome.files, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_file_that_changes_before_it_is_sent_is_named() {
    let temp = tempfile::tempdir().unwrap();
    let file = temp.path().join("file");
    fs::write(&file, "as it was").unwrap();
    fs::write(temp.path().join("other"), "as it is").unwrap();
    let source = Source::collect(&[temp.path().to_owned()]).unwrap();
    fs::write(&file, "longer than it was").unwrap();

    let outcome = Exchange::new(&ROUTES[0], &source, 8).run(&isolated()).await;
    assert!(!outcome.verified());
    assert_eq!(outcome.files, 1);
    assert!(
        outcome
            .failures
            .iter()
            .all(|failure| failure.to_string().contains("/file"))
    );
    assert!(!outcome.failures.is_empty());
}

#[cfg(unix)]
#[tokio::test]
async fn what_cannot_be_sent_is_told_from_what_is_left_out() {
    use std::ffi::OsStr;
    use std::os::unix::ffi::OsStrExt;

    let temp = tempfile::tempdir().unwrap();
    fs::write(temp.path().join(OsStr::from_bytes(b"bad\xffname")), "x").unwrap();
    std::os::unix::fs::symlink("nowhere", temp.path().join("link")).unwrap();
    let source = Source::collect(&[temp.path().to_owned()]).unwrap();
    assert!(source.files.is_empty());
    let [unsent] = &source.unsent[..] else {
        panic!("one file cannot be sent: {:?}", source.unsent);
    };
    assert!(
        unsent.to_string().ends_with(": its name is not UTF-8"),
        "{unsent}"
    );
    let [left_out] = &source.left_out[..] else {
        panic!("one link is left out: {:?}", source.left_out);
    };
    assert!(
        left_out.to_string().ends_with("link: a symbolic link"),
        "{left_out}"
    );
}

#[tokio::test]
async fn a_missing_path_and_a_name_given_twice_are_refused() {
    let temp = tempfile::tempdir().unwrap();
    let missing = temp.path().join("missing");
    let error = Source::collect(std::slice::from_ref(&missing))
        .err()
        .unwrap();
    assert!(
        error
            .to_string()
            .starts_with(&missing.display().to_string()),
        "{error}"
    );
    let twice = [temp.path().to_owned(), temp.path().to_owned()];
    let error = Source::collect(&twice).err().unwrap();
    assert!(
        error
            .to_string()
            .ends_with("two of the paths given have this name"),
        "{error}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_refusal_names_the_path_and_the_reason() {
    let root = tempfile::tempdir().unwrap();
    fs::create_dir(root.path().join("taken")).unwrap();
    let (conn, _server) = dial(root.path()).await;
    let client = Client::new(conn);
    let local = tempfile::tempdir().unwrap();
    let to = Folder::new(local.path()).unwrap();
    let from = local.path().join("big");
    fs::write(&from, vec![7; 2_000_000]).unwrap();
    let progress = Progress::hidden();

    let error = client.get(&path("none"), &to, &progress).await.unwrap_err();
    assert!(error.to_string().starts_with("none: refused: "), "{error}");
    let error = client
        .get(&path("taken"), &to, &progress)
        .await
        .unwrap_err();
    assert!(error.to_string().starts_with("taken: refused: "), "{error}");
    let error = client
        .put(&path("taken"), &from, &progress)
        .await
        .unwrap_err();
    assert!(error.to_string().starts_with("taken: refused: "), "{error}");
    // The server refuses before it reads the body, and stops the stream.
    fs::write(root.path().join("file"), "x").unwrap();
    let error = client
        .put(&path("file/below"), &from, &progress)
        .await
        .unwrap_err();
    assert!(
        error.to_string().starts_with("file/below: refused: "),
        "{error}"
    );

    client.put(&path("good"), &from, &progress).await.unwrap();
    let entries = client.list().await.unwrap();
    let good = Entry::File {
        path: path("good"),
        size: 2_000_000,
    };
    assert!(entries.contains(&good), "{entries:?}");
    assert_eq!(entries.len(), 3, "{entries:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_path_out_of_the_folder_is_refused_by_the_server() {
    let root = tempfile::tempdir().unwrap();
    let (conn, _server) = dial(root.path()).await;

    let frame = Request::Get { path: path("xx") }.encode();
    let end = frame.len() - 2;
    for (name, why) in [("..", "a part that is . or .."), ("/x", "absolute")] {
        let mut stream = conn.open_stream().await.unwrap();
        stream
            .write_all(&[&frame[..end], name.as_bytes()].concat())
            .await
            .unwrap();
        let answer = Answer::read(&mut stream).await.unwrap();
        let Some(Answer::Refused { why: shown }) = answer else {
            panic!("{answer:?}");
        };
        assert!(shown.contains(why), "{shown}");
    }
}
