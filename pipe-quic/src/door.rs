use std::collections::HashMap;
use std::io;
use std::net::{SocketAddr, UdpSocket};
use std::sync::{Arc, Weak};

use parking_lot::Mutex;
use quinn::Endpoint;
use tokio::sync::Notify;

use crate::desk::Desk;
use crate::profile::Profile;
use crate::socket::Socket;

/// The UDP sockets of this process that listen, or that connections of a closed listener still use.
///
/// They are kept for the second kind: a connection of QUIC continues on the socket that it arrived
/// at, so a new listener on the address has to take over the same socket.
static DOORS: Mutex<Option<HashMap<SocketAddr, Weak<Door>>>> = Mutex::new(None);

/// A UDP socket with its endpoint, for a listener, its connections and its dials.
pub(crate) struct Door {
    addr: SocketAddr,
    profile: Profile,
    socket: Arc<Socket>,
    pub(crate) endpoint: Endpoint,
    /// Receiver of new connections; absent once the listener is closed.
    desk: Mutex<Option<Arc<Desk>>>,
    /// Notified when the desk is replaced or removed.
    changed: Notify,
}

impl Door {
    /// Opens the door at this address for a listener.
    ///
    /// # Errors
    ///
    /// Those of binding a socket; `AddrInUse` when there is a listener already.
    pub(crate) fn open(
        addr: SocketAddr,
        profile: Profile,
        desk: &Arc<Desk>,
    ) -> io::Result<Arc<Self>> {
        let mut doors = DOORS.lock();
        let known = doors.get_or_insert_default();
        if let Some(door) = known.get(&addr).and_then(Weak::upgrade) {
            let taken = door.take_over(profile, desk);
            // The drop of a door's last handle takes the lock.
            drop(doors);
            return taken.then_some(door).ok_or_else(in_use);
        }
        let socket = Socket::bind(addr, profile)?;
        let door = Self::of(socket, profile, desk)?;
        known.insert(door.addr, Arc::downgrade(&door));
        drop(doors);
        tokio::spawn(attend(Attending(door.clone())));
        Ok(door)
    }

    /// Listens on a socket that is bound already.
    ///
    /// # Errors
    ///
    /// Those of the socket; `AddrInUse` when there is a listener or a connection of one at its address already.
    pub(crate) fn open_on(
        socket: UdpSocket,
        profile: Profile,
        desk: &Arc<Desk>,
    ) -> io::Result<Arc<Self>> {
        let mut doors = DOORS.lock();
        let known = doors.get_or_insert_default();
        let door = known.get(&socket.local_addr()?).and_then(Weak::upgrade);
        if let Some(door) = door {
            // The drop of a door's last handle takes the lock.
            drop(doors);
            drop(door);
            return Err(in_use());
        }
        let door = Self::of(Socket::over(socket, profile)?, profile, desk)?;
        known.insert(door.addr, Arc::downgrade(&door));
        drop(doors);
        tokio::spawn(attend(Attending(door.clone())));
        Ok(door)
    }

    fn of(socket: Arc<Socket>, profile: Profile, desk: &Arc<Desk>) -> io::Result<Arc<Self>> {
        let endpoint = socket.clone().endpoint(Some(desk.server_config()))?;
        let addr = endpoint.local_addr()?;
        Ok(Arc::new(Self {
            addr,
            profile,
            socket,
            endpoint,
            desk: Mutex::new(Some(desk.clone())),
            changed: Notify::new(),
        }))
    }

    pub(crate) fn addr(&self) -> SocketAddr {
        self.addr
    }

    /// Returns whether it has a listener.
    pub(crate) fn is_attended(&self) -> bool {
        self.desk.lock().is_some()
    }

    /// Puts a new desk where the old one was closed. Returns whether it could.
    fn take_over(&self, profile: Profile, desk: &Arc<Desk>) -> bool {
        let mut place = self.desk.lock();
        if place.is_some() || profile != self.profile {
            return false;
        }
        *place = Some(desk.clone());
        self.endpoint.set_server_config(Some(desk.server_config()));
        self.changed.notify_one();
        true
    }

    /// Takes this desk away, if it is still there. Without connections, the address is free at once.
    pub(crate) fn leave(&self, desk: &Arc<Desk>) {
        let mut place = self.desk.lock();
        if !place.as_ref().is_some_and(|now| Arc::ptr_eq(now, desk)) {
            return;
        }
        *place = None;
        drop(place);
        if self.endpoint.open_connections() == 0 {
            self.retire();
        }
        self.changed.notify_one();
    }

    /// Closes the socket, unless there is a listener again. Returns whether it did.
    fn retire(&self) -> bool {
        let mut doors = DOORS.lock();
        let vacant = self.desk.lock().is_none();
        if vacant {
            self.forget(doors.get_or_insert_default());
            self.socket.close();
        }
        vacant
    }

    fn forget(&self, doors: &mut HashMap<SocketAddr, Weak<Self>>) {
        if doors
            .get(&self.addr)
            .is_some_and(|door| std::ptr::eq(door.as_ptr(), self))
        {
            doors.remove(&self.addr);
        }
    }
}

impl Drop for Door {
    fn drop(&mut self) {
        self.forget(DOORS.lock().get_or_insert_default());
        self.socket.close();
    }
}

/// A door whose task runs. Without it, the endpoint is of no use, and the door makes room for a new one.
struct Attending(Arc<Door>);

impl Drop for Attending {
    fn drop(&mut self) {
        let door = &self.0;
        door.forget(DOORS.lock().get_or_insert_default());
        door.socket.close();
    }
}

/// Runs the task of a door, as long as it has a listener or a connection. While it has a listener,
/// the desk receives new connections.
async fn attend(attending: Attending) {
    let door = &attending.0;
    loop {
        if door.is_attended() {
            door.changed.notified().await;
            continue;
        }
        tokio::select! {
            biased;
            () = door.changed.notified() => {}
            incoming = door.endpoint.accept() => match incoming {
                Some(incoming) => incoming.refuse(),
                None => return,
            },
            () = door.endpoint.wait_idle() => if door.retire() {
                return;
            },
        }
    }
}

fn in_use() -> io::Error {
    let why = "this process listens there, or has connections of another profile there";
    io::Error::new(io::ErrorKind::AddrInUse, why)
}
