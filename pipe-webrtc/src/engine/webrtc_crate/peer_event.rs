use std::sync::Arc;

use async_trait::async_trait;
use tokio::sync::mpsc;
use webrtc::data_channel::DataChannel;
use webrtc::peer_connection::{
    PeerConnectionEventHandler, RTCIceConnectionState, RTCIceGatheringState,
    RTCPeerConnectionIceEvent, RTCPeerConnectionState,
};

use super::super::event::{Candidate, IceState, PeerEvent};
use super::super::external::External;
use super::channel::Channel;
use super::vitals::Vitals;

/// Passes the engine's events on.
pub(super) struct Handler {
    pub(super) events: mpsc::Sender<PeerEvent<Channel>>,
    pub(super) external: External,
    pub(super) vitals: Arc<Vitals>,
}

impl Handler {
    async fn tell(&self, event: PeerEvent<Channel>) {
        // The receiver is gone while a peer is being closed.
        let _ = self.events.send(event).await;
    }
}

#[async_trait]
impl PeerConnectionEventHandler for Handler {
    async fn on_ice_candidate(&self, event: RTCPeerConnectionIceEvent) {
        let init = match event.candidate.to_json() {
            Ok(init) => init,
            Err(error) => {
                tracing::debug!(%error, "a candidate of this side is unusable");
                return;
            }
        };
        for candidate in self.external.candidates(&init.candidate) {
            self.tell(PeerEvent::Candidate(Candidate {
                candidate,
                mid: init.sdp_mid.clone(),
                line: init.sdp_mline_index,
            }))
            .await;
        }
    }

    async fn on_ice_gathering_state_change(&self, state: RTCIceGatheringState) {
        if state == RTCIceGatheringState::Complete {
            self.tell(PeerEvent::GatheringDone).await;
        }
    }

    async fn on_ice_connection_state_change(&self, state: RTCIceConnectionState) {
        let state = match state {
            RTCIceConnectionState::Checking => IceState::Connecting,
            RTCIceConnectionState::Connected | RTCIceConnectionState::Completed => {
                IceState::Connected
            }
            RTCIceConnectionState::Disconnected => IceState::Disconnected,
            RTCIceConnectionState::Failed => IceState::Failed,
            _ => return,
        };
        // One that is disconnected keeps its pair.
        match state {
            IceState::Connected => self.vitals.early().set_chosen(true),
            IceState::Connecting | IceState::Failed => self.vitals.early().set_chosen(false),
            IceState::Disconnected => {}
        }
        self.tell(PeerEvent::Ice(state)).await;
    }

    async fn on_connection_state_change(&self, state: RTCPeerConnectionState) {
        if state == RTCPeerConnectionState::Closed {
            self.tell(PeerEvent::Closed).await;
        }
    }

    async fn on_data_channel(&self, channel: Arc<dyn DataChannel>) {
        self.tell(PeerEvent::Channel(Channel::new(channel))).await;
    }
}
