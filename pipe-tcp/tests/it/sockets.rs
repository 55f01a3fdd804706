//! The options of sockets, as the kernel has them.

use pipe_core::{Addr, Listener, Transport};
use pipe_tcp::{MuxConn, SocketOptions, TcpTransport};
use tokio::net::TcpStream;

async fn pair(options: SocketOptions) -> [MuxConn; 2] {
    let transport = TcpTransport::new().with_socket_options(options);
    let any = Addr::parse("tcp://127.0.0.1:0").unwrap();
    let listener = transport.listen(&any).await.unwrap();
    let addr = listener.local_addr();
    let (here, there) = tokio::try_join!(transport.dial(&addr), listener.accept()).unwrap();
    [here, there]
}

#[cfg(any(target_os = "android", target_os = "linux"))]
#[tokio::test]
async fn the_kernel_holds_as_much_unsent_as_it_is_told_to() {
    let unsent = |conn: &MuxConn| {
        let socket: &TcpStream = conn.inner().expect("the socket");
        socket2::SockRef::from(socket).tcp_notsent_lowat().unwrap()
    };
    for conn in pair(SocketOptions::default()).await {
        assert_eq!(unsent(&conn), 16 * 1024);
    }
    let mut options = SocketOptions::default();
    options.unsent = Some(100_000);
    for conn in pair(options).await {
        assert_eq!(unsent(&conn), 100_000);
    }
    options.unsent = None;
    for conn in pair(options).await {
        assert_ne!(unsent(&conn), 100_000);
    }
}
