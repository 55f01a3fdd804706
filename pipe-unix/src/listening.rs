use std::fs::{self, Permissions};
use std::io;
use std::os::unix::fs::{FileTypeExt, PermissionsExt};
use std::os::unix::net;
use std::path::{Path, PathBuf};

use pipe_core::{Addr, Error, ErrorKind, Result};
use pipe_net::listen_error;
use rustix::io::Errno;
#[cfg(any(target_os = "android", target_os = "linux"))]
use socket2::SockRef;
use socket2::{SockAddr, Socket};
use tokio::net::UnixListener;

use crate::connect::new_socket;
use crate::path_lock::{FileId, NoLock, PathLock};
use crate::place::{Name, Place};

/// Maximum number of connections that the system queues for a listener. More wait in their dial.
const QUEUE: i32 = 1024;

/// A socket that listens, and its file, which goes with it.
#[derive(Debug)]
pub(crate) struct Listening {
    /// Removed before the socket is closed: a file at the path always has a listener.
    _file: Option<SocketFile>,
    pub(crate) socket: UnixListener,
}

/// The file of a socket, with the right to remove it.
#[derive(Debug)]
struct SocketFile {
    path: PathBuf,
    id: FileId,
    _lock: PathLock,
}

/// Listens at a place. A socket file gets this mode, or the one of the process's umask.
pub(crate) fn listen(addr: &Addr, on: &Place, mode: Option<u32>) -> Result<Listening> {
    let target = on.sock_addr(addr)?;
    let socket = new_socket()?;
    let file = match &on.name {
        Name::Path(path) => Some(make_file(addr, path, &socket, &target, mode)?),
        Name::Abstract(_) | Name::Any => {
            let what = "there is a listener already";
            let failed = |error| failure(addr, "the name cannot be taken", what, error);
            socket.bind(&target).map_err(failed)?;
            None
        }
    };
    // No connection is possible before this: the file has its mode.
    let started = socket.listen(QUEUE);
    started.map_err(|error| failure(addr, "the socket cannot listen", "it is in use", error))?;
    Ok(Listening {
        _file: file,
        socket: UnixListener::from_std(socket.into())?,
    })
}

/// Takes over a socket that listens. Its file is another's.
pub(crate) fn take_over(addr: &Addr, socket: net::UnixListener) -> Result<Listening> {
    let taken = || {
        #[cfg(any(target_os = "android", target_os = "linux"))]
        if !SockRef::from(&socket).is_listener()? {
            let why = "it does not listen";
            return Err(io::Error::new(io::ErrorKind::InvalidInput, why));
        }
        socket.set_nonblocking(true)?;
        UnixListener::from_std(socket)
    };
    let socket = taken();
    let failed = |error| {
        failure(
            addr,
            "the given socket cannot be used",
            "it is in use",
            error,
        )
    };
    Ok(Listening {
        _file: None,
        socket: socket.map_err(failed)?,
    })
}

fn make_file(
    addr: &Addr,
    path: &Path,
    socket: &Socket,
    target: &SockAddr,
    mode: Option<u32>,
) -> Result<SocketFile> {
    let lock = PathLock::take(path).map_err(|error| no_lock(addr, path, error))?;
    clear(addr, path)?;
    let shown = path.display();
    socket.bind(target).map_err(|error| {
        let what = format!("{shown} was made by another program in this moment");
        failure(addr, &format!("{shown} cannot be made"), &what, error)
    })?;
    let id = FileId::at(path);
    let id = id.map_err(|error| failure(addr, &format!("{shown} is gone"), "", error))?;
    let file = SocketFile {
        path: path.into(),
        id,
        _lock: lock,
    };
    if let Some(mode) = mode {
        fs::set_permissions(path, Permissions::from_mode(mode)).map_err(|error| {
            let what = format!("the mode of {shown} cannot be set to {mode:o}");
            failure(addr, &what, "", error)
        })?;
    }
    Ok(file)
}

/// Removes the socket file at the path if it has no listener.
fn clear(addr: &Addr, path: &Path) -> Result<()> {
    let shown = path.display();
    let in_use = |what: &str| listen_error(addr, ErrorKind::AddrInUse, what, None);
    let found = match fs::symlink_metadata(path) {
        Ok(found) => found,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(failure(addr, &format!("{shown} is hidden"), "", error)),
    };
    if !found.file_type().is_socket() {
        let kind = if found.is_dir() {
            "a directory"
        } else if found.is_symlink() {
            "a symbolic link"
        } else {
            "a file that is no socket"
        };
        return Err(in_use(&format!("{kind} is in the way at {shown}")));
    }
    match probe(path) {
        Ok(()) => return Err(in_use("there is a listener already")),
        Err(error) => match Errno::from_io_error(&error) {
            Some(Errno::CONNREFUSED) => {}
            Some(Errno::NOENT) => return Ok(()),
            // Its queue is full, or it is a socket of another type.
            Some(Errno::AGAIN | Errno::PROTOTYPE) => {
                return Err(in_use("there is a listener already"));
            }
            _ => {
                let why = format!(
                    "a socket is in the way at {shown}, and whether there is a listener cannot \
                     be told: {error}"
                );
                let kind = ErrorKind::AddrInUse;
                return Err(listen_error(addr, kind, why, Some(error)));
            }
        },
    }
    // Another program may have put another one there meanwhile.
    if FileId::at(path).is_ok_and(|now| now == FileId::of(&found)) {
        tracing::debug!(%addr, "removing a socket file that was left behind");
        fs::remove_file(path).map_err(|error| {
            let what = format!("{shown} was left behind and cannot be removed");
            failure(addr, &what, "", error)
        })?;
    }
    Ok(())
}

/// Connects, to check for a listener.
fn probe(path: &Path) -> io::Result<()> {
    new_socket()?.connect(&SockAddr::unix(path)?)
}

fn no_lock(addr: &Addr, path: &Path, error: NoLock) -> Error {
    let lock = PathLock::path_for(path);
    let shown = lock.display();
    let why = match error {
        NoLock::Held => format!("there is a listener already, which holds {shown}"),
        NoLock::Foreign => format!("{shown} is in the way, which is no lock file"),
        NoLock::Io(error) => {
            let what = format!("the lock {shown} cannot be made");
            return failure(addr, &what, "", error);
        }
    };
    listen_error(addr, ErrorKind::AddrInUse, why, None)
}

/// Returns the error of a system call: `what` failed, or, where the name is taken, `in_use`.
fn failure(addr: &Addr, what: &str, in_use: &str, error: io::Error) -> Error {
    if error.kind() == io::ErrorKind::AddrInUse {
        return listen_error(addr, ErrorKind::AddrInUse, in_use, Some(error));
    }
    let why = format!("{what}: {error}");
    listen_error(addr, ErrorKind::Io, why, Some(error))
}

impl Drop for SocketFile {
    fn drop(&mut self) {
        // A file of another program is not ours to remove.
        if FileId::at(&self.path).is_ok_and(|there| there == self.id)
            && let Err(error) = fs::remove_file(&self.path)
        {
            tracing::warn!(path = %self.path.display(), %error, "could not remove a socket file");
        }
    }
}
