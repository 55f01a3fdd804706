//! The server: a service of tonic like any other.

use std::f64::consts::TAU;
use std::pin::Pin;

use pipe_example_http::Incoming;
use pipewerks::BoxListener;
use tokio_stream::{Stream, StreamExt};
use tokio_util::sync::CancellationToken;
use tonic::transport::Server;
use tonic::{Request, Response, Result, Status, Streaming};

use crate::proto::weather_server::{Weather, WeatherServer};
use crate::proto::{ForecastRequest, Place, Report};

/// The places that there is weather for, each with its mean temperature.
const PLACES: [(&str, f64); 4] = [
    ("Oslo", 6.0),
    ("Lima", 19.0),
    ("Cairo", 22.0),
    ("Perth", 18.5),
];

/// The most hours that a forecast may cover.
const MAX_HOURS: u32 = 10_000;

/// Serves until `stop` is cancelled, and then as long as there are open calls.
pub(crate) async fn serve(listener: BoxListener, stop: CancellationToken) -> anyhow::Result<()> {
    let (incoming, accepting) = Incoming::new(listener, stop.clone());
    let service = WeatherServer::new(Station);
    Server::builder()
        .serve_with_incoming_shutdown(service, incoming, stop.cancelled_owned())
        .await?;
    Ok(accepting.await??)
}

struct Station;

#[tonic::async_trait]
impl Weather for Station {
    async fn now(&self, request: Request<Place>) -> Result<Response<Report>> {
        Ok(Response::new(report(&request.get_ref().name, 0)?))
    }

    type ForecastStream = Pin<Box<dyn Stream<Item = Result<Report>> + Send>>;

    async fn forecast(
        &self,
        request: Request<ForecastRequest>,
    ) -> Result<Response<Self::ForecastStream>> {
        let ForecastRequest { place, hours } = request.into_inner();
        let place = place.ok_or_else(|| Status::invalid_argument("no place is given"))?;
        if hours > MAX_HOURS {
            let why = format!("{hours} hours are more than {MAX_HOURS}");
            return Err(Status::out_of_range(why));
        }
        report(&place.name, 0)?;
        // A report is made when the client has room for it.
        let reports = (0..hours).map(move |hour| report(&place.name, hour));
        Ok(Response::new(Box::pin(tokio_stream::iter(reports))))
    }

    type FollowStream = Pin<Box<dyn Stream<Item = Result<Report>> + Send>>;

    async fn follow(
        &self,
        request: Request<Streaming<Place>>,
    ) -> Result<Response<Self::FollowStream>> {
        let places = request.into_inner();
        let reports = places.map(|place| report(&place?.name, 0));
        Ok(Response::new(Box::pin(reports)))
    }
}

/// The weather changes with the hour of the day.
fn report(place: &str, hour: u32) -> Result<Report> {
    let Some((name, mean)) = PLACES.iter().find(|(name, _)| *name == place) else {
        let known = PLACES.map(|(name, _)| name).join(", ");
        let why = format!("there is no weather for {place:?}, only for {known}");
        return Err(Status::not_found(why));
    };
    Ok(Report {
        place: (*name).to_owned(),
        hour,
        temperature: mean + 5.0 * (f64::from(hour) / 24.0 * TAU).sin(),
    })
}
