//! The arguments of the program.

use clap::{Parser, Subcommand};

use crate::doctor::DoctorArgs;
use crate::exit::HELP;
use crate::forward::{ExposeArgs, ForwardArgs};
use crate::netcat::{DialArgs, ListenArgs, OfferArgs};
use crate::perf::PerfArgs;
use crate::ping::PingArgs;
use crate::transfer::{ReceiveArgs, SendArgs};

/// Streams, files, ports and measurements over any transport
///
/// Addresses name the transport: tcp://host:port, tls://host:port, quic://host:port, unix:///path,
/// webrtc+tcp://host:port. Several with commas between them are one address, in quotes:
/// 'quic://host:7000,tls://host:7000' is dialed at the first that connects, and listened on at all.
#[derive(Parser, Debug)]
#[command(name = "pipe", version, after_help = HELP)]
pub(crate) struct Cli {
    #[command(subcommand)]
    pub(crate) command: Command,
    /// Write events and results as JSON, one object a line
    #[arg(long, global = true)]
    pub(crate) json: bool,
    /// Log to standard error what happens inside (-vv and -vvv: more). RUST_LOG overrides it
    #[arg(short, long, global = true, action = clap::ArgAction::Count)]
    pub(crate) verbose: u8,
}

#[derive(Subcommand, Debug)]
pub(crate) enum Command {
    /// Listen, and join the first stream to standard input and output
    ///
    /// The address that dials it is printed on standard error. Ends when the stream has ended both ways.
    /// With --exec, each stream of each connection is joined to a command of its own, until interrupted.
    Listen(ListenArgs),
    /// Connect, and join a stream to standard input and output
    Dial(DialArgs),
    /// Make an offer of WebRTC as a file, and connect by the answer in another one
    ///
    /// Any program carries them, as curl does to where `pipe listen webrtc+http://HOST:PORT/PATH` listens:
    /// curl --data-binary @OFFER -H 'Content-Type: application/sdp' URL > ANSWER. Then a stream is joined to
    /// standard input and output, as by `pipe dial`.
    Offer(OfferArgs),
    /// Measure round trips, as ping(8) does
    ///
    /// On the other side, anything of pipewerks may listen: `pipe listen ADDR` will do, and goes on
    /// waiting for its stream.
    Ping(PingArgs),
    /// Measure throughput each way, round trips with and without load, and streams a second
    Perf(PerfArgs),
    /// Carry the connections of a local TCP port to where `pipe expose` listens
    ///
    /// Each connection of TCP has a stream of its own, with half-close and reset carried through. When the
    /// peer is lost, it is dialed again until it is back.
    Forward(ForwardArgs),
    /// Listen for `pipe forward`, and connect its streams to a TCP port
    Expose(ExposeArgs),
    /// Send files and folders to where `pipe receive` listens
    ///
    /// They are verified by their SHA-256. After a broken connection it dials again and goes on where it
    /// was, and so does the same command after either side was ended and started again.
    Send(SendArgs),
    /// Listen for `pipe send`, and receive files and folders into a folder
    ///
    /// A file is there under its name when it is whole. Ends after one transfer; with --keep, when it is
    /// interrupted.
    Receive(ReceiveArgs),
    /// Show what happens at each step of a dial, and what to do where it fails
    Doctor(DoctorArgs),
    /// Print completions for a shell
    Completions {
        /// The shell
        shell: clap_complete::Shell,
    },
    /// Print the manual page, or that of a command
    Man {
        /// The command
        command: Option<String>,
    },
}
