use std::io;
use std::net::SocketAddr;
use std::sync::LazyLock;

use futures::FutureExt;
use futures::future::BoxFuture;
use pipe_conformance::{Cabled, Capability, Fixture, Setup, Stalled};
use pipe_core::{Addr, Config, Result};
use pipe_sockets::SocketsTransport;
use socket2::{Domain, Socket, Type};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::sync::oneshot;

use crate::cable::lay;

/// Sockets on loopback.
pub(crate) struct Sockets;

impl Fixture for Sockets {
    type Transport = Cabled<SocketsTransport>;

    fn name(&self) -> &str {
        "sockets"
    }

    fn setup(&self, config: Config) -> Result<Setup<Self::Transport>> {
        let transport = SocketsTransport::new(config)?;
        Ok(Cabled::setup(transport))
    }

    fn setup_with_faults(&self, config: Config) -> Result<Setup<Self::Transport>> {
        let transport = SocketsTransport::new(config)?;
        Ok(Cabled::setup_with_faults(transport, lay))
    }

    fn lacks(&self) -> Vec<(Capability, &'static str)> {
        let why = "the buffers of its sockets are the windows of its streams";
        vec![(Capability::GrowingWindows, why)]
    }

    fn listen_addr(&self) -> Addr {
        "sockets://127.0.0.1:0".parse().expect("an address")
    }

    fn vacant_addr(&self) -> Addr {
        format!("sockets://{}", vacant_socket())
            .parse()
            .expect("an address")
    }

    fn stall(&self, addr: &Addr) -> Option<BoxFuture<'static, io::Result<Stalled>>> {
        let to = format!("127.0.0.1:{}", addr.port()?);
        Some(stall(to).boxed())
    }
}

/// Begins a connection, and stalls where the listener waits for the hello.
async fn stall(to: String) -> io::Result<Stalled> {
    let mut socket = TcpStream::connect(to).await?;
    socket.write_all(b"sockets/1").await?;
    let (answer, answered) = oneshot::channel();
    let ended = async move {
        let mut answer = Some(answer);
        // A failure ends it as well.
        while socket.read_u8().await.is_ok() {
            answer.take().map(|answer| answer.send(()));
        }
    };
    let answered = async {
        let _ = answered.await;
    };
    Ok(Stalled::new(answered, ended))
}

/// Returns the address of a socket that is bound and does not listen.
fn vacant_socket() -> SocketAddr {
    static VACANT: LazyLock<SocketAddr> = LazyLock::new(|| {
        let socket = Socket::new(Domain::IPV4, Type::STREAM, None).expect("a socket");
        let any = SocketAddr::from(([127, 0, 0, 1], 0));
        socket.bind(&any.into()).expect("a free port");
        let addr = socket.local_addr().expect("its address");
        std::mem::forget(socket);
        addr.as_socket().expect("an address of IP")
    });
    *VACANT
}
