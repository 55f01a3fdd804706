//! The `muxado` crate. Its windows do not grow, so they are as large as bulk can use.

use std::io;

use muxado::{Accept, MuxadoAccept, MuxadoOpen, OpenClose, Session, SessionBuilder, Stream};
use tokio::net::TcpStream;

use super::rival::{Rival, WINDOW};
use crate::{Acceptor, Opener};

/// How many streams may wait to be accepted: more than any scenario opens at once.
const BACKLOG: usize = 512;

pub(super) struct Muxado;

#[derive(Clone)]
pub(crate) struct MuxadoOpener(MuxadoOpen);

pub(crate) struct MuxadoAcceptor {
    accept: MuxadoAccept,
    /// The session of this end lasts as long as one that opens.
    _open: MuxadoOpen,
}

impl Rival for Muxado {
    type Opener = MuxadoOpener;
    type Acceptor = MuxadoAcceptor;

    async fn over(near: TcpStream, far: TcpStream) -> io::Result<(MuxadoOpener, MuxadoAcceptor)> {
        let builder = |socket| {
            SessionBuilder::new(socket)
                .window_size(WINDOW as usize)
                .accept_queue_size(BACKLOG)
        };
        let (near, _) = builder(near).client().start().split();
        let (open, accept) = builder(far).server().start().split();
        let acceptor = MuxadoAcceptor {
            accept,
            _open: open,
        };
        Ok((MuxadoOpener(near), acceptor))
    }
}

impl Opener for MuxadoOpener {
    type Stream = Stream;

    async fn open(&self) -> io::Result<Stream> {
        let mut open = self.0.clone();
        open.open().await.map_err(io::Error::other)
    }
}

impl Acceptor for MuxadoAcceptor {
    type Stream = Stream;

    async fn accept(&mut self) -> Option<Stream> {
        self.accept.accept().await
    }
}
