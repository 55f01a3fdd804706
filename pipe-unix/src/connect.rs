use std::fs;
use std::io;
use std::os::unix::fs::FileTypeExt;
use std::path::Path;
use std::time::Duration;

use pipe_core::{Addr, Error, ErrorKind, Result};
use rustix::io::Errno;
use socket2::{Domain, SockAddr, Socket, Type};
use tokio::net::UnixStream;
use tokio::time::sleep;

use crate::place::{Name, Place};

/// First and longest pause before the next attempt at a listener whose queue is full. The system
/// does not report when there is room.
const FIRST_PAUSE: Duration = Duration::from_millis(1);
const LONGEST_PAUSE: Duration = Duration::from_millis(30);

/// Connects to the socket at a place, and waits while its queue is full.
pub(crate) async fn connect(addr: &Addr, to: &Place) -> Result<UnixStream> {
    if to.name == Name::Any {
        let why = "only a listener can leave its name to the system";
        return Err(addr.invalid(why));
    }
    let target = to.sock_addr(addr)?;
    let socket = new_socket()?;
    name(&socket);
    let mut pause = FIRST_PAUSE;
    loop {
        match socket.connect(&target) {
            Ok(()) => break,
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                sleep(pause).await;
                pause = (pause * 2).min(LONGEST_PAUSE);
            }
            Err(error) => return Err(refusal(addr, &to.name, error)),
        }
    }
    Ok(UnixStream::from_std(socket.into())?)
}

/// Creates a stream socket that never blocks.
pub(crate) fn new_socket() -> io::Result<Socket> {
    let socket = Socket::new(Domain::UNIX, Type::STREAM, None)?;
    socket.set_nonblocking(true)?;
    Ok(socket)
}

/// Binds the socket to an abstract name of the system's choice, so that both ends can tell this
/// connection from others (unix(7), autobind).
fn name(socket: &Socket) {
    if cfg!(any(target_os = "linux", target_os = "android")) {
        // Where it is forbidden, the connection works as well without.
        let _ = SockAddr::unix("").and_then(|unnamed| socket.bind(&unnamed));
    }
}

fn refusal(addr: &Addr, name: &Name, error: io::Error) -> Error {
    let (kind, what) = match Errno::from_io_error(&error) {
        Some(Errno::NOENT) if directory_is_missing(name) => {
            (ErrorKind::Unreachable, "its directory does not exist")
        }
        Some(Errno::NOENT) => (ErrorKind::Refused, "there is no such file"),
        Some(Errno::CONNREFUSED) if is_no_socket(name) => {
            (ErrorKind::Refused, "the file is no socket")
        }
        Some(Errno::CONNREFUSED) => (ErrorKind::Refused, "there is no listener"),
        Some(Errno::NOTDIR | Errno::LOOP | Errno::NAMETOOLONG) => {
            (ErrorKind::Unreachable, "its path leads nowhere")
        }
        Some(Errno::PROTOTYPE) => (ErrorKind::Handshake, "the socket is of another type"),
        Some(Errno::ACCESS | Errno::PERM) => (ErrorKind::Io, "permission denied"),
        _ => (ErrorKind::Io, "the system reports an error"),
    };
    Error::with_source(kind, format!("could not connect to {addr}: {what}"), error)
}

fn directory_is_missing(name: &Name) -> bool {
    match name {
        Name::Path(path) => !path.parent().is_some_and(Path::is_dir),
        Name::Abstract(_) | Name::Any => false,
    }
}

fn is_no_socket(name: &Name) -> bool {
    match name {
        Name::Path(path) => fs::metadata(path).is_ok_and(|file| !file.file_type().is_socket()),
        Name::Abstract(_) | Name::Any => false,
    }
}
