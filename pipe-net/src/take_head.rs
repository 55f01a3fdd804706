use std::io;

use tokio::io::AsyncReadExt;
use tokio::net::TcpStream;

/// Size of a read, in bytes. Most heads are shorter.
const PIECE: usize = 1024;

/// Why there is no head.
#[derive(Debug)]
pub(crate) enum NoHead<E> {
    /// It is longer than the limit.
    TooLong,
    /// The byte stream ended after this many bytes of it.
    Ended(usize),
    /// It cannot be read on.
    Wrong(E),
    Io(io::Error),
}

/// Takes the head of a byte stream off its socket, and nothing of what follows: that stays with the operating system, and
/// the socket can be handed on as it is. `find_end` looks at all that has come, and returns the length of the head once it
/// is whole. A head has at most `max` bytes.
///
/// A drop of the future loses what was taken.
pub(crate) async fn take_head<E>(
    socket: &mut TcpStream,
    max: usize,
    mut find_end: impl FnMut(&[u8]) -> Result<Option<usize>, E>,
) -> Result<Vec<u8>, NoHead<E>> {
    let mut head = Vec::new();
    loop {
        let taken = head.len();
        if taken == max {
            return Err(NoHead::TooLong);
        }
        head.resize((taken + PIECE).min(max), 0);
        let come = socket.peek(&mut head[taken..]).await.map_err(NoHead::Io)?;
        if come == 0 {
            return Err(NoHead::Ended(taken));
        }
        head.truncate(taken + come);
        let end = find_end(&head).map_err(NoHead::Wrong)?;
        head.truncate(end.unwrap_or(head.len()));
        let take = socket.read_exact(&mut head[taken..]).await;
        take.map_err(NoHead::Io)?;
        if end.is_some() {
            return Ok(head);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::convert::Infallible;

    use tokio::io::AsyncWriteExt;
    use tokio::net::TcpListener;
    use tokio::task::yield_now;

    use super::*;

    async fn pair() -> (TcpStream, TcpStream) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let dialed = TcpStream::connect(listener.local_addr().unwrap());
        let (dialed, accepted) = tokio::join!(dialed, listener.accept());
        let dialed = dialed.unwrap();
        dialed.set_nodelay(true).unwrap();
        (dialed, accepted.unwrap().0)
    }

    /// A head ends with its first dot.
    fn dot(head: &[u8]) -> Result<Option<usize>, Infallible> {
        Ok(head.iter().position(|byte| *byte == b'.').map(|at| at + 1))
    }

    #[tokio::test]
    async fn what_follows_a_head_stays_in_the_socket() {
        let text = b"a head.and more";
        for cut in 1..text.len() {
            let (mut peer, mut socket) = pair().await;
            let sending = async {
                peer.write_all(&text[..cut]).await.unwrap();
                yield_now().await;
                peer.write_all(&text[cut..]).await.unwrap();
                peer.shutdown().await.unwrap();
            };
            let taking = async {
                let head = take_head(&mut socket, 100, dot).await.unwrap();
                assert_eq!(head, b"a head.");
                let mut rest = String::new();
                socket.read_to_string(&mut rest).await.unwrap();
                assert_eq!(rest, "and more");
            };
            tokio::join!(sending, taking);
        }
    }

    #[tokio::test]
    async fn a_head_has_an_upper_limit() {
        let (mut peer, mut socket) = pair().await;
        peer.write_all(&[b'a'; 5000]).await.unwrap();
        let taken = take_head(&mut socket, 3000, dot).await;
        assert!(matches!(taken, Err(NoHead::TooLong)), "{taken:?}");
        let (mut peer, mut socket) = pair().await;
        peer.write_all(&[b'a'; 2999]).await.unwrap();
        peer.write_all(b"..").await.unwrap();
        assert_eq!(take_head(&mut socket, 3000, dot).await.unwrap().len(), 3000);
    }

    #[tokio::test]
    async fn the_end_of_the_byte_stream_and_a_wrong_head_are_told_apart() {
        let (mut peer, mut socket) = pair().await;
        peer.write_all(b"abc").await.unwrap();
        drop(peer);
        let taken = take_head(&mut socket, 100, dot).await;
        assert!(matches!(taken, Err(NoHead::Ended(3))), "{taken:?}");
        let (mut peer, mut socket) = pair().await;
        peer.write_all(b"abc").await.unwrap();
        let taken = take_head(&mut socket, 100, |_| Err("wrong")).await;
        assert!(matches!(taken, Err(NoHead::Wrong("wrong"))), "{taken:?}");
    }
}
