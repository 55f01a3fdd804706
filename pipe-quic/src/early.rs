use std::net::SocketAddr;
use std::sync::Arc;

use pipe_core::{Error, ErrorKind, Result};
use pipe_net::connect_error;
use quinn::ZeroRttAccepted;

use crate::conn_inner::ConnInner;
use crate::control_stream::{ControlInput, Greeting, certificates_of};
use crate::early_data::refused;
use crate::error::{Condition, by_this_side, handshake_error, protocol};
use crate::probe::refusal_of;
use crate::sessions::{Met, Session};

/// A connection in use whose handshake is under way.
pub(crate) enum Early {
    Dialed(Box<Dialed>),
    Accepted(ZeroRttAccepted),
}

/// The part of a dial that is left until the handshake is over.
pub(crate) struct Dialed {
    pub(crate) handshake: ZeroRttAccepted,
    pub(crate) greeting: Greeting,
    pub(crate) session: Arc<Session>,
    /// Data that the session holds about the listener.
    pub(crate) met: Met,
}

impl Early {
    /// Returns the session that is resumed, on a dialer.
    pub(crate) fn session(&self) -> Option<Arc<Session>> {
        match self {
            Self::Dialed(dialed) => Some(dialed.session.clone()),
            Self::Accepted(_) => None,
        }
    }

    /// Waits until the handshake is over, and completes the exchange of first messages. Returns the
    /// peer's control stream where it had not arrived yet. Pending for ever when the connection has
    /// ended over it.
    pub(crate) async fn finish(self, conn: &ConnInner) -> Option<ControlInput> {
        let finished = match self {
            Self::Accepted(handshake) => {
                handshake.await;
                if conn.quinn.close_reason().is_none() {
                    conn.confirm();
                    return None;
                }
                // The driver reports it.
                None
            }
            Self::Dialed(dialed) => match dialed.finish(conn).await {
                Ok(control) => Some(control),
                Err((condition, error)) => {
                    conn.fail(condition, error);
                    None
                }
            },
        };
        match finished {
            Some(control) => Some(control),
            None => std::future::pending().await,
        }
    }
}

impl Dialed {
    async fn finish(
        self: Box<Self>,
        conn: &ConnInner,
    ) -> std::result::Result<ControlInput, (Condition, Error)> {
        let context = self.greeting.context.clone();
        let at: SocketAddr = self.met.at;
        let Self {
            handshake,
            greeting,
            session,
            met,
        } = *self;
        let accepted = tokio::select! {
            biased;
            accepted = handshake => accepted,
            error = refusal_of(at) => {
                return Err((Condition::Refused, connect_error(context, error)));
            }
        };
        let quinn = &conn.quinn;
        if !accepted {
            return Err((
                Condition::Refused,
                match quinn.close_reason() {
                    None => refused(),
                    Some(error) => match session.tls.verdict().error() {
                        Some(refusal) if by_this_side(&error) => {
                            pipe_tls::explain(&context, &refusal)
                        }
                        _ => handshake_error(&context, &error),
                    },
                },
            ));
        }
        let same = || -> Result<()> {
            greeting.check_protocol(quinn)?;
            if certificates_of(quinn).as_ref() == Some(&met.certificates) {
                return Ok(());
            }
            let why =
                format!("{context}: the session is of another certificate than it was kept for");
            Err(Error::new(ErrorKind::Unauthenticated, why))
        };
        same().map_err(|error| (Condition::Handshake, error))?;
        conn.confirm();
        let (hello, control) = greeting
            .hear(quinn, None)
            .await
            .map_err(|error| (Condition::Handshake, error))?;
        if hello != met.hello {
            session.forget();
            let why = protocol("it accepted early data, but sent another hello than before");
            return Err((Condition::Protocol, why));
        }
        Ok(control)
    }
}
