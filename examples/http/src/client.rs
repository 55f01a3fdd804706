//! The client: hyper's, with its pool of connections, each of which is a stream here.

use std::fmt;

use anyhow::{Context, ensure};
use axum::body::Body;
use bytes::Bytes;
use http_body_util::BodyExt;
use hyper::body::Incoming;
use hyper::{Method, Request, Response};
use hyper_util::client::legacy;
use hyper_util::rt::TokioExecutor;
use pipe_example_http::Connector;
use pipewerks::BoxConn;

/// Which version of HTTP a client speaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Version {
    /// HTTP/1.1: a stream for each request at the same time.
    Http1,
    /// HTTP/2, without a word before: all requests in one stream.
    Http2,
}

/// A client of one server.
pub(crate) struct Client(legacy::Client<Connector, Body>);

impl Client {
    pub(crate) fn new(conn: BoxConn, version: Version) -> Self {
        let client = legacy::Client::builder(TokioExecutor::new())
            .http2_only(version == Version::Http2)
            .build(Connector::new(conn));
        Self(client)
    }

    /// Gets a whole body.
    pub(crate) async fn get(&self, path: &str) -> anyhow::Result<Bytes> {
        let response = self.send(Method::GET, path, Body::empty()).await?;
        let body = response.into_body().collect().await;
        Ok(body.with_context(|| format!("GET {path}"))?.to_bytes())
    }

    /// Sends a body. The answer may begin before its end, so it is given as it comes.
    pub(crate) async fn post(&self, path: &str, body: Body) -> anyhow::Result<Incoming> {
        Ok(self.send(Method::POST, path, body).await?.into_body())
    }

    async fn send(
        &self,
        method: Method,
        path: &str,
        body: Body,
    ) -> anyhow::Result<Response<Incoming>> {
        let what = format!("{method} {path}");
        // The host says nothing here, but HTTP wants one.
        let request = Request::builder()
            .method(method)
            .uri(format!("http://pipe{path}"))
            .body(body)
            .with_context(|| what.clone())?;
        let response = self
            .0
            .request(request)
            .await
            .with_context(|| what.clone())?;
        let status = response.status();
        ensure!(status.is_success(), "{what}: the server answers {status}");
        Ok(response)
    }
}

impl fmt::Display for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Http1 => "HTTP/1.1",
            Self::Http2 => "HTTP/2.0",
        })
    }
}
