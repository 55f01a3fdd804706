use std::io;

use bytes::{Bytes, BytesMut};
use tokio::io::{AsyncRead, AsyncReadExt};

/// Maximum length of the head of a request or an answer, in bytes.
pub(crate) const MAX_HEAD: usize = 16 * 1024;

/// Maximum number of headers.
pub(crate) const MAX_HEADERS: usize = 64;

/// Size of a read, in bytes. Most heads are shorter.
const PIECE: usize = 1024;

/// The end of a head.
const END: &[u8] = b"\r\n\r\n";

/// The head of a request or an answer, and what came after it.
#[derive(Debug)]
pub(crate) struct Head {
    pub(crate) bytes: Bytes,
    pub(crate) rest: Bytes,
}

/// Why there is no head.
#[derive(Debug)]
pub(crate) enum NoHead {
    /// It is longer than [`MAX_HEAD`].
    TooLong,
    /// The byte stream ended after these bytes of it.
    Ended(BytesMut),
    /// The peer speaks TLS.
    Tls,
    Io(io::Error),
}

/// Reads to the end of a head. A drop of the future loses what was read.
pub(crate) async fn read_head(io: &mut (impl AsyncRead + Unpin)) -> Result<Head, NoHead> {
    let mut bytes = BytesMut::new();
    loop {
        // An end may begin in the piece before.
        let from = bytes.len().saturating_sub(END.len() - 1);
        bytes.reserve(PIECE);
        if io.read_buf(&mut bytes).await.map_err(NoHead::Io)? == 0 {
            return Err(NoHead::Ended(bytes));
        }
        // A record of TLS: an alert or a handshake (RFC 8446, section 5.1).
        if matches!(bytes[0], 0x15 | 0x16) {
            return Err(NoHead::Tls);
        }
        let end = bytes[from..]
            .windows(END.len())
            .position(|window| window == END);
        if let Some(end) = end {
            let head = bytes.split_to(from + end + END.len());
            if head.len() > MAX_HEAD {
                return Err(NoHead::TooLong);
            }
            return Ok(Head {
                bytes: head.freeze(),
                rest: bytes.freeze(),
            });
        }
        if bytes.len() > MAX_HEAD {
            return Err(NoHead::TooLong);
        }
    }
}

#[cfg(test)]
mod tests {
    use tokio_test_io::Pieces;

    use super::*;

    /// A byte stream that comes in pieces.
    mod tokio_test_io {
        use std::collections::VecDeque;
        use std::io;
        use std::pin::Pin;
        use std::task::{Context, Poll};

        use tokio::io::{AsyncRead, ReadBuf};

        pub(super) struct Pieces(pub(super) VecDeque<Vec<u8>>);

        impl Pieces {
            pub(super) fn of(bytes: &[u8], size: usize) -> Self {
                Self(bytes.chunks(size).map(<[u8]>::to_vec).collect())
            }
        }

        impl AsyncRead for Pieces {
            fn poll_read(
                mut self: Pin<&mut Self>,
                _: &mut Context<'_>,
                buf: &mut ReadBuf<'_>,
            ) -> Poll<io::Result<()>> {
                if let Some(piece) = self.0.pop_front() {
                    buf.put_slice(&piece);
                }
                Poll::Ready(Ok(()))
            }
        }
    }

    #[tokio::test]
    async fn a_head_ends_with_an_empty_line_wherever_it_is_cut() {
        let input = b"GET / HTTP/1.1\r\nHost: a\r\n\r\nmore";
        for size in 1..=input.len() {
            let mut io = Pieces::of(input, size);
            let head = read_head(&mut io).await.unwrap();
            assert!(head.bytes.ends_with(b"a\r\n\r\n"));
            let left: Vec<u8> = io.0.into_iter().flatten().collect();
            assert_eq!([&head.rest[..], &left].concat(), b"more");
        }
    }

    #[tokio::test]
    async fn what_is_no_head_is_told() {
        let long = vec![b'a'; 2 * MAX_HEAD];
        let read = read_head(&mut &long[..]).await;
        assert!(matches!(read, Err(NoHead::TooLong)), "{read:?}");
        let mut pieces = Pieces::of(&long, 7);
        let read = read_head(&mut pieces).await;
        assert!(matches!(read, Err(NoHead::TooLong)), "{read:?}");
        let taken = long.len() - pieces.0.into_iter().flatten().count();
        assert!(taken <= MAX_HEAD + PIECE, "{taken} bytes were read");
        let read = read_head(&mut &b"GET / HTTP/1.1\r\n"[..]).await;
        assert!(matches!(&read, Err(NoHead::Ended(bytes)) if bytes.len() == 16));
        let read = read_head(&mut &[0x16, 3, 1][..]).await;
        assert!(matches!(read, Err(NoHead::Tls)), "{read:?}");
    }
}
