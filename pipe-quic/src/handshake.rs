use bytes::BytesMut;
use parking_lot::Mutex;
use pipe_core::wire::{Hello, Message};
use pipe_core::{Config, Error, ErrorKind, Result};
use pipe_tls::CertSha256;
use std::net::SocketAddr;
use std::sync::Arc;

use crate::addr::{AddrForm, Wire};
use crate::conn::QuicConn;
use crate::driver::{ControlInput, Driver};
use crate::error::{Condition, handshake_error};
use crate::shared::{Ends, NewConn, Shared, hello};
use crate::socket::Socket;

/// What a connection of quinn is made into one of pipewerks with.
pub(crate) struct Handshake {
    /// What was tried, for errors.
    pub(crate) context: String,
    pub(crate) config: Config,
    pub(crate) wire: Wire,
    pub(crate) form: AddrForm,
    /// The protocol that both sides have to agree on.
    pub(crate) alpn: Option<String>,
    /// The hash of the listener's certificate.
    pub(crate) pin: Option<CertSha256>,
    pub(crate) listens: bool,
    pub(crate) local: SocketAddr,
    pub(crate) endpoint: quinn::Endpoint,
    /// The socket, if it is the connection's own.
    pub(crate) socket: Option<Arc<Socket>>,
}

/// Says that a handshake was given up.
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
    /// Exchanges the first messages.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future closes the connection.
    pub(crate) async fn run(self, conn: quinn::Connection) -> Result<QuicConn> {
        let mut pending = Pending(Some(conn.clone()));
        if let Err(error) = self.check_protocol(&conn) {
            self.refuse(&conn, &error);
            return Err(error);
        }
        let (hello, send, control) = match self.wire {
            Wire::Raw => (None, None, None),
            Wire::Pipe => match self.greet(&conn).await {
                Ok((hello, send, control)) => (Some(hello), Some(send), Some(control)),
                Err(error) => {
                    self.refuse(&conn, &error);
                    return Err(error);
                }
            },
        };
        pending.0 = None;
        let shared = Shared::new(
            NewConn {
                quinn: conn,
                config: self.config,
                wire: self.wire,
                ends: Ends {
                    form: self.form,
                    pin: self.pin,
                    listens: self.listens,
                    local: self.local,
                    endpoint: Mutex::new(Some(self.endpoint)),
                },
                control: send,
            },
            hello.as_ref(),
        );
        let driver = Driver {
            shared: shared.clone(),
            control,
            socket: self.socket,
        };
        tokio::spawn(driver.run());
        Ok(QuicConn::new(shared))
    }

    fn refuse(&self, conn: &quinn::Connection, error: &Error) {
        conn.close(Condition::Handshake.code(), error.to_string().as_bytes());
    }

    /// Whether the two sides speak the same protocol. rustls refuses two that differ, but not that one
    /// side has none.
    fn check_protocol(&self, conn: &quinn::Connection) -> Result<()> {
        let Some(name) = &self.alpn else {
            return Ok(());
        };
        let data = conn
            .handshake_data()
            .and_then(|any| any.downcast::<quinn::crypto::rustls::HandshakeData>().ok());
        let spoken = data.and_then(|data| data.protocol);
        if spoken.as_deref() == Some(name.as_bytes()) {
            return Ok(());
        }
        let context = &self.context;
        let why = format!("{context}: the peer does not say that it speaks {name} (ALPN)");
        Err(Error::new(ErrorKind::Handshake, why))
    }

    /// Opens this side's control stream, and waits for the peer's.
    async fn greet(
        &self,
        conn: &quinn::Connection,
    ) -> Result<(Hello, quinn::SendStream, ControlInput)> {
        let lost = |error| handshake_error(&self.context, &error);
        let mut send = conn.open_uni().await.map_err(lost)?;
        // Before the streams of the application.
        let _ = send.set_priority(i32::MAX);
        let mut first = BytesMut::new();
        Message::Hello(hello(&self.config)).encode(&mut first);
        send.write_all(&first).await.map_err(|error| match error {
            quinn::WriteError::ConnectionLost(error) => lost(error),
            other => self.speaks_else(&other.to_string()),
        })?;
        let mut recv = conn.accept_uni().await.map_err(lost)?;
        let mut input = BytesMut::new();
        let mut buf = [0; 256];
        loop {
            match Message::decode(&mut input) {
                Ok(Some(Message::Hello(hello))) => {
                    return Ok((hello, send, ControlInput { recv, input }));
                }
                Ok(Some(_)) => return Err(self.speaks_else("it did not say hello")),
                Ok(None) => {}
                Err(error) => return Err(self.speaks_else(&error.to_string())),
            }
            match recv.read(&mut buf).await {
                Ok(Some(count)) => input.extend_from_slice(&buf[..count]),
                Ok(None) => return Err(self.speaks_else("it ended the control stream")),
                Err(quinn::ReadError::ConnectionLost(error)) => return Err(lost(error)),
                Err(error) => return Err(self.speaks_else(&error.to_string())),
            }
        }
    }

    fn speaks_else(&self, why: &str) -> Error {
        let context = &self.context;
        let why = format!("{context}: the peer does not speak pipe/1: {why}");
        Error::new(ErrorKind::Handshake, why)
    }
}
