use std::env;
use std::net::{TcpListener, UdpSocket};
use std::os::unix::net::UnixListener;
use std::sync::atomic::{AtomicBool, Ordering};

use listenfd::ListenFd;
use pipe_core::{Error, ErrorKind, Result};

/// Maximum number of sockets that are taken.
const MAX: usize = 1024;

/// A socket that this process was started with.
#[derive(Debug)]
#[non_exhaustive]
pub struct GivenSocket {
    /// Its name (`FileDescriptorName=` in a unit of systemd), where it was given one.
    pub name: Option<String>,
    /// The socket.
    pub kind: GivenKind,
}

/// A socket by its kind.
#[derive(Debug)]
#[non_exhaustive]
pub enum GivenKind {
    /// A TCP socket that listens.
    Tcp(TcpListener),
    /// A Unix socket that listens.
    Unix(UnixListener),
    /// A UDP socket.
    Udp(UdpSocket),
    /// A file descriptor that is none of these. It is left open, and can be used by its number.
    Other(i32),
}

/// Takes the sockets that this process was started with, by socket activation as systemd has it (`sd_listen_fds(3)`): the
/// variables `LISTEN_FDS`, `LISTEN_PID` and `LISTEN_FDNAMES`. There are none where the variables are for another process, and
/// none the second time.
///
/// They are set up not to be inherited by other programs. `listen_on` of a transport takes them.
///
/// Call it early: it removes the variables from the environment, which other threads may not read through C meanwhile (as a
/// lookup of a name may).
///
/// # Errors
///
/// [`ConfigInvalid`](ErrorKind::ConfigInvalid) for a number of more than 1,024 sockets.
pub fn listen_fds() -> Result<Vec<GivenSocket>> {
    static TAKEN: AtomicBool = AtomicBool::new(false);
    if TAKEN.swap(true, Ordering::SeqCst) {
        return Ok(Vec::new());
    }
    let count = env::var("LISTEN_FDS").unwrap_or_default();
    if count.parse().is_ok_and(|count: u64| count > MAX as u64) {
        let why = format!("the variable LISTEN_FDS is {count}, of at most {MAX}");
        return Err(Error::new(ErrorKind::ConfigInvalid, why));
    }
    let names = env::var("LISTEN_FDNAMES").unwrap_or_default();
    let mut given = ListenFd::from_env();
    let sockets = (0..given.len()).filter_map(|at| {
        let name = names.split(':').nth(at).filter(|name| !name.is_empty());
        Some(GivenSocket {
            name: name.map(str::to_owned),
            kind: take(&mut given, at)?,
        })
    });
    Ok(sockets.collect())
}

fn take(given: &mut ListenFd, at: usize) -> Option<GivenKind> {
    // Each is an error for a descriptor of another kind, which stays.
    if let Ok(taken) = given.take_tcp_listener(at) {
        return taken.map(GivenKind::Tcp);
    }
    if let Ok(taken) = given.take_unix_listener(at) {
        return taken.map(GivenKind::Unix);
    }
    if let Ok(taken) = given.take_udp_socket(at) {
        return taken.map(GivenKind::Udp);
    }
    let raw = given.take_raw_fd(at).ok().flatten();
    raw.map(GivenKind::Other)
}
