//! Handshakes of TLS over any byte stream.

use std::sync::Arc;

use pipe_core::{Error, Result};
use pipe_tls::rustls::pki_types::ServerName;
use pipe_tls::rustls::{ClientConfig, ServerConfig};
use pipe_tls::{explain, explain_io, find};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio_rustls::{TlsAcceptor, TlsConnector};

use crate::farewell;

pub use tokio_rustls::{client, server};

/// Makes the handshake of a client. `context` begins the text of an error.
///
/// # Errors
///
/// Those of [`explain_io`].
///
/// # Cancel safety
///
/// Dropping the future closes the byte stream.
pub async fn connect<T>(
    context: &str,
    config: Arc<ClientConfig>,
    name: ServerName<'static>,
    io: T,
) -> Result<client::TlsStream<T>>
where
    T: AsyncRead + AsyncWrite + Unpin,
{
    let connecting = TlsConnector::from(config).connect(name, io);
    connecting.await.map_err(|error| explain_io(context, error))
}

/// Makes the handshake of a server. A client that is refused is told why.
///
/// # Errors
///
/// Those of [`explain_io`].
///
/// # Cancel safety
///
/// Dropping the future closes the byte stream.
pub async fn accept<T>(
    context: &str,
    config: Arc<ServerConfig>,
    io: T,
) -> Result<server::TlsStream<T>>
where
    T: AsyncRead + AsyncWrite + Unpin,
{
    let accepting = TlsAcceptor::from(config).accept(io);
    match accepting.into_fallible().await {
        Ok(tls) => Ok(tls),
        Err((error, io)) => {
            let error = explain_io(context, error);
            farewell(io).await;
            Err(error)
        }
    }
}

/// Replaces the error of what follows a client's handshake, where an alert is the cause. In TLS 1.3 the server
/// judges the client's certificate after the client's handshake.
pub fn blame_alert(context: &str, error: Error) -> Error {
    match find(&error) {
        Some(alert) => explain(context, alert),
        None => error,
    }
}
