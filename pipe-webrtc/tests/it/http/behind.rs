//! A listener behind a web server.

use axum::Router;
use axum::http::StatusCode;
use axum::routing::{any, get};
use pipe_core::{Addr, Conn, ErrorKind, Listener, Transport};
use pipe_webrtc::{WebRtcListener, WhipService, WhipTransport};
use tokio::net::TcpListener;
use tokio::task::JoinHandle;

use super::{connect, echo, request, socket, whip};
use crate::common::soon;

/// Mounts the service of a listener beside a page.
async fn serve(
    transport: &WhipTransport,
    mount: impl FnOnce(Router, WhipService) -> Router,
) -> (WebRtcListener, JoinHandle<()>) {
    let socket = TcpListener::bind("127.0.0.1:0").await.expect("a socket");
    let at = socket.local_addr().expect("its address");
    let addr: Addr = format!("webrtc+http://{at}/whip")
        .parse()
        .expect("an address");
    let (listener, service) = transport.listen_behind(&addr).expect("a listener");
    let app = Router::new().route("/", get(|| async { "a page" }));
    let app = mount(app, service);
    let server = tokio::spawn(async move {
        let _ = axum::serve(socket, app).await;
    });
    (listener, server)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_service_of_axum_shares_its_port_with_pages() {
    let mount = |app: Router, service: WhipService| {
        app.route_service("/whip", service.clone())
            .route_service("/whip/{resource}", service)
    };
    let (listener, server) = serve(&whip(), mount).await;
    let (here, there) = connect(&whip(), &listener).await;
    echo(&here, &there).await;
    soon("a restart", here.restart_ice())
        .await
        .expect("a restart");
    echo(&there, &here).await;
    assert_eq!(here.remote_addr(), listener.local_addr());
    let page = request(socket(&listener), "GET /", &[], "").await;
    assert_eq!((page.status, page.body.as_str()), (200, "a page"));
    let answer = request(socket(&listener), "GET /whip", &[], "").await;
    assert_eq!(answer.status, 405);

    // The server goes, and connections stay.
    server.abort();
    let error = soon("the end of the listener", listener.accept())
        .await
        .expect_err("no listener");
    assert_eq!(error.kind(), ErrorKind::Failed, "{error}");
    echo(&here, &there).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_closed_listener_behind_a_server_is_one_that_cannot_be_had() {
    let mount = |app: Router, service| app.route_service("/whip", service);
    let (listener, server) = serve(&whip(), mount).await;
    let addr = listener.local_addr();
    listener.close();
    let error = whip().dial(&addr).await.expect_err("a refusal");
    assert_eq!(error.kind(), ErrorKind::Refused, "{error}");
    assert!(
        error.to_string().contains("the listener is closed"),
        "{error}"
    );
    server.abort();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_without_patches_leaves_the_path_in_use() {
    let not_here = |app: Router, service: WhipService| {
        app.route_service("/whip", service).route(
            "/whip/{resource}",
            any(|| async { StatusCode::NOT_IMPLEMENTED }),
        )
    };
    let (listener, server) = serve(&whip(), not_here).await;
    let (here, there) = connect(&whip(), &listener).await;
    for _ in 0..2 {
        let error = soon("an answer", here.restart_ice())
            .await
            .expect_err("no restart");
        assert_eq!(error.kind(), ErrorKind::Unsupported, "{error}");
        echo(&here, &there).await;
    }
    server.abort();
}
