//! What the tests share.

use std::path::{Path, PathBuf};
use std::time::Duration;

use pipe_core::{Addr, Conn, Error, ErrorKind, Listener, Stream, Transport};
use pipe_unix::{MuxConn, MuxListener, UnixTransport};
use tempfile::TempDir;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::time::timeout;

/// How long anything may take, on a machine with other things to do.
const LIMIT: Duration = Duration::from_secs(30);

/// A folder for sockets, which goes with its test.
pub(crate) struct Folder(TempDir);

impl Folder {
    pub(crate) fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    pub(crate) fn path(&self) -> &Path {
        self.0.path()
    }

    pub(crate) fn file(&self, name: &str) -> PathBuf {
        self.path().join(name)
    }

    pub(crate) fn addr(&self, name: &str) -> Addr {
        addr(&format!("unix://{}", self.file(name).display()))
    }

    /// The names of what is in it, in order.
    pub(crate) fn names(&self) -> Vec<String> {
        let entries = std::fs::read_dir(self.path()).unwrap();
        let mut names: Vec<_> = entries
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .collect();
        names.sort();
        names
    }
}

pub(crate) fn addr(text: &str) -> Addr {
    text.parse().unwrap()
}

pub(crate) async fn soon<F: Future>(future: F) -> F::Output {
    timeout(LIMIT, future).await.expect("it took too long")
}

pub(crate) async fn listen(addr: &Addr) -> MuxListener {
    UnixTransport::new().listen(addr).await.unwrap()
}

pub(crate) async fn listen_error(addr: &Addr) -> Error {
    UnixTransport::new().listen(addr).await.unwrap_err()
}

pub(crate) async fn dial_error(addr: &Addr) -> Error {
    soon(UnixTransport::new().dial(addr)).await.unwrap_err()
}

/// Panics unless the error is of this kind and says all of this.
pub(crate) fn expect(error: &Error, kind: ErrorKind, said: &[&str]) {
    assert_eq!(error.kind(), kind, "{error:?}");
    for said in said {
        assert!(
            error.to_string().contains(said),
            "{said:?} is not in {error:?}"
        );
    }
}

/// A connection by this listener: the dialer's end, and the listener's.
pub(crate) async fn pair(listener: &MuxListener) -> (MuxConn, MuxConn) {
    let (transport, addr) = (UnixTransport::new(), listener.local_addr());
    let (dialed, accepted) =
        soon(async { tokio::join!(transport.dial(&addr), listener.accept()) }).await;
    (dialed.unwrap(), accepted.unwrap())
}

/// Panics unless a connection by this listener carries bytes.
pub(crate) async fn expect_service(listener: &MuxListener) {
    let (here, there) = pair(listener).await;
    expect_bytes(&here, &there).await;
}

/// Panics unless the connection carries bytes to and fro.
pub(crate) async fn expect_bytes(here: &MuxConn, there: &MuxConn) {
    let ask = async {
        let mut stream = here.open_stream().await.unwrap();
        stream.write_all(b"a question").await.unwrap();
        stream.shutdown().await.unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await.unwrap();
        answer
    };
    let reply = async {
        let (mut send, mut recv) = there.accept_stream().await.unwrap().into_split();
        tokio::io::copy(&mut recv, &mut send).await.unwrap();
        send.shutdown().await.unwrap();
    };
    let (answer, ()) = soon(async { tokio::join!(ask, reply) }).await;
    assert_eq!(answer, "a question");
}
