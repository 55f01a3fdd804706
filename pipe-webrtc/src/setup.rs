use std::sync::{Arc, OnceLock, Weak};

use parking_lot::Mutex;
use pipe_core::{Addr, Config, Result};

use crate::addr::Target;
use crate::engine::{Certificate, Faults, SharedPort};
use crate::establish::Plan;
use crate::settings::{WebRtcSettings, default_config};

/// The parameters that all connections of a transport share.
#[derive(Clone)]
pub(crate) struct Setup {
    pub(crate) config: Config,
    pub(crate) settings: Arc<WebRtcSettings>,
    /// The certificate of the transport, where the settings have none.
    certificate: Arc<OnceLock<Certificate>>,
    /// The port of the connections that are answered, as long as a listener or a connection has it.
    port: Arc<Mutex<Weak<SharedPort>>>,
    pub(crate) faults: Option<Faults>,
}

impl Setup {
    /// Plans a connection between these addresses, its own first.
    pub(crate) fn plan(
        &self,
        offerer: bool,
        Target { name, wire, local }: Target,
        (local_addr, remote_addr): (Addr, Addr),
    ) -> Result<Plan> {
        let mut settings = self.settings.clone();
        if settings.certificate.is_none() {
            Arc::make_mut(&mut settings).certificate = Some(self.own_certificate()?);
        }
        Ok(Plan {
            config: self.config.clone(),
            settings,
            faults: self.faults.clone(),
            wire,
            offerer,
            name,
            local,
            // Two dials to one peer could not be told apart on one port.
            port: if offerer { None } else { self.shared_port() },
            limit: Some(self.config.handshake_timeout),
            local_addr,
            remote_addr,
            identity: None,
            progress: None,
        })
    }

    /// Uses these settings, and a port of their own.
    pub(crate) fn set_settings(&mut self, settings: WebRtcSettings) {
        self.settings = Arc::new(settings);
        self.port = Arc::default();
    }

    /// Returns the port that connections share by the settings, which is not bound yet if it is new.
    pub(crate) fn shared_port(&self) -> Option<Arc<SharedPort>> {
        let number = self.settings.udp_port?;
        let mut port = self.port.lock();
        Some(port.upgrade().unwrap_or_else(|| {
            let new = SharedPort::new(number, self.settings.socket_buffer);
            *port = Arc::downgrade(&new);
            new
        }))
    }

    fn own_certificate(&self) -> Result<Certificate> {
        if let Some(certificate) = self.certificate.get() {
            return Ok(certificate.clone());
        }
        let made = Certificate::generate()?;
        // Two at once may have made one each; the first stays.
        Ok(self.certificate.get_or_init(|| made).clone())
    }
}

impl Default for Setup {
    fn default() -> Self {
        Self {
            config: default_config(),
            settings: Arc::default(),
            certificate: Arc::default(),
            port: Arc::default(),
            faults: None,
        }
    }
}
