use std::net::SocketAddr;
use std::sync::Arc;

use futures::FutureExt;
use parking_lot::Mutex;
use pipe_core::backend::proto::{Frame, Hello};
use pipe_core::{Config, Error, ErrorKind, Result, Wire};
use pipe_tls::CertPins;
use quinn::ZeroRttAccepted;
use tokio::time::Instant;

use crate::conn::QuicConn;
use crate::conn_inner::{ConnInner, NewConn};
use crate::control_stream::{ControlInput, Greeting, certificates_of};
use crate::dialect::Dialect;
use crate::driver::{Driver, End};
use crate::early::{Dialed, Early};
use crate::early_data::EarlyData;
use crate::ends::Ends;
use crate::error::Condition;
use crate::session::{QuicSession, start_session};
use crate::sessions::{Met, Session};
use crate::socket::Socket;
use crate::web::{Gate, WebDial, WebSession, ask, receive};

/// Parameters of the `pipe/1` handshake over a QUIC connection.
pub(crate) struct Handshake {
    pub(crate) greeting: Greeting,
    pub(crate) config: Config,
    pub(crate) web: Option<WebSide>,
    /// The hashes of the listener's certificate.
    pub(crate) pins: CertPins,
    pub(crate) listens: bool,
    pub(crate) local: SocketAddr,
    pub(crate) endpoint: quinn::Endpoint,
    /// The socket, if it is the connection's own.
    pub(crate) socket: Option<Arc<Socket>>,
}

/// How a session of WebTransport is made, if it is one.
pub(crate) enum WebSide {
    Dials(WebDial),
    Listens(Gate),
}

/// The result of the first messages.
struct Greeted {
    session: QuicSession,
    web: Option<WebSession>,
    send: Option<quinn::SendStream>,
    control: Option<ControlInput>,
    early: Option<Early>,
}

/// Closes a connection whose handshake was given up.
struct Pending(Option<quinn::Connection>);

impl Drop for Pending {
    fn drop(&mut self) {
        if let Some(conn) = &self.0 {
            let why = b"the handshake was given up";
            conn.close(Condition::Refused.code(), why);
        }
    }
}

impl Handshake {
    /// Exchanges the first messages. `handshake` is that of TLS, if it may not be over yet. The
    /// peer's hello is kept in the session, if there is one.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future closes the connection.
    pub(crate) async fn run(
        self,
        conn: quinn::Connection,
        handshake: Option<ZeroRttAccepted>,
        session: Option<&Session>,
    ) -> Result<QuicConn> {
        let mut pending = Pending(Some(conn.clone()));
        let greeted = match self.greet(&conn, handshake).await {
            Ok(greeted) => greeted,
            Err(error) => {
                let code = Condition::Handshake.code();
                conn.close(code, error.to_string().as_bytes());
                return Err(error);
            }
        };
        if let (Some(session), Some(hello), Some(certificates)) =
            (session, greeted.session.peer(), certificates_of(&conn))
        {
            session.learn(Met {
                at: conn.remote_address(),
                certificates,
                hello: *hello,
            });
        }
        pending.0 = None;
        Ok(self.start(conn, greeted))
    }

    /// Begins before the peer's first message, with the data of the session.
    ///
    /// # Errors
    ///
    /// Those of a connection that has ended.
    pub(crate) fn run_early(
        self,
        conn: quinn::Connection,
        handshake: ZeroRttAccepted,
        session: Arc<Session>,
        met: Met,
    ) -> Result<QuicConn> {
        // A stream of this kind is allowed from the start, and takes a hello at once.
        let mut session_state = self.session();
        let said = self
            .greeting
            .say(&conn, None, &mut session_state)
            .now_or_never();
        let Some(said) = said else {
            let context = &self.greeting.context;
            let why = format!("{context}: the session has no hello to send");
            return Err(Error::new(ErrorKind::Handshake, why));
        };
        let said = said?;
        take_hello(&mut session_state, met.hello)?;
        let greeted = Greeted {
            session: session_state,
            web: None,
            send: Some(said),
            control: None,
            early: Some(Early::Dialed(Box::new(Dialed {
                handshake,
                greeting: self.greeting.clone(),
                session,
                met,
            }))),
        };
        Ok(self.start(conn, greeted))
    }

    async fn greet(
        &self,
        conn: &quinn::Connection,
        handshake: Option<ZeroRttAccepted>,
    ) -> Result<Greeted> {
        self.greeting.check_protocol(conn)?;
        let mut session = self.session();
        let greeting = &self.greeting;
        let (at, context) = (&greeting.at, &greeting.context);
        let is_raw = self.wire() == Wire::Raw;
        let mut said = None;
        let mut web = match (&self.web, &at.web) {
            (Some(WebSide::Dials(dial)), _) => {
                let asked = ask(conn, context, dial).await?;
                if !is_raw {
                    // It need not wait for the answer.
                    said = Some(greeting.say(conn, Some(asked.id()), &mut session).await?);
                }
                Some(asked.granted(conn, context, dial).await?)
            }
            (Some(WebSide::Listens(gate)), Some(on)) => {
                Some(receive(conn, context, on, gate).await?)
            }
            _ => None,
        };
        if is_raw {
            return Ok(Greeted {
                session,
                web,
                send: None,
                control: None,
                early: None,
            });
        }
        // The dial is over with the listener's hello: unless that was promised, it comes last.
        let id = web.as_ref().map(WebSession::id);
        if said.is_none() && !(self.listens && (handshake.is_none() || web.is_some())) {
            said = Some(greeting.say(conn, id, &mut session).await?);
        }
        let (hello, control) = greeting.hear(conn, web.as_mut()).await?;
        let send = match said {
            Some(said) => said,
            None => greeting.say(conn, id, &mut session).await?,
        };
        take_hello(&mut session, hello)?;
        // On a listener: its hello came before the client's handshake was over.
        let early = handshake.filter(|_| control.recv.is_0rtt());
        Ok(Greeted {
            session,
            web,
            send: Some(send),
            control: Some(control),
            early: early.map(Early::Accepted),
        })
    }

    fn start(self, conn: quinn::Connection, greeted: Greeted) -> QuicConn {
        let wire = self.wire();
        let is_plain = wire == Wire::Raw;
        let dialect = match &greeted.web {
            Some(web) => Dialect::web(web.id(), is_plain),
            None => Dialect::quic(is_plain),
        };
        let inner = ConnInner::new(NewConn {
            certificates: match &greeted.early {
                Some(Early::Dialed(dialed)) => Some(dialed.met.certificates.clone()),
                _ => certificates_of(&conn),
            },
            quinn: conn,
            config: self.config,
            wire,
            dialect,
            ends: Ends {
                form: self.greeting.at.form(),
                pins: self.pins,
                listens: self.listens,
                local: self.local,
                endpoint: Mutex::new(Some(self.endpoint)),
            },
            session: greeted.session,
            control: greeted.send,
            early: match greeted.early {
                Some(_) => EarlyData::Pending,
                None => EarlyData::None,
            },
        });
        let driver = Driver {
            control: greeted.control,
            web: greeted.web,
            early: greeted.early,
            end: End {
                conn: inner.clone(),
                socket: self.socket,
            },
            conn: inner.clone(),
        };
        tokio::spawn(driver.run());
        QuicConn::new(inner)
    }

    fn session(&self) -> QuicSession {
        start_session(&self.config, self.wire(), self.listens)
    }

    fn wire(&self) -> Wire {
        self.greeting.at.params.wire
    }
}

fn take_hello(session: &mut QuicSession, hello: Hello) -> Result<()> {
    session.handle_frame(Frame::Hello(hello), Instant::now().into_std())?;
    Ok(())
}
