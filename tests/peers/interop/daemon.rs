//! Servers of other makes that are told by a file what to do.

use std::net::{Ipv4Addr, SocketAddr, SocketAddrV4};
use std::process::Stdio;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use tempfile::TempDir;
use tokio::net::TcpStream;
use tokio::process::{Child, Command};
use tokio::time::sleep;

/// A server that runs. A drop ends it.
pub(crate) struct Daemon {
    /// Where it listens.
    pub(crate) at: SocketAddr,
    _process: Child,
    _folder: TempDir,
}

impl Daemon {
    /// Starts one with a file made of this template, and waits until it takes connections. In the template, `{front}`,
    /// `{ip}` and `{port}` are where it listens, `{folder}` is one of its own, and `with` has more to fill in. The path of
    /// the file is the last of its arguments.
    pub(crate) async fn start(mut command: Command, template: &str, with: &[(&str, &str)]) -> Self {
        let folder = TempDir::new().expect("a folder");
        let at = front();
        let mut config = template
            .replace("{front}", &at.to_string())
            .replace("{ip}", &at.ip().to_string())
            .replace("{port}", &at.port().to_string())
            .replace("{folder}", &folder.path().display().to_string());
        for (name, value) in with {
            config = config.replace(&format!("{{{name}}}"), value);
        }
        let file = folder.path().join("config");
        std::fs::write(&file, config).expect("a file");
        let mut process = command
            .arg(&file)
            .current_dir(folder.path())
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .kill_on_drop(true)
            .spawn()
            .expect("a process");
        while TcpStream::connect(at).await.is_err() {
            let ended = process.try_wait().expect("its state");
            assert!(ended.is_none(), "{command:?} ended: {ended:?}");
            sleep(Duration::from_millis(10)).await;
        }
        Self {
            at,
            _process: process,
            _folder: folder,
        }
    }
}

/// An address of this machine that no other process takes: it has the number of this one in it.
pub(crate) fn front() -> SocketAddr {
    static COUNT: AtomicU32 = AtomicU32::new(0);
    let count = COUNT.fetch_add(1, Ordering::Relaxed);
    let [_, high, middle, low] = std::process::id().to_be_bytes();
    let ip = Ipv4Addr::new(127, 64 | high, middle, low);
    SocketAddrV4::new(ip, 7800 + count as u16).into()
}
