//! Every kind of call, from both sides, in one process.

use anyhow::ensure;
use pipewerks::{Addr, Conn, Listener};
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio_stream::wrappers::ReceiverStream;
use tokio_util::sync::CancellationToken;
use tonic::Code;
use tonic::transport::Channel;

use crate::proto::weather_client::WeatherClient;
use crate::proto::{ForecastRequest, Place};
use crate::{client, server};

/// How many calls run at once.
const AT_ONCE: usize = 20;

/// Serves at `addr`, and tries all of it.
pub(crate) async fn run(addr: &Addr) -> anyhow::Result<()> {
    let listener = pipewerks::listen(addr).await?;
    let addr = listener.local_addr();
    eprintln!("gRPC over {addr}");
    let stop = CancellationToken::new();
    let server = tokio::spawn(server::serve(listener, stop.clone()));
    let conn = pipewerks::dial(&addr).await?;
    let client = client::connect(conn.clone()).await?;

    one_answer(client.clone()).await?;
    answers(client.clone()).await?;
    at_once(&client).await?;
    both_ways(client.clone(), &stop).await?;
    server.await??;

    let late = client.clone().now(place("Oslo")).await;
    ensure!(late.is_err(), "a stopped server answered");
    let end = conn.closed().await;
    eprintln!("  the server has stopped: connection {end}");
    ensure!(end.code() == Some(0), "an end in good order has the code 0");
    Ok(())
}

async fn one_answer(mut client: WeatherClient<Channel>) -> anyhow::Result<()> {
    let report = client.now(place("Oslo")).await?.into_inner();
    ensure!(report.place == "Oslo", "the weather of {}", report.place);
    eprintln!(
        "  one answer: {:.1} °C in {}",
        report.temperature, report.place
    );

    let status = client.now(place("Atlantis")).await.unwrap_err();
    eprintln!("  none: {}", status.message());
    ensure!(status.code() == Code::NotFound, "{status}");
    Ok(())
}

async fn answers(mut client: WeatherClient<Channel>) -> anyhow::Result<()> {
    // Far more than fits into a window.
    let hours = 10_000;
    let request = ForecastRequest {
        place: Some(place("Lima")),
        hours,
    };
    let mut reports = client.forecast(request).await?.into_inner();
    let mut next = 0;
    while let Some(report) = reports.message().await? {
        ensure!(report.hour == next, "hour {} came for {next}", report.hour);
        next += 1;
    }
    ensure!(next == hours, "{next} of {hours} answers came");
    eprintln!("  a stream of {hours} answers");

    let request = ForecastRequest { place: None, hours };
    let status = client.forecast(request).await.unwrap_err();
    ensure!(status.code() == Code::InvalidArgument, "{status}");
    Ok(())
}

async fn at_once(client: &WeatherClient<Channel>) -> anyhow::Result<()> {
    let mut calls = JoinSet::new();
    for name in ["Oslo", "Lima", "Cairo", "Perth"]
        .into_iter()
        .cycle()
        .take(AT_ONCE)
    {
        let mut client = client.clone();
        calls.spawn(async move {
            let report = client.now(place(name)).await?.into_inner();
            ensure!(report.place == name, "{} came for {name}", report.place);
            Ok(())
        });
    }
    while let Some(done) = calls.join_next().await {
        done??;
    }
    eprintln!("  {AT_ONCE} calls at once");
    Ok(())
}

/// Each question is asked when the one before was answered; in the middle, the server is stopped, and
/// the call goes on to its end.
async fn both_ways(
    mut client: WeatherClient<Channel>,
    stop: &CancellationToken,
) -> anyhow::Result<()> {
    let (ask, questions) = mpsc::channel(1);
    let mut reports = client
        .follow(ReceiverStream::new(questions))
        .await?
        .into_inner();
    for name in ["Cairo", "Perth", "Cairo"] {
        ask.send(place(name)).await?;
        let report = reports.message().await?;
        let came = report.as_ref().map(|report| &*report.place);
        ensure!(came == Some(name), "{came:?} came for {name}");
        stop.cancel();
    }
    drop(ask);
    let end = reports.message().await?;
    ensure!(end.is_none(), "{end:?} came after the last question");
    eprintln!("  streams both ways, which outlived the order to stop");
    Ok(())
}

fn place(name: &str) -> Place {
    Place {
        name: name.to_owned(),
    }
}
