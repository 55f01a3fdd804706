//! The server: an axum program like any other.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use axum::body::Body;
use axum::extract::{ConnectInfo, State};
use axum::http::{StatusCode, Version};
use axum::response::Html;
use axum::routing::{get, post};
use axum::{Json, Router};
use futures::TryStreamExt;
use pipe_example_http::{Incoming, Peer};
use pipewerks::BoxListener;
use serde::{Deserialize, Serialize};
use tokio_util::sync::CancellationToken;

use crate::blob::Hashed;

/// What the server tells of itself and of its client.
#[derive(Debug, Deserialize, Serialize)]
pub(crate) struct About {
    /// The version of HTTP that was spoken.
    pub(crate) http: String,
    /// Where the client is, as the server sees it.
    pub(crate) client: String,
    /// How many times this was asked.
    pub(crate) asked: u64,
}

/// Serves until `stop` is cancelled, and then as long as there are open requests.
pub(crate) async fn serve(listener: BoxListener, stop: CancellationToken) -> anyhow::Result<()> {
    let (incoming, accepting) = Incoming::new(listener, stop.clone());
    let app = app().into_make_service_with_connect_info::<Peer>();
    axum::serve(incoming, app)
        .with_graceful_shutdown(stop.cancelled_owned())
        .await?;
    Ok(accepting.await??)
}

fn app() -> Router {
    Router::new()
        .route("/", get(page))
        .route("/about", get(about))
        .route("/digest", post(digest))
        .route("/mirror", post(mirror))
        .with_state(Arc::default())
}

async fn page(ConnectInfo(Peer(client)): ConnectInfo<Peer>) -> Html<String> {
    // An address may hold any character.
    let client = client
        .to_string()
        .replace('&', "&amp;")
        .replace('<', "&lt;");
    Html(format!(
        "<h1>Hello</h1><p>You come from <code>{client}</code>.</p>\n"
    ))
}

async fn about(
    State(asked): State<Arc<AtomicU64>>,
    ConnectInfo(Peer(client)): ConnectInfo<Peer>,
    version: Version,
) -> Json<About> {
    Json(About {
        http: format!("{version:?}"),
        client: client.to_string(),
        asked: asked.fetch_add(1, Ordering::Relaxed) + 1,
    })
}

/// Reads a body as it comes, and tells how long it was and its hash.
async fn digest(body: Body) -> Result<Json<Hashed>, (StatusCode, String)> {
    let broken = |error: axum::Error| (StatusCode::BAD_REQUEST, error.to_string());
    let mut pieces = body.into_data_stream();
    let mut hashing = Hashed::start();
    while let Some(piece) = pieces.try_next().await.map_err(broken)? {
        hashing.add(&piece);
    }
    Ok(Json(hashing.finish()))
}

/// Sends a body back while it is still coming.
async fn mirror(body: Body) -> Body {
    body
}
