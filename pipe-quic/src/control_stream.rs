//! The control streams of a connection, and their first messages.

use std::sync::Arc;

use bytes::BytesMut;
use pipe_core::backend::proto::codec::binary;
use pipe_core::backend::proto::{Frame, Hello};
use pipe_core::{Error, ErrorKind, Result};
use pipe_tls::rustls::pki_types::CertificateDer;

use crate::addr::QuicAddr;
use crate::error::handshake_error;
use crate::session::QuicSession;
use crate::web::{WebSession, explain, open_one_way};

/// The peer's control stream.
pub(crate) struct ControlInput {
    pub(crate) recv: quinn::RecvStream,
    /// Bytes received and not decoded yet.
    pub(crate) input: BytesMut,
}

/// The expectations on the peer's first messages.
#[derive(Clone)]
pub(crate) struct Greeting {
    /// Description of the attempt, for errors.
    pub(crate) context: String,
    /// The address that was dialed, or is listened on.
    pub(crate) at: Arc<QuicAddr>,
}

impl Greeting {
    /// Checks that the two sides speak the same protocol.
    pub(crate) fn check_protocol(&self, conn: &quinn::Connection) -> Result<()> {
        let data = conn
            .handshake_data()
            .and_then(|any| any.downcast::<quinn::crypto::rustls::HandshakeData>().ok());
        let agreed = data.and_then(|data| data.protocol);
        self.at.check_protocol(&self.context, agreed.as_deref())
    }

    /// Opens this side's control stream, with the first frame of the session. `web` is the number of the session of
    /// WebTransport that it is in.
    pub(crate) async fn say(
        &self,
        conn: &quinn::Connection,
        web: Option<u64>,
        session: &mut QuicSession,
    ) -> Result<quinn::SendStream> {
        let lost = |error| handshake_error(&self.context, &error);
        let opened = match web {
            Some(session) => open_one_way(conn, session).await,
            None => conn.open_uni().await,
        };
        let mut send = opened.map_err(lost)?;
        // Before the streams of the application.
        let _ = send.set_priority(i32::MAX);
        let mut first = BytesMut::new();
        if let Some(hello) = session.poll_frame() {
            binary::encode(&hello, &mut first);
        }
        send.write_all(&first).await.map_err(|error| match error {
            quinn::WriteError::ConnectionLost(error) => lost(error),
            other => self.speaks_else(&other.to_string()),
        })?;
        Ok(send)
    }

    /// Waits for the peer's control stream.
    pub(crate) async fn hear(
        &self,
        conn: &quinn::Connection,
        web: Option<&mut WebSession>,
    ) -> Result<(Hello, ControlInput)> {
        let lost = |error| handshake_error(&self.context, &error);
        let accepted = match web {
            Some(web) => {
                let accepted = web.accept_one_way().await;
                accepted.map_err(|error| explain(&self.context, &error))?
            }
            None => conn.accept_uni().await,
        };
        let mut recv = accepted.map_err(lost)?;
        let mut input = BytesMut::new();
        let mut buf = [0; 256];
        loop {
            match binary::decode(&mut input) {
                Ok(Some(Frame::Hello(hello))) => {
                    return Ok((hello, ControlInput { recv, input }));
                }
                Ok(Some(_)) => return Err(self.speaks_else("its first message is not its hello")),
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

/// Returns the certificates that the peer has shown, its own first.
pub(crate) fn certificates_of(conn: &quinn::Connection) -> Option<Vec<CertificateDer<'static>>> {
    let shown = conn.peer_identity()?.downcast::<Vec<_>>().ok()?;
    Some(*shown)
}
