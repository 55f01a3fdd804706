use std::time::Duration;

use pipe_core::{Addr, Conn, ErrorKind, Listener, Transport};
use tokio::io::AsyncWriteExt;
use tokio::task::JoinSet;
use tokio::time::sleep;

use crate::env::Env;
use crate::payload::{expect_all, send_all};
use crate::waits::Named;

/// Listens on the address of a listener that was closed, which has to work soon.
pub(crate) async fn listen_again<T: Transport>(env: &Env<T>, addr: &Addr) -> T::Listener {
    let listen = async {
        loop {
            match env.transport().listen(addr).await {
                Ok(listener) => return listener,
                Err(e) if e.kind() == ErrorKind::AddrInUse => sleep(Duration::from_millis(5)).await,
                Err(e) => panic!("listening on {addr} again failed: {e:?}"),
            }
        }
    };
    env.soon("listening on a freed address", listen).await
}

/// Dials the listener and exchanges a few bytes, soon, among connections that say nothing.
pub(crate) async fn expect_service<T: Transport>(env: &Env<T>, listener: &T::Listener) {
    let service = service(env, listener);
    env.soon("a connection with a round trip", service).await;
}

/// Does what [`expect_service`] does, without its limit.
pub(crate) async fn service<T: Transport>(env: &Env<T>, listener: &T::Listener) {
    let addr = listener.local_addr();
    let request = env.payload(1000);
    let dial = async {
        let conn = env.transport().dial(&addr).expect_ok("a dial").await;
        let mut stream = conn.open_stream().expect_ok("a stream").await;
        send_all(&mut stream, &request).await;
        expect_all(&mut stream, &request).await;
    };
    let serve = async {
        let mut conns = JoinSet::new();
        loop {
            let conn = listener.accept().expect_ok("an accept").await;
            let request = request.clone();
            conns.spawn(async move {
                // The connection of another peer may end at any time, and this one does when the
                // dialer has its answer.
                if let Ok(mut stream) = conn.accept_stream().await {
                    expect_all(&mut stream, &request).await;
                    let _ = stream.write_all(&request).await;
                    let _ = stream.shutdown().await;
                    conn.closed().await;
                }
            });
        }
    };
    tokio::select! {
        () = dial => {}
        () = serve => {}
    }
}
