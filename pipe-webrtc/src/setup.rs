use std::sync::{Arc, OnceLock};

use pipe_core::{Addr, Config, Result};

use crate::addr::Target;
use crate::engine::{Certificate, Faults};
use crate::establish::Plan;
use crate::settings::{WebRtcSettings, default_config};

/// The parameters that all connections of a transport share.
#[derive(Clone)]
pub(crate) struct Setup {
    pub(crate) config: Config,
    pub(crate) settings: Arc<WebRtcSettings>,
    /// The certificate of the transport, where the settings have none.
    certificate: Arc<OnceLock<Certificate>>,
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
            limit: Some(self.config.handshake_timeout),
            local_addr,
            remote_addr,
            identity: None,
            progress: None,
        })
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
            faults: None,
        }
    }
}
