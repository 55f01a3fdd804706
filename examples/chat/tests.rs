//! The room on every transport, always with a guest from this process beside.

#[path = "../testing/each_transport.rs"]
mod each_transport;

use pipewerks::{Addr, BoxListener, CloseReason, Conn, Listener};
use tokio::io::AsyncWriteExt;
use tokio_util::task::AbortOnDropHandle;

use crate::guest::Guest;
use crate::room::{Room, code};
use crate::server::{self, LINE};
use crate::tour::{self, expect};
use each_transport::on_every_transport;

on_every_transport! {
    guests_of_two_transports_meet
    who_makes_no_sense_is_told_so
    who_is_gone_without_a_word_has_left
}

async fn guests_of_two_transports_meet(addr: &str) -> anyhow::Result<()> {
    tour::run(&[addr.parse()?, "inproc://".parse()?]).await
}

async fn who_makes_no_sense_is_told_so(addr: &str) -> anyhow::Result<()> {
    let (addrs, _serving) = serve(addr).await?;
    let mut host = Guest::join(&addrs[1], "host").await?;
    expect(&mut host, "* nobody else is here").await?;

    for (name, why) in [("host", "already"), (" x", "1 to 32"), ("", "1 to 32")] {
        let mut guest = Guest::join(&addrs[0], name).await?;
        let error = format!("{:#}", guest.hear().await.unwrap_err());
        assert!(error.contains(why), "{error}");
        assert_eq!(guest.closed().await.code(), Some(code::NAME_REFUSED));
    }
    for bytes in [&b"ann\n\xff\n"[..], &[b'x'; LINE + 1]] {
        let conn = pipewerks::dial(&addrs[0]).await?;
        let mut stream = conn.open_stream().await?;
        stream.write_all(bytes).await?;
        stream.flush().await?;
        let reason = conn.closed().await;
        assert_eq!(reason.code(), Some(code::NOT_TEXT), "{reason}");
        assert!(matches!(reason, CloseReason::Remote { .. }), "{reason}");
    }

    // The room has seen the one who had a name.
    expect(
        &mut host,
        &format!("* ann joined over {}", addrs[0].scheme()),
    )
    .await?;
    expect(&mut host, "* ann left").await?;
    host.leave().await
}

async fn who_is_gone_without_a_word_has_left(addr: &str) -> anyhow::Result<()> {
    let (addrs, _serving) = serve(addr).await?;
    let mut host = Guest::join(&addrs[1], "host").await?;
    expect(&mut host, "* nobody else is here").await?;

    let mut ann = Guest::join(&addrs[0], "ann").await?;
    expect(&mut ann, "* here are host").await?;
    expect(
        &mut host,
        &format!("* ann joined over {}", addrs[0].scheme()),
    )
    .await?;
    host.say("hello").await?;
    expect(&mut ann, "host: hello").await?;
    drop(ann);
    expect(&mut host, "* ann left").await?;

    // The name is free again.
    let ann = Guest::join(&addrs[0], "ann").await?;
    expect(
        &mut host,
        &format!("* ann joined over {}", addrs[0].scheme()),
    )
    .await?;
    ann.leave().await
}

type Serving = AbortOnDropHandle<pipewerks::Result<()>>;

async fn serve(addr: &str) -> anyhow::Result<(Vec<Addr>, Serving)> {
    let listeners = server::listen(&[addr.parse()?, "inproc://".parse()?]).await?;
    let addrs = listeners.iter().map(BoxListener::local_addr).collect();
    let serving = tokio::spawn(server::serve(listeners, Room::new()));
    Ok((addrs, AbortOnDropHandle::new(serving)))
}
