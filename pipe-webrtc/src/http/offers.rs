use std::future::poll_fn;
use std::sync::Arc;

use parking_lot::Mutex;
use pipe_core::backend::{Accept, Progress};
use pipe_core::{Addr, CloseReason, Error, ErrorKind, Incoming, Result};
use tokio::sync::mpsc;

use super::addr::HttpAddr;
use super::answering::Answering;
use super::door::Door;
use super::resources::Entry;
use super::service::Posted;
use crate::conn::WebRtcConn;
use crate::error::lost;
use crate::setup::Setup;
use crate::shared::Shared;

/// Makes connections of the offers that are posted.
pub(crate) struct Offers {
    pub(crate) setup: Setup,
    pub(crate) on: HttpAddr,
    pub(crate) local: Addr,
    pub(crate) posted: Mutex<mpsc::Receiver<Posted>>,
    /// The listener's own server, if it has one.
    pub(crate) door: Option<Door>,
}

impl Accept for Offers {
    type Raw = Posted;
    type Conn = WebRtcConn;

    async fn accept(&self) -> Result<Posted> {
        let posted = poll_fn(|cx| self.posted.lock().poll_recv(cx)).await;
        posted.ok_or_else(|| {
            let why = "the server has dropped the service that hands offers over";
            Error::new(ErrorKind::Failed, why)
        })
    }

    fn incoming(&self, posted: &Posted) -> Incoming {
        posted.peer.incoming()
    }

    async fn handshake(self: Arc<Self>, posted: Posted, progress: Progress) -> Result<WebRtcConn> {
        // The offer is here as a whole.
        progress.begin().await;
        let Posted {
            offer,
            peer,
            entry,
            patches,
            answer,
        } = posted;
        let remote = match peer.remote {
            Some(remote) => self.on.dialer(remote)?,
            None => Addr::opaque(self.local.scheme())?,
        };
        let host = match peer.remote {
            Some(remote) => remote.ip().to_canonical().to_string(),
            None => self.on.at.host.clone(),
        };
        let target = self.on.target(Some(&host));
        let mut plan = self
            .setup
            .plan(false, target, (self.local.clone(), remote))?;
        plan.identity = peer.identity;
        plan.progress = Some(progress);
        let signaling = Answering::new(offer, answer, entry.resource.clone(), patches);
        let conn = plan.establish(signaling).await?;
        tokio::spawn(until_over(conn.to_shared(), entry));
        Ok(conn)
    }

    fn close(&self) {
        let mut posted = self.posted.lock();
        posted.close();
        // Their peers are answered.
        while posted.try_recv().is_ok() {}
        drop(posted);
        if let Some(door) = &self.door {
            door.close();
        }
    }
}

/// Keeps the resource of a connection until that is over, and ends it where the peer deletes the resource.
///
/// A peer that speaks `pipe/1` has closed the connection before that, or has lost it: then this is no clean end.
async fn until_over(shared: Arc<Shared>, entry: Entry) {
    tokio::select! {
        _ = shared.status.ended() => {}
        () = entry.resource.deleted() => {
            let reason = if shared.wire.is_raw() {
                CloseReason::remote(0, "")
            } else {
                CloseReason::Failed(lost("the peer has deleted its resource without a close"))
            };
            shared.end(&reason);
        }
    }
}
