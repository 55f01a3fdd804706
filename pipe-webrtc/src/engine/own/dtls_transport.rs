use std::collections::VecDeque;
use std::net::SocketAddr;
use std::time::Instant;

use pipe_core::Result;

use super::dtls::{Association, Event};

/// Maximum number of datagrams that wait until the peer is described.
const MAX_EARLY: usize = 8;

/// The number of a route, and the address of the peer on it.
pub(super) type Way = (usize, SocketAddr);

/// The association of DTLS with what waits for it and what it has for the peer, without I/O.
#[derive(Debug, Default)]
pub(super) struct DtlsTransport {
    association: Option<Association>,
    /// Datagrams that came before the association was made, with where they came from.
    early: VecDeque<(Way, Vec<u8>)>,
    /// Where a handshake is answered before a path is chosen.
    source: Option<Way>,
    /// Datagrams that wait for the next turn.
    pending: Vec<(Way, Vec<u8>)>,
}

/// What has come out of the association.
pub(super) struct Polled {
    pub(super) is_connected: bool,
    pub(super) is_closed: bool,
    /// Whether there were packets of the peer.
    pub(super) is_heard: bool,
    pub(super) outcome: Result<()>,
}

impl DtlsTransport {
    /// Returns the association, once there is one.
    pub(super) fn association(&self) -> Option<&Association> {
        self.association.as_ref()
    }

    pub(super) fn association_mut(&mut self) -> Option<&mut Association> {
        self.association.as_mut()
    }

    /// Sets the association, whose peer is described. Returns the datagrams that have waited for it.
    pub(super) fn set(&mut self, association: Association) -> VecDeque<(Way, Vec<u8>)> {
        self.association = Some(association);
        std::mem::take(&mut self.early)
    }

    /// Returns where a handshake is answered before a path is chosen.
    pub(super) fn source(&self) -> Option<Way> {
        self.source
    }

    /// Takes a datagram. Returns whether the association has it, so that [`poll`](Self::poll) may have something.
    ///
    /// # Errors
    ///
    /// Those of [`Association::handle_datagram`].
    pub(super) fn handle(
        &mut self,
        now: Instant,
        way: Way,
        datagram: &[u8],
        is_known: impl FnOnce() -> bool,
    ) -> Result<bool> {
        let Some(association) = &mut self.association else {
            if self.early.len() < MAX_EARLY {
                self.early.push_back((way, datagram.to_vec()));
            }
            return Ok(false);
        };
        // Others cannot harm an association that is made, but a handshake.
        if !association.is_connected() {
            if !is_known() {
                return Ok(false);
            }
            self.source = Some(way);
        }
        association.handle_timeout(now)?;
        association.handle_datagram(datagram)?;
        Ok(true)
    }

    /// Takes what has come out of the association: datagrams for the peer wait for
    /// [`take_pending`](Self::take_pending), and its packets are passed on.
    pub(super) fn poll(&mut self, to: Option<Way>, mut packet: impl FnMut(&[u8])) -> Polled {
        let mut polled = Polled {
            is_connected: false,
            is_closed: false,
            is_heard: false,
            outcome: Ok(()),
        };
        let pending = &mut self.pending;
        if let Some(association) = &mut self.association {
            polled.outcome = association.poll(|event| {
                match event {
                    Event::Datagram(datagram) => {
                        if let Some(to) = to {
                            pending.push((to, datagram.to_vec()));
                        }
                    }
                    Event::Connected => polled.is_connected = true,
                    Event::Packet(one) => {
                        polled.is_heard = true;
                        packet(one);
                    }
                    Event::Closed => polled.is_closed = true,
                }
                Ok(())
            });
        }
        polled
    }

    /// Begins the handshake once there is a path, and does what is due. Returns whether anything was.
    ///
    /// # Errors
    ///
    /// Those of [`Association::handle_timeout`].
    pub(super) fn drive(&mut self, now: Instant, has_path: bool) -> Result<bool> {
        let Some(association) = &mut self.association else {
            return Ok(false);
        };
        let is_started = has_path && !association.is_started();
        if is_started {
            association.start(now)?;
        } else if association.deadline().is_none_or(|at| at > now) {
            return Ok(false);
        }
        association.handle_timeout(now)?;
        Ok(true)
    }

    /// Returns when to call [`drive`](Self::drive).
    pub(super) fn deadline(&self) -> Option<Instant> {
        self.association.as_ref().and_then(Association::deadline)
    }

    /// Ends an association that is established, which the peer is told.
    pub(super) fn close(&mut self, to: Option<Way>) {
        let Some(association) = &mut self.association else {
            return;
        };
        if !association.is_connected() {
            return;
        }
        association.close();
        if let Err(error) = self.poll(to, |_| {}).outcome {
            tracing::debug!(%error, "the end of DTLS is not sent");
        }
    }

    /// Takes the datagrams that wait to be sent.
    pub(super) fn take_pending(&mut self) -> Vec<(Way, Vec<u8>)> {
        std::mem::take(&mut self.pending)
    }

    /// Nothing happens any more.
    pub(super) fn end(&mut self) {
        self.association = None;
    }
}
