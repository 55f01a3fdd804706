//! The handshake of a listener (RFC 6455, section 4.2).

use std::net::SocketAddr;

use bytes::Bytes;
use pipe_core::{Error, ErrorKind, Result};
use pipe_net::{HttpRequest, farewell};
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt};

use crate::addr::WsAddr;
use crate::gate::{Accepted, Gate};
use crate::head::{Head, MAX_HEAD, NoHead, read_head};
use crate::refusal::Refusal;
use crate::request::parse_request;

/// A byte stream after the handshake.
pub(crate) struct Served<T> {
    pub(crate) io: T,
    pub(crate) early: Bytes,
    pub(crate) request: HttpRequest,
}

/// Reads a request, and accepts it or answers why not.
pub(crate) async fn serve<T>(
    mut io: T,
    on: &WsAddr,
    gate: &Gate,
    remote: SocketAddr,
) -> Result<Served<T>>
where
    T: AsyncRead + AsyncWrite + Unpin,
{
    let context = format!("refused {remote}");
    let decided = match read_head(&mut io).await {
        Ok(Head { bytes, rest }) => parse_request(&bytes, Some(remote))
            .and_then(|request| Ok((gate.admit(on, &request)?, request, rest))),
        Err(NoHead::TooLong) => {
            let why = format!("the head of the request is longer than {MAX_HEAD} bytes");
            Err(Refusal::new(431, why))
        }
        Err(NoHead::Ended(_)) => {
            let why = format!("{context}: it broke off within its request");
            return Err(Error::new(ErrorKind::Handshake, why));
        }
        Err(NoHead::Tls) => {
            let why = format!("{context}: it speaks TLS, which wss:// is for");
            return Err(Error::new(ErrorKind::Handshake, why));
        }
        Err(NoHead::Io(error)) => return Err(error.into()),
    };
    match decided {
        Ok((accepted, request, early)) => {
            io.write_all(response(&accepted).as_bytes()).await?;
            io.flush().await?;
            Ok(Served { io, early, request })
        }
        Err(refusal) => {
            io.write_all(refusal.to_response().as_bytes()).await?;
            farewell(io).await;
            Err(refusal.to_error(&context))
        }
    }
}

fn response(accepted: &Accepted) -> String {
    let mut response = "HTTP/1.1 101 Switching Protocols\r\n".to_owned();
    for (name, value) in accepted.headers() {
        for text in [name, ": ", &value, "\r\n"] {
            response.push_str(text);
        }
    }
    response.push_str("\r\n");
    response
}
