use pipe_conformance::Cable;
use pipe_core::{Addr, Result};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;

/// Lays a cable to a listener at an address of TCP, and returns the address of its other end. It ends with the runtime
/// of the case, as does the one to a Unix socket.
pub(crate) async fn lay_tcp(addr: Addr, cable: Cable) -> Result<Addr> {
    let socket = TcpListener::bind("127.0.0.1:0").await?;
    let target = format!("127.0.0.1:{}", addr.port().unwrap_or_default());
    let mut url = addr.as_url().clone();
    let port = socket.local_addr()?.port();
    url.set_port(Some(port)).expect("an address with a host");
    tokio::spawn(async move {
        let mut running = JoinSet::new();
        while let Ok((near, _)) = socket.accept().await {
            let Ok(far) = TcpStream::connect(&target).await else {
                continue;
            };
            // What is held in the kernel must not hide a cut from the ends.
            let _ = (near.set_nodelay(true), far.set_nodelay(true));
            cable.connect(&mut running, near, far);
        }
    });
    url.as_str().parse()
}

#[cfg(unix)]
pub(crate) async fn lay_unix(addr: Addr, cable: Cable) -> Result<Addr> {
    use tokio::net::{UnixListener, UnixStream};

    let target = addr.path().to_owned();
    let path = format!("{target}.cable");
    let socket = UnixListener::bind(&path)?;
    tokio::spawn(async move {
        let mut running = JoinSet::new();
        while let Ok((near, _)) = socket.accept().await {
            if let Ok(far) = UnixStream::connect(&target).await {
                cable.connect(&mut running, near, far);
            }
        }
    });
    format!("unix://{path}").parse()
}
