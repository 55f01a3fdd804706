use std::collections::VecDeque;
use std::net::SocketAddr;
use std::sync::Arc;

use parking_lot::Mutex;
use pipe_core::backend::proto::Hello;
use pipe_core::{Addr, Result};
use pipe_tls::rustls::pki_types::{CertificateDer, ServerName};
use pipe_tls::{ClientSessions, rustls};

/// Maximum number of addresses whose sessions a transport keeps. Beyond it, the one that was dialed
/// longest ago is removed.
const ADDRS: usize = 64;

/// The sessions that a transport and its clones keep for early data to the listeners that they have
/// dialed.
#[derive(Clone, Default)]
pub(crate) struct Sessions(Arc<Mutex<VecDeque<Kept>>>);

type Kept = (Addr, Arc<Session>);

/// The stored session of a listener.
pub(crate) struct Session {
    pub(crate) tls: ClientSessions,
    met: Mutex<Option<Met>>,
}

/// The result of the last full handshake.
#[derive(Clone)]
pub(crate) struct Met {
    /// Address of the listener: another address of the same name may be of another machine, without
    /// the session.
    pub(crate) at: SocketAddr,
    pub(crate) certificates: Vec<CertificateDer<'static>>,
    pub(crate) hello: Hello,
}

impl Sessions {
    /// Returns the one of an address, or else a new one.
    pub(crate) fn of(
        &self,
        addr: &Addr,
        new: impl FnOnce() -> Result<ClientSessions>,
    ) -> Result<Arc<Session>> {
        let mut kept = self.0.lock();
        let known = kept.iter().position(|(of, _)| of == addr);
        let entry = match known.and_then(|place| kept.remove(place)) {
            Some(entry) => entry,
            None => {
                let met = Mutex::new(None);
                (addr.clone(), Arc::new(Session { tls: new()?, met }))
            }
        };
        if kept.len() == ADDRS {
            kept.pop_front();
        }
        let session = entry.1.clone();
        kept.push_back(entry);
        Ok(session)
    }
}

impl Session {
    /// Returns the data to resume a session with one of these addresses, if there is one to resume:
    /// with certificates that would be trusted anew for this name.
    pub(crate) fn resume(
        &self,
        found: &[SocketAddr],
        name: &ServerName<'_>,
    ) -> Option<(Arc<rustls::ClientConfig>, Met)> {
        let resuming = self.tls.resuming()?;
        let met = self.met.lock().clone()?;
        if !found.contains(&met.at) {
            return None;
        }
        if let Err(error) = self.tls.judge(&met.certificates, name) {
            tracing::debug!(%error, "a session is not resumed");
            self.forget();
            return None;
        }
        Some((resuming, met))
    }

    /// Stores the result of a full handshake.
    pub(crate) fn learn(&self, met: Met) {
        *self.met.lock() = Some(met);
    }

    pub(crate) fn forget(&self) {
        self.tls.forget();
    }
}

#[cfg(test)]
mod tests {
    use pipe_tls::TlsOptions;

    use super::*;

    #[test]
    fn the_address_dialed_longest_ago_is_forgotten() {
        let sessions = Sessions::default();
        let pin = Some(pipe_tls::CertSha256::of(b""));
        let get = |port: usize| {
            let addr = Addr::parse(&format!("quic://127.0.0.1:{port}")).unwrap();
            let new = || TlsOptions::new().client_sessions(pin, &[b"pipe/1"]);
            sessions.of(&addr, new).unwrap()
        };
        let (first, second) = (get(1), get(2));
        for port in 3..=ADDRS {
            get(port);
        }
        assert!(Arc::ptr_eq(&first, &get(1)));
        get(ADDRS + 1);
        assert!(Arc::ptr_eq(&first, &get(1)));
        assert!(!Arc::ptr_eq(&second, &get(2)));
        assert_eq!(sessions.0.lock().len(), ADDRS);
    }
}
