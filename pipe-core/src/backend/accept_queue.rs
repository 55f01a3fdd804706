use std::fmt;
use std::sync::{Arc, OnceLock};

use parking_lot::Mutex;
use tokio::sync::Notify;

use crate::backend::Backlog;
use crate::{Addr, Error, ErrorKind, Result};

/// The connections of a listener that wait to be accepted, and the state of the listener.
///
/// Its users bound it: they [reserve](Self::reserve) a place, or check for [room](Self::has_room),
/// before they take in another connection.
pub struct AcceptQueue<C> {
    addr: Addr,
    waiting: Backlog<(C, Place)>,
    places: Arc<Places>,
    end: OnceLock<Error>,
}

#[derive(Debug)]
pub(super) struct Places {
    limit: usize,
    state: Mutex<PlacesState>,
    /// Notified when a place is free, and at the end.
    free: Notify,
}

#[derive(Debug, Default)]
struct PlacesState {
    taken: usize,
    ended: bool,
}

/// A place in an [`AcceptQueue`], which a drop gives back.
#[derive(Debug)]
pub struct Place(Arc<Places>);

impl<C> AcceptQueue<C> {
    /// Creates an empty queue of the listener at `addr`, in which up to `limit` connections wait
    /// ([`Config::accept_backlog`](crate::Config::accept_backlog)).
    pub fn new(addr: Addr, limit: u32) -> Self {
        Self {
            addr,
            waiting: Backlog::new(),
            places: Arc::new(Places {
                limit: limit as usize,
                state: Mutex::default(),
                free: Notify::new(),
            }),
            end: OnceLock::new(),
        }
    }

    pub(super) fn places(&self) -> Arc<Places> {
        self.places.clone()
    }

    /// Returns the listener's address.
    pub fn addr(&self) -> &Addr {
        &self.addr
    }

    /// Waits for a free place, and takes it. `None` once the listener has ended.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future takes no place.
    pub async fn reserve(&self) -> Option<Place> {
        let places = &self.places;
        places
            .wait(|state| state.taken += 1)
            .await
            .then(|| Place(places.clone()))
    }

    /// Waits until there is a free place, without taking it. Returns false once the listener has ended.
    ///
    /// # Cancel safety
    ///
    /// Safe: it changes nothing.
    pub async fn has_room(&self) -> bool {
        self.places.has_room().await
    }

    /// Adds a connection in a place that was reserved for it.
    ///
    /// # Errors
    ///
    /// Gives the connection back once the listener has ended.
    pub fn push_into(&self, place: Place, conn: C) -> Result<(), C> {
        self.waiting.push((conn, place)).map_err(|(conn, _)| conn)
    }

    /// Adds a connection, even beyond the limit: one that was under way while there was room.
    ///
    /// # Errors
    ///
    /// Gives the connection back once the listener has ended.
    pub fn push(&self, conn: C) -> Result<(), C> {
        self.places.state.lock().taken += 1;
        self.push_into(Place(self.places.clone()), conn)
    }

    /// Waits for the next connection.
    ///
    /// # Errors
    ///
    /// [`Closed`](ErrorKind::Closed) once the listener was closed, or the error that it has
    /// [ended](Self::fail) with.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future loses no connection.
    pub async fn accept(&self) -> Result<C> {
        match self.waiting.pop().await {
            Some((conn, _place)) => Ok(conn),
            None => Err(self.end.get().cloned().unwrap_or_else(|| self.closed())),
        }
    }

    /// Ends the listener as closed by the application. Connections that wait are dropped.
    pub fn close(&self) {
        self.fail(self.closed());
    }

    /// Ends the listener with an error, unless it has ended. Connections that wait are dropped.
    pub fn fail(&self, error: Error) {
        // The first end stays.
        let _ = self.end.set(error);
        drop(self.waiting.close());
        self.places.state.lock().ended = true;
        self.places.free.notify_waiters();
    }

    fn closed(&self) -> Error {
        let why = format!("the listener on {} is closed", self.addr);
        Error::new(ErrorKind::Closed, why)
    }
}

impl Places {
    /// Waits until there is a free place. Returns false once the listener has ended.
    pub(super) async fn has_room(&self) -> bool {
        self.wait(|_| ()).await
    }

    /// Waits for a free place, and does something to the state then. Returns false after the end.
    async fn wait(&self, then: impl Fn(&mut PlacesState)) -> bool {
        loop {
            let mut free = std::pin::pin!(self.free.notified());
            // From here on, the end wakes it.
            free.as_mut().enable();
            {
                let mut state = self.state.lock();
                if state.ended {
                    return false;
                }
                if state.taken < self.limit {
                    then(&mut state);
                    // One wake-up may have stood for several places.
                    if state.taken < self.limit {
                        self.free.notify_one();
                    }
                    return true;
                }
            }
            free.await;
        }
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut state = self.0.state.lock();
        state.taken -= 1;
        let is_free = state.taken < self.0.limit;
        drop(state);
        if is_free {
            self.0.free.notify_one();
        }
    }
}

impl<C> fmt::Debug for AcceptQueue<C> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("AcceptQueue")
            .field("addr", &self.addr)
            .field("waiting", &self.waiting.len())
            .finish_non_exhaustive()
    }
}
