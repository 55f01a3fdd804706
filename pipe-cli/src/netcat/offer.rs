use std::path::{Path, PathBuf};

use clap::Args;
use pipewerks::BoxConn;
use pipewerks::webrtc::{Wire, signaling::MAX_SIGNAL_LEN};
use tokio::io::AsyncReadExt;

use super::{StreamArgs, over};
use crate::context::Context;
use crate::exit::Exit;
use crate::failure::Failure;
use crate::net::NetArgs;

#[derive(Args, Clone, Debug)]
pub(crate) struct OfferArgs {
    /// File to write the offer to, a session description (SDP)
    offer: PathBuf,
    /// File to read the answer from, such as a FIFO (mkfifo), or /dev/stdin
    answer: PathBuf,
    /// Use plain data channels, as a listener with ?wire=raw does
    #[arg(long)]
    raw: bool,
    #[command(flatten)]
    streams: StreamArgs,
    #[command(flatten)]
    net: NetArgs,
}

/// Joins streams that this side opens over WebRTC, whose offer and answer are files.
pub(crate) async fn offer(context: &Context, args: &OfferArgs) -> Result<Exit, Failure> {
    let mut transport = args.net.by_hand()?;
    if args.raw {
        transport = transport.with_wire(Wire::Raw { ping: true });
    }
    let name = args.answer.display().to_string();
    let connecting = async {
        let refused = |error: pipewerks::Error| Failure::unreached(&name, &error);
        let offered = transport.offer_by_hand().await.map_err(refused)?;
        let written = tokio::fs::write(&args.offer, offered.sdp()).await;
        written.map_err(|error| Failure::local(args.offer.display(), &error))?;
        let answer = read(&args.answer).await?;
        let conn = offered.accept(&answer).await;
        conn.map(BoxConn::new).map_err(refused)
    };
    let conn = tokio::select! {
        conn = connecting => conn?,
        () = context.stop.asked() => return Err(context.stopped()),
    };
    over(context, &name, &conn, &args.streams).await
}

/// Reads an answer, which has an end.
async fn read(path: &Path) -> Result<String, Failure> {
    let reading = async {
        let file = tokio::fs::File::open(path).await?;
        let mut text = String::new();
        let limit = MAX_SIGNAL_LEN as u64 + 1;
        file.take(limit).read_to_string(&mut text).await?;
        std::io::Result::Ok(text)
    };
    reading
        .await
        .map_err(|error| Failure::local(path.display(), &error))
}
