//! Advice in plain words.

use pipewerks::{Addr, Error, ErrorKind};

use super::reach::Reached;

pub(super) const ADDRESS: &str = "\
The address itself is wrong: nothing was sent. It has the form tcp://host:port, tls://host:port, \
ws://host:port/path, wss://host:port/path, quic://host:port, wt://host:port/path, nats://host:port/subject, unix:///path, webrtc+tcp://host:port or \
webrtc+https://host:port/path, \
or of several of these with commas between them. Copy the one that the listener prints.";

pub(super) const PING: &str = "\
The connection was made, and then the peer did not answer. It may have been stopped, or the path lets \
small packets through and drops others.";

pub(super) const PROXY: &str = "\
The dial goes through a proxy, which the option --proxy or the environment (ALL_PROXY, HTTPS_PROXY, http_proxy) names. Check \
that its address is right, that it accepts this side (a user and a password go before its host, with an @), and that it lets \
this host and port be dialed: many let port 443 alone. `--proxy none` dials directly.";

/// Returns advice about a dial that failed.
pub(super) fn of(error: &Error, addr: &Addr, reached: Reached) -> &'static str {
    let pinned = addr.param("cert-sha256").is_some();
    let webrtc = addr.scheme().starts_with("webrtc+");
    match error.kind() {
        ErrorKind::AddrInvalid | ErrorKind::AddrUnsupported | ErrorKind::ConfigInvalid => ADDRESS,
        ErrorKind::Refused if addr.scheme().ends_with("unix") => {
            "No process listens at this socket. Start the other side, such as `pipe listen ADDR`, and check \
             that both sides name the same path."
        }
        ErrorKind::Refused if addr.scheme().ends_with("nats") => {
            "The NATS server was reached, and there is no listener on this subject. Start the other side, such as \
             `pipe listen ADDR`, and check that both name the same subject, and servers of one cluster."
        }
        ErrorKind::Unauthenticated if addr.scheme().ends_with("nats") => {
            "The NATS server does not let this side in, or does not allow the subject. Give credentials \
             (--nats-creds, --nats-user, PIPE_NATS_PASSWORD, PIPE_NATS_TOKEN), and see the permissions of that user. If TLS \
             fails, trust the issuer of the server's certificate with --roots."
        }
        ErrorKind::Refused => {
            "The host was reached, and there is no listener at this port. Start the other side, such as \
             `pipe listen ADDR`, and check the port. A listener on 127.0.0.1 is reached from its own host \
             only; 0.0.0.0 takes all."
        }
        ErrorKind::Unauthenticated if pinned => {
            "The listener shows another certificate than the address asks for. It may have been started \
             again and have made a new one: use the address that it prints now, or give it a certificate \
             that stays (--cert). If neither is the case, another host answers in its place. If it is this \
             side that is refused, the listener asks for a certificate that it trusts: --cert, --key."
        }
        ErrorKind::Unauthenticated => {
            "One side does not trust the other's certificate. Use the address that the listener prints, \
             which has the hash of its certificate, or trust its issuer with --roots. If the listener asks \
             for a certificate, show one with --cert and --key."
        }
        ErrorKind::Handshake | ErrorKind::Protocol => {
            "Something answers that speaks another protocol. Check that both sides use the same scheme \
             (tcp:// and tls:// do not understand each other, nor do ws:// and wss://, or http:// and https://), and that it is no other service. A peer of \
             another make is reached with ?wire=raw."
        }
        ErrorKind::TimedOut if webrtc && reached == Reached::Yes => {
            "The signalling was reached, but no path for the packets of WebRTC (UDP) was found. Behind NATs, \
             give both sides a STUN server (--stun), and where that does not help a TURN server (--turn)."
        }
        ErrorKind::TimedOut if reached == Reached::Yes => {
            "The port takes connections, but what is there does not answer as expected. Is it another \
             service, or a listener of another scheme? Or is its program stopped or overloaded?"
        }
        ErrorKind::TimedOut => {
            "Nothing answers. The host may be off, a firewall may drop the packets (for quic:// and WebRTC, \
             UDP has to pass), or the address may be that of another network."
        }
        ErrorKind::Unreachable => {
            "No path leads there. Check the spelling of the host, and the network of this side: its name \
             service, its routes, its VPN."
        }
        _ => "Look at the step that failed; `pipe -vv dial ADDR` shows more.",
    }
}
