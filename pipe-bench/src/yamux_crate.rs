//! The plain `yamux` crate, as its documentation shows it: a task that polls the connection, and streams through
//! the compatibility layer.

/// The streams of one version of the crate over two sockets.
macro_rules! version {
    ($yamux:ident) => {
        use std::io;
        use std::task::Poll;

        use futures::future::poll_fn;
        use tokio::io::{AsyncRead, AsyncWrite};
        use tokio::sync::{mpsc, oneshot};
        use tokio_util::compat::{Compat, FuturesAsyncReadCompatExt, TokioAsyncReadCompatExt};
        use $yamux::{Config, Connection, Mode, Stream};

        use crate::{Acceptor, Opener};

        #[derive(Clone)]
        pub(crate) struct YamuxOpener(mpsc::Sender<oneshot::Sender<Stream>>);

        pub(crate) struct YamuxAcceptor(mpsc::Receiver<Stream>);

        /// Both sides of a connection over two byte streams.
        pub(crate) fn streams<T>(near: T, far: T) -> (YamuxOpener, YamuxAcceptor)
        where
            T: AsyncRead + AsyncWrite + Unpin + Send + 'static,
        {
            let (opens, opening) = mpsc::channel(128);
            let (_no_opens, never) = mpsc::channel(1);
            let (ignored, _) = mpsc::channel(1);
            let (accepts, accepted) = mpsc::channel(512);
            let near = Connection::new(near.compat(), Config::default(), Mode::Client);
            let far = Connection::new(far.compat(), Config::default(), Mode::Server);
            tokio::spawn(drive(near, opening, ignored));
            tokio::spawn(drive(far, never, accepts));
            (YamuxOpener(opens), YamuxAcceptor(accepted))
        }

        /// Polls a connection until it ends or its user is gone.
        async fn drive<T>(
            mut conn: Connection<Compat<T>>,
            mut opens: mpsc::Receiver<oneshot::Sender<Stream>>,
            accepts: mpsc::Sender<Stream>,
        ) where
            T: AsyncRead + AsyncWrite + Unpin + Send,
        {
            let mut opening: Option<oneshot::Sender<Stream>> = None;
            let is_server = !accepts.is_closed();
            poll_fn(|cx| {
                loop {
                    if opening.is_none()
                        && let Poll::Ready(next) = opens.poll_recv(cx)
                    {
                        match next {
                            Some(open) => opening = Some(open),
                            None if is_server => {}
                            None => return Poll::Ready(()),
                        }
                    }
                    if opening.is_some()
                        && let Poll::Ready(stream) = conn.poll_new_outbound(cx)
                    {
                        let (Some(open), Ok(stream)) = (opening.take(), stream) else {
                            return Poll::Ready(());
                        };
                        // The caller may have gone.
                        let _ = open.send(stream);
                        continue;
                    }
                    match conn.poll_next_inbound(cx) {
                        Poll::Ready(Some(Ok(stream))) => {
                            if accepts.try_send(stream).is_err() {
                                return Poll::Ready(());
                            }
                        }
                        Poll::Ready(_) => return Poll::Ready(()),
                        Poll::Pending => return Poll::Pending,
                    }
                }
            })
            .await;
        }

        impl Opener for YamuxOpener {
            type Stream = Compat<Stream>;

            async fn open(&self) -> io::Result<Self::Stream> {
                let (open, opened) = oneshot::channel();
                self.0.send(open).await.map_err(io::Error::other)?;
                Ok(opened.await.map_err(io::Error::other)?.compat())
            }
        }

        impl Acceptor for YamuxAcceptor {
            type Stream = Compat<Stream>;

            async fn accept(&mut self) -> Option<Self::Stream> {
                Some(self.0.recv().await?.compat())
            }
        }
    };
}

/// The version of today.
pub(crate) mod latest {
    version!(yamux);
}

/// The version before, which many programs use.
#[cfg(unix)]
pub(crate) mod v0_13 {
    version!(yamux013);
}
