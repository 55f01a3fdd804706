use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::time::Instant;

use socket2::{Domain, Protocol, SockRef, Socket, Type};
use tokio::net::UdpSocket;
use tokio::sync::mpsc;
use tokio::task::AbortHandle;
use tokio::time::sleep_until;

use super::machine::{Lookup, Machine, Message, PORT};

/// The groups of multicast DNS (RFC 6762, section 3).
const GROUP_V4: Ipv4Addr = Ipv4Addr::new(224, 0, 0, 251);
const GROUP_V6: Ipv6Addr = Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 0, 0xfb);

/// Largest message (RFC 6762, section 17), in bytes.
const MAX_MESSAGE: usize = 9000;

/// Maximum number of interfaces of each family.
const MAX_INTERFACES: usize = 16;

/// Maximum number of commands and of outcomes that wait. Further commands are lost, and outcomes wait.
const QUEUE: usize = 64;

/// Looks names of multicast DNS up and answers for those of this side, in a task. Dropping it ends the
/// task.
#[derive(Debug)]
pub(crate) struct MdnsService {
    commands: mpsc::Sender<Command>,
    task: AbortHandle,
}

/// An interface that messages go out of.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum MulticastInterface {
    /// The one with this address.
    V4(Ipv4Addr),
    /// The one with this index.
    V6(u32),
}

/// Number of failures in a row after which the service ends.
const MAX_FAILED: u32 = 100;

#[derive(Debug)]
enum Command {
    LookUp(String),
    Publish(String, Vec<IpAddr>),
}

impl MdnsService {
    /// Joins the groups of multicast DNS on interfaces. Returns the outcomes of its lookups too.
    ///
    /// # Errors
    ///
    /// When no group can be joined.
    pub(crate) fn start(
        interfaces: impl IntoIterator<Item = MulticastInterface>,
    ) -> io::Result<(Self, mpsc::Receiver<Lookup>)> {
        let (mut v4, mut v6) = (Vec::new(), Vec::new());
        for interface in interfaces {
            match interface {
                MulticastInterface::V4(addr) if v4.len() < MAX_INTERFACES => v4.push(addr),
                MulticastInterface::V6(index) if v6.len() < MAX_INTERFACES => v6.push(index),
                _ => {}
            }
        }
        let (v4, v6) = (Joined::v4(&v4), Joined::v6(&v6));
        let (v4, v6) = match (v4, v6) {
            (Err(error), Err(_)) => return Err(error),
            (v4, v6) => (v4.ok(), v6.ok()),
        };
        let (commands, receiver) = mpsc::channel(QUEUE);
        let (outcomes, found) = mpsc::channel(QUEUE);
        let task = tokio::spawn(run([v4, v6], receiver, outcomes));
        let service = Self {
            commands,
            task: task.abort_handle(),
        };
        Ok((service, found))
    }

    /// Looks a name up. Its outcome comes within 6 s, unless too many are looked up.
    pub(crate) fn look_up(&self, name: &str) {
        let _ = self.commands.try_send(Command::LookUp(name.to_owned()));
    }

    /// Answers for a name from now on.
    pub(crate) fn publish(&self, name: &str, ips: Vec<IpAddr>) {
        let command = Command::Publish(name.to_owned(), ips);
        let _ = self.commands.try_send(command);
    }
}

impl Drop for MdnsService {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// A socket in the group of one family.
#[derive(Debug)]
struct Joined {
    socket: UdpSocket,
    group: SocketAddr,
    interfaces: Vec<MulticastInterface>,
}

impl Joined {
    fn v4(addrs: &[Ipv4Addr]) -> io::Result<Self> {
        let socket = bind(Domain::IPV4, (Ipv4Addr::UNSPECIFIED, PORT).into())?;
        socket.set_multicast_loop_v4(true)?;
        socket.set_multicast_ttl_v4(255)?;
        let join = |addr: &&Ipv4Addr| socket.join_multicast_v4(&GROUP_V4, addr);
        let joined = joined(addrs, join)?;
        Ok(Self {
            socket: UdpSocket::from_std(socket.into())?,
            group: (GROUP_V4, PORT).into(),
            interfaces: joined.into_iter().map(MulticastInterface::V4).collect(),
        })
    }

    fn v6(indices: &[u32]) -> io::Result<Self> {
        let socket = bind(Domain::IPV6, (Ipv6Addr::UNSPECIFIED, PORT).into())?;
        socket.set_multicast_loop_v6(true)?;
        socket.set_multicast_hops_v6(255)?;
        let join = |index: &&u32| socket.join_multicast_v6(&GROUP_V6, **index);
        let joined = joined(indices, join)?;
        Ok(Self {
            socket: UdpSocket::from_std(socket.into())?,
            group: (GROUP_V6, PORT).into(),
            interfaces: joined.into_iter().map(MulticastInterface::V6).collect(),
        })
    }

    /// Sends a message to one receiver, or to all on each interface. As over UDP, what fails is lost.
    async fn send(&self, message: &Message) {
        let sent = match message.to {
            Some(to) if to.is_ipv4() != self.group.is_ipv4() => return,
            Some(to) => self.socket.send_to(&message.payload, to).await,
            None => {
                let mut sent = Ok(0);
                for interface in &self.interfaces {
                    let socket = SockRef::from(&self.socket);
                    let chosen = match interface {
                        MulticastInterface::V4(addr) => socket.set_multicast_if_v4(addr),
                        MulticastInterface::V6(index) => socket.set_multicast_if_v6(*index),
                    };
                    sent = match chosen {
                        Ok(()) => self.socket.send_to(&message.payload, self.group).await,
                        Err(error) => Err(error),
                    };
                }
                sent
            }
        };
        if let Err(error) = sent {
            tracing::debug!(%error, "a message of multicast DNS is not sent");
        }
    }
}

/// Returns the interfaces whose group was joined.
fn joined<T: Copy>(interfaces: &[T], join: impl Fn(&&T) -> io::Result<()>) -> io::Result<Vec<T>> {
    let why = "no interface to join a group of multicast DNS on";
    let mut failed = io::Error::new(io::ErrorKind::AddrNotAvailable, why);
    let mut joined = Vec::new();
    for interface in interfaces {
        match join(&interface) {
            Ok(()) => joined.push(*interface),
            Err(error) => failed = error,
        }
    }
    if joined.is_empty() {
        return Err(failed);
    }
    Ok(joined)
}

fn bind(domain: Domain, addr: SocketAddr) -> io::Result<Socket> {
    let socket = Socket::new(domain, Type::DGRAM, Some(Protocol::UDP))?;
    if domain == Domain::IPV6 {
        socket.set_only_v6(true)?;
    }
    // Other programs, and other connections, are on the same port.
    socket.set_reuse_address(true)?;
    #[cfg(unix)]
    socket.set_reuse_port(true)?;
    socket.set_nonblocking(true)?;
    socket.bind(&addr.into())?;
    Ok(socket)
}

async fn run(
    sockets: [Option<Joined>; 2],
    mut commands: mpsc::Receiver<Command>,
    outcomes: mpsc::Sender<Lookup>,
) {
    let mut machine = Machine::default();
    let (mut v4, mut v6) = (vec![0; MAX_MESSAGE], vec![0; MAX_MESSAGE]);
    let mut failed = 0;
    loop {
        while let Some(message) = machine.poll_transmit() {
            for socket in sockets.iter().flatten() {
                socket.send(&message).await;
            }
        }
        while let Some(outcome) = machine.poll_event() {
            if outcomes.send(outcome).await.is_err() {
                return;
            }
        }
        let due = machine.poll_timeout();
        let received = tokio::select! {
            command = commands.recv() => {
                let now = Instant::now();
                match command {
                    Some(Command::LookUp(name)) => {
                        machine.look_up(now, &name);
                    }
                    Some(Command::Publish(name, ips)) => {
                        machine.publish(now, &name, ips);
                    }
                    None => return,
                }
                continue;
            }
            received = receive(sockets[0].as_ref(), &mut v4) => received.map(|(n, from)| (&v4[..n], from)),
            received = receive(sockets[1].as_ref(), &mut v6) => received.map(|(n, from)| (&v6[..n], from)),
            () = sleep_until(due.unwrap_or_else(Instant::now).into()), if due.is_some() => {
                machine.handle_timeout(Instant::now());
                continue;
            }
        };
        match received {
            Ok((packet, from)) => {
                failed = 0;
                machine.handle_packet(Instant::now(), from, packet);
            }
            Err(error) => {
                // Some come after a message that did not reach its receiver.
                tracing::debug!(%error, "nothing is received of multicast DNS");
                failed += 1;
                if failed == MAX_FAILED {
                    return;
                }
            }
        }
    }
}

async fn receive(socket: Option<&Joined>, buffer: &mut [u8]) -> io::Result<(usize, SocketAddr)> {
    match socket {
        Some(joined) => joined.socket.recv_from(buffer).await,
        None => std::future::pending().await,
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use tokio::time::timeout;

    use super::super::hidden_name;
    use super::*;

    #[cfg(target_os = "linux")]
    #[tokio::test]
    async fn one_connection_finds_the_name_of_another() {
        let loopback = || [MulticastInterface::V4(Ipv4Addr::LOCALHOST)];
        let (near, mut found) = MdnsService::start(loopback()).unwrap();
        let (far, _found) = MdnsService::start(loopback()).unwrap();
        let name = hidden_name().unwrap();
        let ip: IpAddr = "192.0.2.77".parse().unwrap();
        far.publish(&name, vec![ip]);
        near.look_up(&name);
        let outcome = timeout(Duration::from_secs(10), found.recv()).await;
        let outcome = outcome.unwrap().unwrap();
        assert_eq!(outcome, Lookup::Found { name, ip });
    }

    #[tokio::test]
    async fn without_an_interface_there_is_no_service() {
        assert!(MdnsService::start([]).is_err());
    }
}
