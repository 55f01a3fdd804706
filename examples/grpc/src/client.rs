//! The client: tonic's, with a connector that opens a stream.

use std::time::Duration;

use pipe_example_http::Connector;
use pipewerks::BoxConn;
use tonic::transport::{Channel, Endpoint};

use crate::proto::weather_client::WeatherClient;

/// How long a call may take.
const TIMEOUT: Duration = Duration::from_secs(60);

/// A client over this connection. Clones share one stream, which carries their calls side by side.
pub(crate) async fn connect(conn: BoxConn) -> anyhow::Result<WeatherClient<Channel>> {
    // The host says nothing here, but tonic wants one.
    let channel = Endpoint::from_static("http://pipe")
        .timeout(TIMEOUT)
        .connect_with_connector(Connector::new(conn))
        .await?;
    Ok(WeatherClient::new(channel))
}
