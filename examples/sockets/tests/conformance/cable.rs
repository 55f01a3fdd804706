use std::io;

use futures::FutureExt;
use futures::future::BoxFuture;
use pipe_conformance::Cable;
use pipe_core::{Addr, Result};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;

/// Lays a cable to the port of a listener, and returns the address of its other end.
pub(crate) async fn lay(to: Addr, cable: Cable) -> Result<Addr> {
    let port = lay_to_port(to.port().unwrap_or_default(), true, cable).await?;
    format!("sockets://127.0.0.1:{port}").parse()
}

/// Lays a cable to a port, and returns the port at its other end. The cable of a control socket lays another one, for
/// the sockets of streams. They end with the runtime of the case.
fn lay_to_port(port: u16, is_control: bool, cable: Cable) -> BoxFuture<'static, io::Result<u16>> {
    let laid = async move {
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let near_port = listener.local_addr()?.port();
        tokio::spawn(async move {
            let mut running = JoinSet::new();
            while let Ok((near, _)) = listener.accept().await {
                running.spawn(connect(near, port, is_control, cable.clone()));
            }
        });
        Ok(near_port)
    };
    laid.boxed()
}

async fn connect(near: TcpStream, port: u16, is_control: bool, cable: Cable) -> io::Result<()> {
    let far = TcpStream::connect(("127.0.0.1", port)).await?;
    // What the kernel holds back must not hide a cut from the ends.
    near.set_nodelay(true)?;
    far.set_nodelay(true)?;
    let ((near_read, mut near_write), (mut far_read, far_write)) =
        (near.into_split(), far.into_split());
    let mut running = JoinSet::new();
    running.spawn(pass(near_read, far_write, cable.clone()));
    if is_control {
        let mut magic = [0; 9];
        far_read.read_exact(&mut magic).await?;
        let port = far_read.read_u16().await?;
        let port = lay_to_port(port, false, cable.clone()).await?;
        cable.whole().await;
        near_write.write_all(&magic).await?;
        near_write.write_u16(port).await?;
    }
    running.spawn(pass(far_read, near_write, cable));
    running.join_all().await;
    Ok(())
}

/// Passes bytes and an end on, and a reset as well.
async fn pass(mut from: OwnedReadHalf, mut to: OwnedWriteHalf, cable: Cable) {
    if cable.pass(&mut from, &mut to).await.is_err() {
        let _ = to.as_ref().set_zero_linger();
    }
}
