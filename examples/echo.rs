//! An echo server and its client, written once for every transport: the address chooses.
//!
//! ```text
//! cargo run --example echo -- serve ADDR
//! cargo run --example echo -- call ADDR hello there
//! cargo run --example echo -- call ADDR < some-file
//! cargo run --example echo -- demo
//! ```
//!
//! `demo` runs both sides in one process, where the names of `inproc://` live. What is echoed goes to
//! standard output, what happens to standard error.
//!
//! The client shuts its direction of the stream down when it has sent everything, and reads on: the
//! two directions of a stream end one by one.

use std::error::Error as _;
use std::io;
use std::process::ExitCode;

use clap::{Parser, Subcommand};
use pipewerks::{Addr, Conn, Error, ErrorKind, Listener, Result, Stream};
use tokio::io::{AsyncRead, AsyncWriteExt};
use tokio::task::JoinSet;

#[derive(Parser)]
#[command(about = "Echoes bytes over any transport")]
struct Args {
    #[command(subcommand)]
    role: Role,
}

#[derive(Subcommand)]
enum Role {
    /// Echo every stream of every connection, until interrupted
    Serve {
        /// Where to listen
        addr: Addr,
    },
    /// Send a text over one stream and print what comes back
    Call {
        /// Where the server listens
        addr: Addr,
        /// What to send; standard input by default
        text: Vec<String>,
    },
    /// Run server and client in one process
    Demo {
        /// Where to meet
        #[arg(default_value = "inproc://echo")]
        addr: Addr,
    },
}

fn main() -> ExitCode {
    let args = Args::parse();
    let runtime = match tokio::runtime::Runtime::new() {
        Ok(runtime) => runtime,
        Err(error) => return failure(&error.into()),
    };
    let result = runtime.block_on(run(args.role));
    // A read of standard input may still block a thread; nobody waits for it any more.
    runtime.shutdown_background();
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => failure(&error),
    }
}

async fn run(role: Role) -> Result<()> {
    match role {
        Role::Serve { addr } => {
            let listener = pipewerks::listen(addr).await?;
            eprintln!("server: listening on {}", listener.local_addr());
            tokio::select! {
                result = serve(&listener) => result,
                _ = tokio::signal::ctrl_c() => Ok(()),
            }
        }
        Role::Call { addr, text } => {
            let conn = pipewerks::dial(addr).await?;
            if text.is_empty() {
                call(&conn, tokio::io::stdin()).await
            } else {
                let text = text.join(" ") + "\n";
                call(&conn, text.as_bytes()).await
            }
        }
        Role::Demo { addr } => {
            let listener = pipewerks::listen(addr).await?;
            let addr = listener.local_addr();
            eprintln!("server: listening on {addr}");
            let client = async {
                let result = async {
                    let conn = pipewerks::dial(addr).await?;
                    call(&conn, &b"hello over any transport\n"[..]).await
                };
                let result = result.await;
                listener.close();
                result
            };
            let (served, called) = tokio::join!(serve(&listener), client);
            called.and(served)
        }
    }
}

/// Serves every connection of a listener, of whatever transport, until the listener is closed and
/// the connections are over.
async fn serve<L: Listener>(listener: &L) -> Result<()> {
    let mut conns = JoinSet::new();
    loop {
        // `accept` is safe to cancel: no connection is lost when the other branch wins.
        tokio::select! {
            accepted = listener.accept() => match accepted {
                Ok(conn) => {
                    eprintln!("server: a connection from {}", conn.remote_addr());
                    conns.spawn(serve_conn(conn));
                }
                Err(error) if error.kind() == ErrorKind::Closed => break,
                Err(error) => return Err(error),
            },
            Some(_) = conns.join_next() => {}
        }
    }
    while conns.join_next().await.is_some() {}
    Ok(())
}

async fn serve_conn<C: Conn>(conn: C) {
    let end = loop {
        match conn.accept_stream().await {
            Ok(stream) => tokio::spawn(async move {
                let id = stream.id();
                match echo(stream).await {
                    Ok(bytes) => eprintln!("server: stream {id}: echoed {bytes} bytes to the end"),
                    Err(error) => eprintln!("server: stream {id}: {error}"),
                }
            }),
            Err(end) => break end,
        };
    };
    eprintln!("server: {end}");
}

/// Sends back what comes until the peer shuts its direction down, then shuts down this one. Returns
/// how many bytes there were.
async fn echo<S: Stream>(stream: S) -> io::Result<u64> {
    let (mut send, mut recv) = stream.into_split();
    let bytes = tokio::io::copy(&mut recv, &mut send).await?;
    send.shutdown().await?;
    Ok(bytes)
}

/// Sends `input` over one stream, prints what comes back, and drains the connection.
async fn call<C: Conn>(conn: &C, mut input: impl AsyncRead + Unpin) -> Result<()> {
    eprintln!("client: connected to {}", conn.remote_addr());
    let stream = conn.open_stream().await?;
    let id = stream.id();
    let (mut send, mut recv) = stream.into_split();

    // Both directions at once: an echo of much data would fill the windows of both otherwise.
    let sending = async {
        let bytes = tokio::io::copy(&mut input, &mut send).await?;
        send.shutdown().await?;
        eprintln!("client: stream {id}: sent {bytes} bytes and shut down; reading on");
        Ok(bytes)
    };
    let receiving = async {
        let mut output = tokio::io::stdout();
        let bytes = tokio::io::copy(&mut recv, &mut output).await?;
        output.flush().await?;
        Ok::<_, io::Error>(bytes)
    };
    let (sent, received) = tokio::try_join!(sending, receiving)?;
    eprintln!("client: stream {id}: received {received} bytes, then the end");
    if sent != received {
        let message = format!("{sent} bytes were sent, but {received} came back");
        return Err(Error::new(ErrorKind::Protocol, message));
    }

    conn.drain().await
}

/// Prints an error with its causes, on one line.
fn failure(error: &Error) -> ExitCode {
    let mut line = format!("error: {error}");
    let mut cause = error.source();
    while let Some(error) = cause {
        let text = error.to_string();
        if !line.ends_with(&text) {
            line = format!("{line}: {text}");
        }
        cause = error.source();
    }
    eprintln!("{line}");
    ExitCode::FAILURE
}
