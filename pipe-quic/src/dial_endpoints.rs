use std::io;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Weak};
use std::time::Duration;

use parking_lot::Mutex;
use quinn::{ClientConfig, ConnectError, Connecting, Endpoint};
use tokio::runtime::{Handle, Id};
use tokio::sync::Notify;
use tokio::time::{sleep, timeout};

use crate::probe::any_like;
use crate::profile::Profile;
use crate::socket::Socket;

/// Time for which a socket without connections is kept for the next dial.
const KEPT: Duration = Duration::from_secs(3);

/// Time limit for the last packets of the connections of an endpoint that was closed.
const LINGER: Duration = Duration::from_secs(3);

/// The endpoints that the dials of a transport and its clones share: one for each runtime, since its task and
/// those of its connections are there, and each family of addresses.
#[derive(Clone, Default)]
pub(crate) struct DialEndpoints(Arc<Pool>);

#[derive(Default)]
struct Pool(Mutex<Vec<Arc<DialEndpoint>>>);

struct DialEndpoint {
    runtime: Id,
    profile: Profile,
    socket: Arc<Socket>,
    endpoint: Endpoint,
    /// Number of dials that are not counted by quinn yet.
    dials: AtomicUsize,
    /// Notified when no transport dials from it any more.
    unneeded: Notify,
}

impl DialEndpoints {
    /// Begins a connection from the endpoint for this address, which is made if there is none.
    ///
    /// # Errors
    ///
    /// The outer ones are of making an endpoint, the inner ones of quinn.
    pub(crate) fn connect(
        &self,
        profile: Profile,
        client: &ClientConfig,
        to: SocketAddr,
        name: &str,
    ) -> io::Result<Result<(Connecting, Endpoint), ConnectError>> {
        let mut is_again = false;
        loop {
            let dial = self.0.begin(profile, to)?;
            let endpoint = &dial.0.endpoint;
            match endpoint.connect_with(client.clone(), to, name) {
                Err(ConnectError::EndpointStopping) if !is_again => {
                    // Its socket has failed, or the application has closed it.
                    self.0.forget(&dial.0);
                    is_again = true;
                }
                connecting => {
                    return Ok(connecting.map(|connecting| (connecting, endpoint.clone())));
                }
            }
        }
    }
}

impl Pool {
    /// Begins a dial from the endpoint for this address.
    fn begin(self: &Arc<Self>, profile: Profile, to: SocketAddr) -> io::Result<Begun> {
        let runtime = Handle::current().id();
        let mut known = self.0.lock();
        let fitting = known.iter().find(|known| {
            known.runtime == runtime && known.profile == profile && known.reaches(to)
        });
        if let Some(fitting) = fitting {
            return Ok(Begun::new(fitting));
        }
        let new = DialEndpoint::new(runtime, profile, to)?;
        let begun = Begun::new(&new);
        known.push(new.clone());
        // The task takes the lock when it ends, which a runtime that shuts down makes it do at once.
        drop(known);
        tokio::spawn(attend(Attending {
            pool: Arc::downgrade(self),
            endpoint: new,
        }));
        Ok(begun)
    }

    fn forget(&self, endpoint: &Arc<DialEndpoint>) {
        self.0.lock().retain(|known| !Arc::ptr_eq(known, endpoint));
    }
}

impl Drop for Pool {
    fn drop(&mut self) {
        for endpoint in self.0.get_mut() {
            endpoint.unneeded.notify_one();
        }
    }
}

impl DialEndpoint {
    fn new(runtime: Id, profile: Profile, to: SocketAddr) -> io::Result<Arc<Self>> {
        let socket = Socket::bind(any_like(to), profile)?;
        let endpoint = socket.clone().endpoint(None)?;
        Ok(Arc::new(Self {
            runtime,
            profile,
            socket,
            endpoint,
            dials: AtomicUsize::new(0),
            unneeded: Notify::new(),
        }))
    }

    /// Returns whether this address is to be dialed from it. That ends when the application moves the endpoint to
    /// another socket, which may be for some networks only.
    fn reaches(&self, to: SocketAddr) -> bool {
        let own = self.socket.addr();
        own.is_ipv4() == to.is_ipv4() && self.endpoint.local_addr().is_ok_and(|addr| addr == own)
    }
}

/// A dial that has begun. It keeps the endpoint until quinn counts the connection.
struct Begun(Arc<DialEndpoint>);

impl Begun {
    /// Counts a dial. The caller has the pool's lock, or the endpoint is not in the pool yet.
    fn new(endpoint: &Arc<DialEndpoint>) -> Self {
        endpoint.dials.fetch_add(1, Ordering::Relaxed);
        Self(endpoint.clone())
    }
}

impl Drop for Begun {
    fn drop(&mut self) {
        self.0.dials.fetch_sub(1, Ordering::Release);
    }
}

/// An endpoint whose task runs. Without it the endpoint is of no use.
struct Attending {
    pool: Weak<Pool>,
    endpoint: Arc<DialEndpoint>,
}

impl Attending {
    /// Takes the endpoint from the pool if nothing uses it. Returns whether it has.
    fn retire(&self) -> bool {
        let pool = self.pool.upgrade();
        let known = pool.as_ref().map(|pool| pool.0.lock());
        let DialEndpoint {
            dials, endpoint, ..
        } = &*self.endpoint;
        // In this order: a dial is counted by quinn before it is not counted here.
        let is_used = dials.load(Ordering::Acquire) > 0 || endpoint.open_connections() > 0;
        if let Some(mut known) = known.filter(|_| !is_used) {
            known.retain(|known| !Arc::ptr_eq(known, &self.endpoint));
        }
        !is_used
    }

    fn forget(&self) {
        if let Some(pool) = self.pool.upgrade() {
            pool.forget(&self.endpoint);
        }
    }
}

impl Drop for Attending {
    fn drop(&mut self) {
        self.forget();
        self.endpoint.socket.close();
    }
}

/// Runs the task of an endpoint, and closes its socket when nothing needs it.
async fn attend(attending: Attending) {
    let DialEndpoint {
        endpoint, unneeded, ..
    } = &*attending.endpoint;
    loop {
        // A closed connection counts until it is drained: its close is sent again as long as the peer goes on sending.
        tokio::select! {
            biased;
            () = stopped(endpoint) => break,
            () = endpoint.wait_idle() => {}
        }
        if attending.pool.strong_count() > 0 {
            tokio::select! {
                biased;
                () = stopped(endpoint) => break,
                () = unneeded.notified() => {}
                () = sleep(KEPT) => {}
            }
        }
        // It may have been idle only before its first connection.
        if attending.retire() {
            return;
        }
    }
    attending.forget();
    let _ = timeout(LINGER, endpoint.wait_idle()).await;
}

/// Waits until the socket has failed, or the application has closed the endpoint.
async fn stopped(endpoint: &Endpoint) {
    while let Some(incoming) = endpoint.accept().await {
        incoming.refuse();
    }
}
