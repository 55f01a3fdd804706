use std::sync::Arc;
use std::time::Duration;

use pipe_core::{Error, ErrorKind, Result};
use rtc::crypto::default_provider;
use rtc::ice::mdns::MulticastDnsMode;
use rtc::peer_connection::certificate::RTCCertificate;
use rtc::peer_connection::configuration::setting_engine::SctpMaxMessageSize;
use webrtc::peer_connection::{
    RTCConfiguration, RTCConfigurationBuilder, RTCIceServer, RTCIceTransportPolicy, SettingEngine,
    SettingEngineBuilder,
};

use super::super::certificate::Certificate;
use super::super::options::PeerOptions;
use super::crypto;
use super::turn_server::engine_url;
use super::vitals::Vitals;
use crate::ice_server::IceServer;

/// Period at which the engine looks at the pairs of candidates while there is no path: it chooses
/// one at such a look. [`Checks`](super::checks::Checks) sets the rate of checks.
const CHECK_INTERVAL: Duration = Duration::from_millis(50);

/// Number of looks at a pair of candidates, for five minutes.
const MAX_CHECKS: u16 = 6000;

impl PeerOptions {
    pub(super) fn configuration(&self) -> Result<RTCConfiguration> {
        let mut builder = RTCConfigurationBuilder::new()
            .with_ice_servers(ice_servers(&self.ice_servers))
            .with_ice_transport_policy(policy(self.relay_only));
        if let Some(certificate) = &self.certificate {
            builder = builder.with_certificates(vec![engine_certificate(certificate)?]);
        }
        Ok(builder.build())
    }

    /// Makes the settings of one peer connection.
    pub(super) fn engine(&self, vitals: &Arc<Vitals>) -> Result<SettingEngine> {
        let mdns = if self.mdns {
            MulticastDnsMode::QueryAndGather
        } else {
            MulticastDnsMode::Disabled
        };
        let crypto = crypto::filtered(vitals.clone()).map_err(|error| {
            let why = format!("the WebRTC engine has no cryptography: {error}");
            Error::with_source(ErrorKind::Io, why, error)
        })?;
        let mut builder = SettingEngineBuilder::new()
            .with_crypto_provider(crypto)
            .with_ice_timeouts(
                Some(self.disconnected_after),
                Some(self.failed_after),
                Some(self.keep_alive),
            )
            // A pair that works is taken at once when the check of the peer came before its candidate: to
            // wait for that one would cost a second, and it is of the same path.
            .with_prflx_acceptance_min_wait(Some(Duration::ZERO))
            .with_multicast_dns_mode(mdns)
            .with_include_loopback_candidate(true)
            // A pair is tried as long as the connection may come back.
            .with_ice_connection_attempts(Some(CHECK_INTERVAL), Some(MAX_CHECKS))
            // A channel whose opening is not answered is no failure while the peer is away.
            .with_dcep_handshake_timeout(None)
            .with_sctp_max_receive_buffer_size(self.receive_buffer)
            .with_sctp_max_message_size(SctpMaxMessageSize::Bounded(self.max_message));
        if self.relay_only {
            // No better path can come, so that nothing is gained by a wait for one.
            builder = builder.with_relay_acceptance_min_wait(Some(Duration::ZERO));
        }
        if let Some(mtu) = self.mtu {
            builder = builder.with_sctp_mtu(mtu);
        }
        Ok(builder.build())
    }
}

pub(super) fn ice_servers(servers: &[IceServer]) -> Vec<RTCIceServer> {
    servers
        .iter()
        .map(|server| RTCIceServer {
            urls: server.urls.iter().map(|url| engine_url(url)).collect(),
            username: server.username.clone(),
            credential: server.credential.clone(),
        })
        .collect()
}

pub(super) fn policy(relay_only: bool) -> RTCIceTransportPolicy {
    if relay_only {
        RTCIceTransportPolicy::Relay
    } else {
        RTCIceTransportPolicy::All
    }
}

fn engine_certificate(certificate: &Certificate) -> Result<RTCCertificate> {
    let failed = |error: &dyn std::fmt::Display| {
        let why = format!("the certificate is not usable: {error}");
        Error::new(ErrorKind::Io, why)
    };
    let provider = default_provider().map_err(|error| failed(&error))?;
    RTCCertificate::from_pem(&certificate.to_pem()?, provider.crypto())
        .map_err(|error| failed(&error))
}
