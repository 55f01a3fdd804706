//! The whole program on every transport.

#[path = "../testing/each_transport.rs"]
mod each_transport;

use std::io;
use std::time::Duration;

use pipewerks::{BoxConn, Conn, Error, ErrorKind, Listener};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio_util::task::AbortOnDropHandle;

use crate::client::{CallError, Client};
use crate::frame::{self, LIMIT};
use crate::message::{Answer, Fault, Request};
use crate::server::{MALFORMED, Server};
use crate::tour;
use each_transport::on_every_transport;

const LONG: Duration = Duration::from_secs(60);

on_every_transport! {
    calls_go_every_way
    a_message_that_makes_no_sense_is_refused
    a_lost_connection_fails_the_calls
}

async fn calls_go_every_way(addr: &str) -> anyhow::Result<()> {
    tour::run(&addr.parse()?).await
}

async fn a_message_that_makes_no_sense_is_refused(addr: &str) -> anyhow::Result<()> {
    let (conn, server, _serving) = serve(addr).await?;

    // JSON of another kind is answered.
    let mut stream = conn.open_stream().await?;
    frame::write(&mut stream, &"hello").await?;
    let answer: Result<Answer, Fault> = frame::read(&mut stream).await?;
    assert!(matches!(answer, Err(Fault::BadRequest(_))), "{answer:?}");

    // A length above the limit, and a message that is cut short, end the stream with a code.
    for bytes in [&u32::MAX.to_be_bytes()[..], b"\0\0\0\x09{"] {
        let mut stream = conn.open_stream().await?;
        stream.write_all(bytes).await?;
        stream.shutdown().await?;
        let error = Error::from(stream.read_to_end(&mut Vec::new()).await.unwrap_err());
        assert_eq!(error.kind(), ErrorKind::Reset, "{error}");
        assert_eq!(error.code(), Some(MALFORMED), "{error}");
    }

    // Others are not harmed, and an answer that is too long is refused.
    let client = Client::new(conn);
    let repeat = |times| Request::Repeat {
        text: "ä\"".to_owned(),
        times,
    };
    let long = client.call(repeat(LIMIT / 32), LONG).await?;
    assert_eq!(long, Answer::Text("ä\"".repeat(LIMIT / 32)));
    let refused = client.call(repeat(LIMIT), LONG).await.unwrap_err();
    let CallError::Fault(Fault::TooLong { bytes, .. }) = refused else {
        panic!("{refused}");
    };
    assert_eq!(bytes, 3 * LIMIT);
    server.counts().wait_for(|c| c.running == 0).await?;
    assert!(server.counts().borrow().malformed >= 1);
    Ok(())
}

async fn a_lost_connection_fails_the_calls(addr: &str) -> anyhow::Result<()> {
    let (conn, server, serving) = serve(addr).await?;
    let client = Client::new(conn);
    let mut counts = server.counts();
    let call = client.call(Request::Wait { ms: 3_600_000 }, LONG);
    let lose = async {
        counts.wait_for(|counts| counts.running == 1).await?;
        drop(serving);
        anyhow::Ok(())
    };
    let (called, lost) = tokio::join!(call, lose);
    lost?;
    let CallError::Broken(error) = called.unwrap_err() else {
        panic!("the call was not told");
    };
    assert!(
        matches!(error.kind(), ErrorKind::Closed | ErrorKind::Reset),
        "{error}"
    );
    Ok(())
}

type Serving = AbortOnDropHandle<pipewerks::Result<()>>;

async fn serve(addr: &str) -> io::Result<(BoxConn, Server, Serving)> {
    let listener = pipewerks::listen(addr).await?;
    let addr = listener.local_addr();
    let server = Server::default();
    let serving = tokio::spawn({
        let server = server.clone();
        async move { server.serve(listener).await }
    });
    let conn = pipewerks::dial(addr).await?;
    Ok((conn, server, AbortOnDropHandle::new(serving)))
}
