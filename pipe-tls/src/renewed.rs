use std::fmt;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use parking_lot::Mutex;
use pipe_core::Result;
use rustls::server::{ClientHello, ResolvesServerCert};
use rustls::sign::CertifiedKey;

use crate::self_signed::short_lived;
use crate::{CertPins, CertSha256};

/// How long a certificate is valid, an hour less than it may be. Browsers trust one by its hash only if it lives for 14 days at most and has a key on P-256
/// (the API of WebTransport, "serverCertificateHashes").
const LIFE: Duration = Duration::from_secs((14 * 24 - 1) * 60 * 60);

/// How long before now it is valid, for clocks that are late.
const EARLY: Duration = Duration::from_secs(24 * 60 * 60);

/// How long a certificate is in use, before the next one is, whose hash was known all the time: an address with both is good for
/// at least that long, and this is.
const IN_USE: Duration = Duration::from_secs(12 * 24 * 60 * 60);

/// A certificate that lives for days only, and is renewed when it is used.
pub(crate) struct Renewed {
    names: Vec<String>,
    state: Mutex<State>,
}

struct State {
    now: Generation,
    next: Generation,
}

#[derive(Clone)]
struct Generation {
    key: Arc<CertifiedKey>,
    sha256: CertSha256,
    /// From when on it is in use.
    from: SystemTime,
}

impl Renewed {
    pub(crate) fn new(names: Vec<String>, at: SystemTime) -> Result<Self> {
        let state = State {
            now: Generation::new(&names, at)?,
            next: Generation::new(&names, at + IN_USE)?,
        };
        Ok(Self {
            names,
            state: Mutex::new(state),
        })
    }

    /// Returns the key and the hash in use at this time.
    pub(crate) fn at(&self, at: SystemTime) -> (Arc<CertifiedKey>, CertSha256) {
        let mut state = self.state.lock();
        state.renew(&self.names, at);
        (state.now.key.clone(), state.now.sha256)
    }

    /// Returns the hashes of the certificate in use at this time, and of the next one.
    pub(crate) fn pins(&self, at: SystemTime) -> CertPins {
        let mut state = self.state.lock();
        state.renew(&self.names, at);
        CertPins::of_two(state.now.sha256, state.next.sha256)
    }
}

impl State {
    fn renew(&mut self, names: &[String], at: SystemTime) {
        if at < self.next.from {
            return;
        }
        // After a long time without use the next one may be too old as well.
        let is_late = at >= self.next.from + IN_USE;
        let from = if is_late { at } else { self.next.from };
        let made = if is_late {
            Generation::new(names, from)
        } else {
            Ok(self.next.clone())
        };
        let made = made.and_then(|now| Ok((now, Generation::new(names, from + IN_USE)?)));
        // The names were good before. What is in use stays, should a key not be made.
        if let Ok((now, next)) = made {
            *self = Self { now, next };
        }
    }
}

impl Generation {
    fn new(names: &[String], from: SystemTime) -> Result<Self> {
        // It is in the addresses before it is in use, and after.
        let valid = (from - EARLY, from - EARLY + LIFE);
        let (key, sha256) = short_lived(names, valid)?;
        Ok(Self { key, sha256, from })
    }
}

impl ResolvesServerCert for Renewed {
    fn resolve(&self, _: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        Some(self.at(SystemTime::now()).0)
    }
}

impl fmt::Debug for Renewed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut shown = f.debug_struct("Renewed");
        shown.field("names", &self.names).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use std::time::UNIX_EPOCH;

    use rustls::RootCertStore;
    use rustls::client::WebPkiServerVerifier;
    use rustls::client::danger::ServerCertVerifier;
    use rustls_pki_types::{ServerName, UnixTime};

    use super::*;
    use crate::provider;

    const DAY: Duration = Duration::from_secs(24 * 60 * 60);

    fn renewed(at: SystemTime) -> Renewed {
        Renewed::new(vec!["localhost".to_owned()], at).unwrap()
    }

    #[test]
    fn an_address_is_good_for_days_after_it_was_given_out() {
        let begin = SystemTime::now();
        let renewed = renewed(begin);
        let mut certificates = Vec::new();
        for day in 0..60 {
            let at = begin + day * DAY;
            let pins = renewed.pins(at);
            let (_, own) = renewed.at(at);
            assert!(pins.contains(own));
            if certificates.last() != Some(&own) {
                certificates.push(own);
            }
        }
        assert_eq!(certificates.len(), 5);
        let first = renewed.pins(begin + 60 * DAY);
        let later = renewed.at(begin + 60 * DAY + IN_USE).1;
        assert!(first.contains(later));
    }

    #[test]
    fn a_certificate_is_valid_while_it_is_in_use_and_lives_for_14_days_at_most() {
        let begin = SystemTime::now();
        let renewed = renewed(begin);
        for day in [0, 11, 12, 23, 60] {
            let at = begin + day * DAY;
            let own = renewed.at(at).0.cert[0].clone();
            let mut roots = RootCertStore::empty();
            roots.add(own.clone()).unwrap();
            let verifier = WebPkiServerVerifier::builder_with_provider(roots.into(), provider());
            let verifier = verifier.build().unwrap();
            let name = ServerName::try_from("localhost").unwrap();
            let is_valid = |at: SystemTime| {
                let at = UnixTime::since_unix_epoch(at.duration_since(UNIX_EPOCH).unwrap());
                let judged = verifier.verify_server_cert(&own, &[], &name, &[], at);
                judged.is_ok()
            };
            assert!(is_valid(at) && is_valid(at + DAY / 2), "day {day}");
            let life = (0..40 * 24).filter(|hour| is_valid(at - 20 * DAY + *hour * DAY / 24));
            let hours = life.count();
            assert_eq!(hours, 14 * 24, "its first and its last hour count");
        }
    }
}
