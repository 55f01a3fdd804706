use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use pipewerks::{BoxStream, Conn, ConnState};
use tokio::time::{Instant, timeout};

use crate::address::Address;
use crate::exit::Exit;
use crate::failure::Failure;
use crate::net::{Net, farewell};
use crate::redial::Redialer;
use crate::report::Report;

/// Number of streams on a connection before another one is made: fewer than a peer usually allows.
const STREAMS: usize = 200;

/// Time to open a stream after which a connection counts as full.
const FULL: Duration = Duration::from_secs(1);

/// The connections to a peer. There is one, and more as long as one does not carry all streams.
#[derive(Debug)]
pub(super) struct Lanes {
    net: Net,
    addr: Address,
    report: Report,
    /// The first one stays.
    list: Mutex<Vec<Arc<Lane>>>,
    /// Held while a connection is made, so that waiting tasks use it as well.
    adding: tokio::sync::Mutex<()>,
}

#[derive(Debug)]
struct Lane {
    redialer: Arc<Redialer>,
    /// Number of streams that it carries, and its maximum.
    load: Mutex<(usize, usize)>,
}

/// A stream, and its place in a connection.
#[derive(Debug)]
pub(super) struct Carried {
    lanes: Arc<Lanes>,
    lane: Arc<Lane>,
}

impl Lanes {
    /// Dials for the first time.
    pub(super) async fn new(net: Net, addr: Address, report: Report) -> Result<Self, Failure> {
        let first = Redialer::new(net.clone(), addr.clone(), report).await?;
        Ok(Self {
            net,
            addr,
            report,
            list: Mutex::new(vec![Lane::new(first)]),
            adding: tokio::sync::Mutex::default(),
        })
    }

    pub(super) fn first(&self) -> Arc<Redialer> {
        self.list()[0].redialer.clone()
    }

    /// Opens a stream where there is room for one.
    pub(super) async fn open(
        self: &Arc<Self>,
        deadline: Instant,
    ) -> Result<(BoxStream, Carried), Failure> {
        loop {
            let place = self.place(deadline).await?;
            let redialer = &place.lane.redialer;
            let (conn, number) = redialer.conn(deadline).await?;
            match timeout(FULL, conn.open_stream()).await {
                Ok(Ok(stream)) => return Ok((stream, place)),
                Ok(Err(error)) if conn.state().borrow().is_final() => {
                    tracing::info!(%error, "a connection was lost before its stream was open");
                    redialer.forget(number).await;
                }
                Ok(Err(error)) => return Err(Failure::on_conn(self.addr.as_str(), &error)),
                // A silent connection carries no fewer streams for that.
                Err(_) if *conn.state().borrow() != ConnState::Connected => {}
                Err(_) => place.lane.is_full(),
            }
            if Instant::now() >= deadline {
                let why = format!("{}: no stream could be opened in time", self.addr);
                return Err(Failure::new(Exit::Lost, why));
            }
        }
    }

    /// Takes a place in a connection, or in a new one.
    async fn place(self: &Arc<Self>, deadline: Instant) -> Result<Carried, Failure> {
        if let Some(place) = self.free() {
            return Ok(place);
        }
        let _adding = self.adding.lock().await;
        if let Some(place) = self.free() {
            return Ok(place);
        }
        let dialed = Redialer::new(self.net.clone(), self.addr.clone(), self.report);
        let dialed = tokio::time::timeout_at(deadline, dialed).await;
        let lane = Lane::new(dialed.unwrap_or_else(|_| {
            let why = format!("{}: no further connection in time", self.addr);
            Err(Failure::new(Exit::Unreached, why))
        })?);
        lane.take();
        self.list().push(lane.clone());
        Ok(Carried {
            lanes: self.clone(),
            lane,
        })
    }

    fn free(self: &Arc<Self>) -> Option<Carried> {
        let lane = self.list().iter().find(|lane| lane.take()).cloned()?;
        Some(Carried {
            lanes: self.clone(),
            lane,
        })
    }

    /// Ends all connections in good order.
    pub(super) async fn farewell(&self) {
        let lanes = self.list().clone();
        for lane in lanes {
            if let Some(conn) = lane.redialer.take().await {
                farewell(&conn).await;
            }
        }
    }

    fn list(&self) -> MutexGuard<'_, Vec<Arc<Lane>>> {
        self.list.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Lane {
    fn new(redialer: Redialer) -> Arc<Self> {
        Arc::new(Self {
            redialer: Arc::new(redialer),
            load: Mutex::new((0, STREAMS)),
        })
    }

    /// Takes a place, if there is one.
    fn take(&self) -> bool {
        let mut load = self.load();
        let free = load.0 < load.1;
        load.0 += usize::from(free);
        free
    }

    /// The peer lets it carry no more than it does.
    fn is_full(&self) {
        let mut load = self.load();
        load.1 = load.0.saturating_sub(1).clamp(1, STREAMS);
    }

    fn load(&self) -> MutexGuard<'_, (usize, usize)> {
        self.load.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A further connection that carries nothing any more ends.
impl Drop for Carried {
    fn drop(&mut self) {
        let mut list = self.lanes.list();
        let idle = {
            let mut load = self.lane.load();
            load.0 -= 1;
            load.0 == 0
        };
        if idle && !Arc::ptr_eq(&list[0], &self.lane) {
            list.retain(|lane| !Arc::ptr_eq(lane, &self.lane));
        }
    }
}
