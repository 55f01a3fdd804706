//! The secret of a listener, and how a dialer shows it.
//!
//! A command that does something for its peers prints an address with a token of 128 random bits, as in
//! `tls://host:7000?token=…`. The transports never see that option. It travels as the first stream of the
//! connection, so that each transport and each wire can carry it:
//!
//! 1. The dialer opens a stream, writes the line `pipe-token/1 TOKEN`, and ends its direction.
//! 2. The listener answers the line `ok`, and ends its direction. Until then it takes no other stream.
//!
//! Anything else, or nothing within ten seconds, ends the connection with the code [`UNAUTHORIZED`](crate::refusal::UNAUTHORIZED).

use std::fmt;
use std::hint::black_box;
use std::io;
use std::time::Duration;

use pipewerks::{BoxConn, BoxStream, Conn, Error, ErrorKind};
use sha2::{Digest, Sha256};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::time::timeout;

use crate::failure::Failure;
use crate::refusal::{is_refusal, refuse};

/// The name of the option in an address.
pub(crate) const PARAM: &str = "token";

/// Time limit for the token of a connection.
const PATIENCE: Duration = Duration::from_secs(10);

/// Allowed lengths of a token, in bytes.
const LENGTHS: std::ops::RangeInclusive<usize> = 16..=128;

/// Prefix of the token.
const GREETING: &str = "pipe-token/1 ";

/// Answer to the right token.
const OK: &[u8] = b"ok\n";

/// A secret that a dialer has to show.
#[derive(Clone)]
pub(crate) struct Token(String);

impl Token {
    /// Makes one of 128 random bits.
    pub(crate) fn random() -> Result<Self, Failure> {
        let mut bits = [0; 16];
        let filled = getrandom::fill(&mut bits);
        filled.map_err(|error| Failure::failed(format!("no random numbers: {error}")))?;
        Ok(Self(
            bits.iter().map(|byte| format!("{byte:02x}")).collect(),
        ))
    }

    /// Reads one from an address.
    pub(crate) fn parse(text: &str) -> Result<Self, String> {
        let plain = |c: char| c.is_ascii_alphanumeric() || "-_.~".contains(c);
        if !LENGTHS.contains(&text.len()) || !text.chars().all(plain) {
            return Err(format!(
                "a token has from {} to {} letters, digits, or signs of -_.~",
                LENGTHS.start(),
                LENGTHS.end()
            ));
        }
        Ok(Self(text.to_owned()))
    }

    pub(crate) fn as_str(&self) -> &str {
        &self.0
    }

    /// Shows it to the peer, and waits until the peer takes it.
    pub(crate) async fn present(&self, conn: &BoxConn, limit: Duration) -> Result<(), Error> {
        let refused = |why: &str| Error::new(ErrorKind::Unauthenticated, why.to_owned());
        let presented = async {
            let mut stream = conn.open_stream().await?;
            stream
                .write_all(format!("{GREETING}{}\n", self.0).as_bytes())
                .await?;
            stream.shutdown().await?;
            let mut answer = Vec::new();
            (&mut stream)
                .take(OK.len() as u64 + 1)
                .read_to_end(&mut answer)
                .await?;
            Ok::<_, Error>(answer)
        };
        let presented = timeout(limit, presented).await;
        match presented {
            Ok(Ok(answer)) if answer == OK => Ok(()),
            Ok(Err(error)) if !is_refusal(&error) => Err(error),
            Ok(Err(_)) => Err(refused("the peer does not take the token")),
            Ok(Ok(_)) | Err(_) => Err(refused(
                "the address has a token, but the peer does not ask for one",
            )),
        }
    }

    /// Waits for the token of the peer. The error describes the bytes that came instead.
    pub(crate) async fn check(&self, conn: &BoxConn) -> Result<(), String> {
        // It lives until the connection is closed: its own end would be reported first.
        let mut held = None;
        let checked = async {
            let stream: &mut BoxStream = held.insert(conn.accept_stream().await?);
            if !self.is_in(&read_line(stream).await?) {
                return Ok(false);
            }
            stream.write_all(OK).await?;
            stream.shutdown().await?;
            Ok::<_, Error>(true)
        };
        let why = match timeout(PATIENCE, checked).await {
            Ok(Ok(true)) => return Ok(()),
            Ok(Ok(false)) => "it has not shown the token".to_owned(),
            Ok(Err(error)) => error.to_string(),
            Err(_) => format!("it has not shown the token within {PATIENCE:?}"),
        };
        refuse(conn);
        Err(why)
    }

    /// Compares in a time that does not depend on where the difference is.
    fn is_in(&self, line: &[u8]) -> bool {
        let wanted = Sha256::digest(format!("{GREETING}{}\n", self.0));
        let came = Sha256::digest(line);
        let pairs = wanted.iter().zip(came.iter());
        black_box(pairs.fold(0, |different, (a, b)| different | (a ^ b))) == 0
    }
}

/// Never shows the secret.
impl fmt::Debug for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Token(…)")
    }
}

/// Reads to the end of the first line, and no more than the longest one has.
async fn read_line(stream: &mut BoxStream) -> io::Result<Vec<u8>> {
    let mut line = Vec::new();
    let longest = GREETING.len() + LENGTHS.end() + 1;
    let greeting = GREETING.as_bytes();
    while line.len() < longest && line.last() != Some(&b'\n') {
        // Something else is not waited for.
        let begun = line.len().min(greeting.len());
        if line[..begun] != greeting[..begun] {
            break;
        }
        let mut limited = (&mut *stream).take((longest - line.len()) as u64);
        if limited.read_buf(&mut line).await? == 0 {
            break;
        }
    }
    Ok(line)
}

#[cfg(test)]
mod tests {
    use pipewerks::Listener;

    use super::*;
    use crate::refusal::is_refused;

    async fn conns() -> (BoxConn, BoxConn) {
        let listener = pipewerks::listen("inproc://").await.unwrap();
        let dialed = pipewerks::dial(listener.local_addr()).await.unwrap();
        (dialed, listener.accept().await.unwrap())
    }

    #[tokio::test]
    async fn only_the_token_itself_opens() {
        let token = Token::random().unwrap();
        assert_eq!(token.as_str().len(), 32);
        assert_ne!(token.as_str(), Token::random().unwrap().as_str());
        let (here, there) = conns().await;
        let limit = Duration::from_secs(10);
        let (presented, checked) = tokio::join!(token.present(&here, limit), token.check(&there));
        presented.unwrap();
        checked.unwrap();

        let wrong = Token::parse(&"0".repeat(32)).unwrap();
        let (here, there) = conns().await;
        let (presented, checked) = tokio::join!(wrong.present(&here, limit), token.check(&there));
        assert_eq!(presented.unwrap_err().kind(), ErrorKind::Unauthenticated);
        assert_eq!(checked.unwrap_err(), "it has not shown the token");
    }

    #[tokio::test]
    async fn what_comes_instead_of_a_token_ends_the_connection() {
        let token = Token::random().unwrap();
        let long = vec![b'x'; 4096];
        for sent in [
            &b"GET / HTTP/1.1\r\n\r\n"[..],
            b"",
            &long,
            b"pipe-token/1 \n",
        ] {
            let (here, there) = conns().await;
            let mut stream = here.open_stream().await.unwrap();
            stream.write_all(sent).await.unwrap();
            stream.shutdown().await.unwrap();
            token.check(&there).await.unwrap_err();
            assert!(is_refused(&here.closed().await));
        }
    }

    #[test]
    fn a_token_is_long_and_plain() {
        for wrong in [
            "",
            "short",
            "0123456789abcde",
            "0123456789abcdef\n",
            "0123456789 abcdef",
        ] {
            assert!(Token::parse(wrong).is_err(), "{wrong}");
        }
        assert!(Token::parse(&"x".repeat(129)).is_err());
        assert!(Token::parse("0123456789abcdef").is_ok());
        assert_eq!(format!("{:?}", Token::random().unwrap()), "Token(…)");
    }
}
