//! `pipe doctor`: the steps of a dial, and advice where one fails.

mod advice;
mod reach;
mod steps;

use clap::Args;
use pipewerks::webrtc::WebRtcConn;
use pipewerks::{Addr, BoxConn, Conn, PeerIdentity};
use tokio::time::{Instant, timeout};

use self::steps::Steps;
use crate::address::Address;
use crate::context::Context;
use crate::duration::millis;
use crate::exit::Exit;
use crate::failure::{Failure, explain};
use crate::net::{Net, NetArgs, farewell};

/// Number of pings that are sent.
const PINGS: usize = 3;

#[derive(Args, Clone, Debug)]
pub(crate) struct DoctorArgs {
    /// Address that cannot be dialed, or that can. Each address of a list is checked by itself
    addr: String,
    #[command(flatten)]
    net: NetArgs,
}

/// Goes through the steps until one fails, and reports them all: for each address of a list by itself. Of a list, it is
/// enough that one is well.
pub(crate) async fn doctor(context: &Context, args: &DoctorArgs) -> Result<Exit, Failure> {
    let mut steps = Steps::default();
    let began = Instant::now();
    let addr = match Net::addr(&args.addr) {
        Ok(addr) => addr,
        Err(failure) => {
            steps.failed("address", began, &failure.message);
            steps.advise(advice::ADDRESS);
            steps.tell(&context.report, &args.addr, Some(&failure));
            return Err(failure);
        }
    };
    if let [_] = addr.alternatives() {
        return diagnose(context, args, &addr, &args.addr, steps).await;
    }
    let mut outcomes = Vec::new();
    for (at, part) in addr.parts().enumerate() {
        let mut steps = Steps::default();
        steps.title(&part, at);
        outcomes.push(diagnose(context, args, &part, part.as_str(), steps).await);
        if context.stop.is_asked() {
            return Err(context.stopped());
        }
    }
    let is_well = outcomes.iter().any(Result::is_ok);
    match outcomes.into_iter().find_map(Result::err) {
        Some(first) if !is_well => {
            let why = format!("{addr}: no address of the list is well");
            Err(Failure::new(first.exit, why))
        }
        _ => Ok(Exit::Done),
    }
}

/// Goes through the steps of a single address, and reports them. `shown` is the address in the report.
async fn diagnose(
    context: &Context,
    args: &DoctorArgs,
    addr: &Address,
    shown: &str,
    mut steps: Steps,
) -> Result<Exit, Failure> {
    let examined = tokio::select! {
        examined = examine(args, addr, &mut steps) => examined,
        () = context.stop.asked() => Err(context.stopped()),
    };
    steps.tell(&context.report, shown, examined.as_ref().err());
    examined
}

async fn examine(args: &DoctorArgs, addr: &Address, steps: &mut Steps) -> Result<Exit, Failure> {
    let began = Instant::now();
    if let Err(failure) = NetArgs::known(addr) {
        steps.failed("address", began, &failure.message);
        steps.advise(advice::ADDRESS);
        return Err(failure);
    }
    steps.passed("address", began, format!("transport {}", addr.scheme()));
    let began = Instant::now();
    let net = match Net::new(&args.net) {
        Ok(net) => net,
        Err(failure) => {
            steps.failed("options", began, &failure.message);
            return Err(failure);
        }
    };
    // The scheme of the sockets: those of the signalling, for WebRTC.
    let under = addr.scheme().trim_start_matches("webrtc+");
    let began = Instant::now();
    let proxy = match net.proxy(addr, under) {
        Ok(proxy) => proxy,
        Err(error) => {
            steps.failed("proxy", began, &explain(&error));
            return Err(Failure::usage(explain(&error)));
        }
    };
    if let Some(proxy) = &proxy {
        steps.passed("proxy", began, format!("through {proxy}"));
    }
    let reached = reach::reach(addr, under, proxy.as_ref(), steps).await;
    if matches!(under, "tls" | "wss" | "quic" | "wt" | "https") {
        steps.passed("trust", Instant::now(), args.net.trust(addr));
    }
    let began = Instant::now();
    let conn = match net.try_dial(addr).await {
        Ok(conn) => conn,
        Err(error) => {
            steps.failed("connection", began, &explain(&error));
            steps.advise(match &proxy {
                Some(_) => advice::PROXY,
                None => advice::of(&error, addr, reached),
            });
            return Err(Failure::unreached(addr.as_str(), &error));
        }
    };
    let detail = format!("from {} to {}", conn.local_addr(), conn.remote_addr());
    steps.passed("connection", began, detail);
    about_peer(&conn, steps).await;
    let pinged = ping(addr, &conn, &net, steps).await;
    farewell(&conn).await;
    pinged
}

/// Reports the identity of the peer, and the path to it.
async fn about_peer(conn: &BoxConn, steps: &mut Steps) {
    let now = Instant::now();
    match conn.peer_identity() {
        Some(PeerIdentity::Certificates(list)) => {
            if let Some(own) = list.first() {
                let hash = pipewerks::tls::CertSha256::of(own);
                let detail = format!("SHA-256 {hash}, {} in the chain", list.len());
                steps.passed("certificate", now, detail);
            }
        }
        Some(PeerIdentity::SelfSigned(list)) => {
            if let Some(own) = list.first() {
                let hash = pipewerks::tls::CertSha256::of(own);
                let detail = format!("SHA-256 {hash}, made by the peer itself");
                steps.passed("certificate", now, detail);
            }
        }
        Some(PeerIdentity::Unix(peer)) => {
            let pid = peer
                .pid
                .map_or_else(|| "unknown".to_owned(), |pid| pid.to_string());
            let detail = format!("process {pid}, user {}, group {}", peer.uid, peer.gid);
            steps.passed("peer", now, detail);
        }
        _ => {}
    }
    if let Some(conn) = conn.downcast_ref::<WebRtcConn>()
        && let Some(pair) = conn.selected_candidate_pair().await
    {
        let detail = format!("here {}; there {}", pair.local, pair.remote);
        steps.passed("candidates", now, detail);
    }
}

async fn ping(addr: &Addr, conn: &BoxConn, net: &Net, steps: &mut Steps) -> Result<Exit, Failure> {
    let began = Instant::now();
    let mut times = Vec::new();
    for _ in 0..PINGS {
        let failure = match timeout(net.connect_timeout, conn.ping()).await {
            Ok(Ok(time)) => {
                times.push(millis(time));
                continue;
            }
            // A foreign peer, as the address requires.
            Ok(Err(error)) if error.kind() == pipewerks::ErrorKind::Unsupported => {
                steps.passed("ping", began, format!("left out: {}", explain(&error)));
                return Ok(Exit::Done);
            }
            Ok(Err(error)) => Failure::on_conn(addr.as_str(), &error),
            Err(_) => {
                let why = format!("{addr}: no answer within {:?}", net.connect_timeout);
                Failure::failed(why)
            }
        };
        steps.failed("ping", began, &failure.message);
        steps.advise(advice::PING);
        return Err(failure);
    }
    steps.passed("ping", began, times.join(", "));
    Ok(Exit::Done)
}
