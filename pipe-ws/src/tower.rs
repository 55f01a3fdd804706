//! A [`WsService`] as a service of tower.

use std::convert::Infallible;
use std::future::{Ready, ready};
use std::net::SocketAddr;
use std::task::{Context, Poll};

use http::{Method, Request, Response, Version};
use hyper::upgrade::{OnUpgrade, on};
use hyper_util::rt::TokioIo;
use tokio::time::timeout;
use tower_service::Service;

use crate::refusal::Refusal;
use crate::service::{WsAnswer, WsService};

/// Takes the requests of a server on hyper, such as axum. It spawns a task for each that it accepts, which waits for
/// hyper to send the answer, within [`Config::handshake_timeout`](pipe_core::Config::handshake_timeout).
///
/// The peer's address is the extension of the type [`SocketAddr`] of the request, where a layer has put one there.
impl<B> Service<Request<B>> for WsService {
    type Response = Response<String>;
    type Error = Infallible;
    type Future = Ready<Result<Response<String>, Infallible>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, mut request: Request<B>) -> Self::Future {
        let mut answer = ask(self, &request);
        if let Some(upgrade) = answer.take_upgrade() {
            let upgraded = on(&mut request);
            let limit = self.limit();
            tokio::spawn(async move {
                // Else the peer has gone.
                if let Ok(Ok(io)) = timeout(limit, upgraded).await {
                    upgrade.complete(TokioIo::new(io));
                }
            });
        }
        let mut response = Response::builder().status(answer.status());
        for (name, value) in answer.headers() {
            response = response.header(*name, value);
        }
        let response = response.body(answer.body().to_owned());
        // The headers are this crate's own.
        ready(Ok(response.unwrap_or_default()))
    }
}

fn ask<B>(service: &WsService, request: &Request<B>) -> WsAnswer {
    if request.method() != Method::GET {
        let refusal = Refusal::new(405, "a WebSocket is opened by GET");
        return WsAnswer::refused(refusal.with("Allow", "GET"));
    }
    if request.version() != Version::HTTP_11 {
        let why = "a WebSocket is opened over HTTP/1.1";
        return WsAnswer::refused(Refusal::new(505, why));
    }
    let target = request.uri().path_and_query();
    let target = target.map_or("/", |target| target.as_str());
    let headers = request.headers().iter();
    let headers = headers.map(|(name, value)| (name.as_str(), value.as_bytes()));
    let remote = request.extensions().get::<SocketAddr>().copied();
    let answer = service.answer(target, headers, remote);
    // hyper has looked for the same headers.
    if answer.status() == 101 && request.extensions().get::<OnUpgrade>().is_none() {
        let why = "the server does not let this connection be upgraded";
        return WsAnswer::refused(Refusal::new(500, why));
    }
    answer
}
