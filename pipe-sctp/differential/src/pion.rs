//! [`Stack`] for the two descendants of pion's SCTP.

use crate::sim::{Output, Sending, Stack};
use bytes::Bytes;
use std::collections::VecDeque;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::{Duration, Instant};

const PEER: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(Ipv4Addr::LOCALHOST), 5001);

/// Largest message of these endpoints in bytes.
const MAX_MESSAGE: u32 = 262_144;
const RECEIVE_BUFFER: u32 = 1 << 20;

macro_rules! stack {
    ($name:ident, $module:ident, $crate_name:ident, $payload:ident) => {
        /// An endpoint, and its association once there is one.
        pub struct $name {
            endpoint: $crate_name::Endpoint,
            association: Option<($crate_name::AssociationHandle, $crate_name::Association)>,
            /// Those of earlier copies of an INIT: rtc-sctp 0.21.1 makes one for each, where RFC 9260, section 5.2.1
            /// makes none. The one whose INIT ACK the peer takes is used.
            others: Vec<($crate_name::AssociationHandle, $crate_name::Association)>,
            base: Instant,
            readable: Vec<u16>,
            opened: Vec<u16>,
            packets: VecDeque<Bytes>,
            outputs: VecDeque<Output>,
        }

        impl $name {
            fn collect(&mut self) {
                let Some((handle, association)) = &mut self.association else {
                    return;
                };
                while let Some(event) = association.poll() {
                    match event {
                        $crate_name::Event::Connected => self.outputs.push_back(Output::Connected),
                        $crate_name::Event::HandshakeFailed { reason } => {
                            self.outputs
                                .push_back(Output::Closed(format!("{reason:?}")));
                        }
                        $crate_name::Event::AssociationLost { reason, .. } => {
                            self.outputs
                                .push_back(Output::Closed(format!("{reason:?}")));
                        }
                        $crate_name::Event::Stream($crate_name::StreamEvent::Readable { id })
                            if !self.readable.contains(&id) =>
                        {
                            self.readable.push(id);
                        }
                        $crate_name::Event::Stream($crate_name::StreamEvent::Finished { id }) => {
                            self.outputs.push_back(Output::IncomingReset { stream: id });
                        }
                        _ => {}
                    }
                }
                while let Some(stream) = association.accept_stream() {
                    let id = stream.stream_identifier();
                    self.opened.push(id);
                    if !self.readable.contains(&id) {
                        self.readable.push(id);
                    }
                }
                for id in self.readable.drain(..) {
                    let Ok(mut stream) = association.stream(id) else {
                        continue;
                    };
                    while let Ok(Some(chunks)) = stream.read_sctp() {
                        let mut payload = vec![0; chunks.len()];
                        let len = chunks
                            .read(&mut payload)
                            .expect("the buffer is large enough");
                        payload.truncate(len);
                        self.outputs.push_back(Output::Message {
                            stream: id,
                            payload: payload.into(),
                        });
                    }
                }
                while let Some(event) = association.poll_endpoint_event() {
                    let _ = self.endpoint.handle_event(*handle, event);
                }
            }
        }

        impl Stack for $name {
            fn connect(&mut self, now: Duration) {
                self.association = Some($module::connect(&mut self.endpoint, self.base + now));
            }

            fn handle_packet(&mut self, now: Duration, packet: Bytes) {
                let now = self.base + now;
                match $module::handle(&mut self.endpoint, now, packet) {
                    Some((handle, $crate_name::DatagramEvent::NewAssociation(association))) => {
                        self.others.extend(self.association.take());
                        self.association = Some((handle, association));
                    }
                    Some((handle, $crate_name::DatagramEvent::AssociationEvent(event))) => {
                        let meant = |other: &($crate_name::AssociationHandle, _)| other.0 == handle;
                        if let Some(index) = self.others.iter().position(meant) {
                            let meant = self.others.swap_remove(index);
                            self.others.extend(self.association.replace(meant));
                        }
                        if let Some((_, association)) = &mut self.association {
                            association.handle_event(event);
                        }
                    }
                    _ => {}
                }
                self.collect();
            }

            fn poll_transmit(&mut self, now: Duration) -> Option<Bytes> {
                if self.packets.is_empty() {
                    let (_, association) = self.association.as_mut()?;
                    while let Some(transmit) = association.poll_transmit(self.base + now) {
                        if let $crate_name::Payload::RawEncode(packets) = transmit.$payload {
                            self.packets.extend(packets);
                        }
                    }
                    self.collect();
                }
                self.packets.pop_front()
            }

            fn poll_timeout(&mut self) -> Option<Duration> {
                let at = self.association.as_ref()?.1.poll_timeout()?;
                Some(at.saturating_duration_since(self.base))
            }

            fn handle_timeout(&mut self, now: Duration) {
                if let Some((_, association)) = &mut self.association {
                    association.handle_timeout(self.base + now);
                }
                self.collect();
            }

            fn poll_output(&mut self) -> Option<Output> {
                self.collect();
                self.outputs.pop_front()
            }

            /// Takes messages of the plain kind only: the others are settings of a stream here.
            fn send(
                &mut self,
                now: Duration,
                stream: u16,
                payload: Bytes,
                sending: Sending,
            ) -> bool {
                let Some((_, association)) = &mut self.association else {
                    return false;
                };
                if sending != Sending::default() {
                    return false;
                }
                if !self.opened.contains(&stream) {
                    let binary = $crate_name::PayloadProtocolIdentifier::Binary;
                    if association.open_stream(stream, binary).is_err() {
                        return false;
                    }
                    self.opened.push(stream);
                }
                $module::write(association, self.base + now, stream, &payload)
            }

            fn reset(&mut self, now: Duration, stream: u16) {
                if let Some((_, association)) = &mut self.association {
                    $module::close(association, self.base + now, stream);
                }
            }

            fn shutdown(&mut self, _now: Duration) {
                if let Some((_, association)) = &mut self.association {
                    let _ = association.shutdown();
                }
            }

            fn buffered(&mut self) -> usize {
                let Some((_, association)) = &mut self.association else {
                    return 0;
                };
                let opened = self.opened.iter();
                let amounts =
                    opened.filter_map(|id| association.stream(*id).ok()?.buffered_amount().ok());
                amounts.sum()
            }

            fn describe(&self) -> String {
                let rtt = self
                    .association
                    .as_ref()
                    .map(|(_, association)| association.rtt());
                format!("{} rtt {rtt:?}", stringify!($crate_name))
            }
        }
    };
}

stack!(SctpProto, proto, sctp_proto, payload);
stack!(RtcSctp, rtc, rtc_sctp, message);

impl SctpProto {
    /// An endpoint that never gives up retransmitting.
    pub fn new(base: Instant) -> SctpProto {
        let mut endpoint = sctp_proto::EndpointConfig::new();
        endpoint.max_payload_size(1_160);
        let mut server = sctp_proto::ServerConfig::new();
        server.transport = Arc::new(proto::transport());
        let endpoint = sctp_proto::Endpoint::new(Arc::new(endpoint), Some(Arc::new(server)));
        SctpProto {
            endpoint,
            association: None,
            others: Vec::new(),
            base,
            readable: Vec::new(),
            opened: Vec::new(),
            packets: VecDeque::new(),
            outputs: VecDeque::new(),
        }
    }
}

impl RtcSctp {
    /// An endpoint that never gives up retransmitting.
    pub fn new(base: Instant) -> RtcSctp {
        let mut endpoint = rtc_sctp::EndpointConfig::new();
        endpoint.max_payload_size(rtc_sctp::max_payload_size_for_mtu(1_188));
        let server = Some(Arc::new(rtc_sctp::ServerConfig::new(rtc::transport())));
        let protocol = rtc_shared::TransportProtocol::UDP;
        let endpoint = rtc_sctp::Endpoint::new(PEER, protocol, Arc::new(endpoint), server);
        RtcSctp {
            endpoint,
            association: None,
            others: Vec::new(),
            base,
            readable: Vec::new(),
            opened: Vec::new(),
            packets: VecDeque::new(),
            outputs: VecDeque::new(),
        }
    }
}

mod proto {
    use super::*;
    use sctp_proto::{Association, AssociationHandle, DatagramEvent, Endpoint};

    pub(super) fn transport() -> sctp_proto::TransportConfig {
        sctp_proto::TransportConfig::default()
            .with_max_receive_buffer_size(RECEIVE_BUFFER)
            .with_max_send_message_size(MAX_MESSAGE)
            .with_max_receive_message_size(MAX_MESSAGE)
            .with_max_init_retransmits(None)
            .with_max_data_retransmits(None)
    }

    pub(super) fn connect(
        endpoint: &mut Endpoint,
        _now: Instant,
    ) -> (AssociationHandle, Association) {
        let mut client = sctp_proto::ClientConfig::new();
        client.transport = Arc::new(transport());
        endpoint.connect(client, PEER).expect("valid settings")
    }

    pub(super) fn handle(
        endpoint: &mut Endpoint,
        now: Instant,
        packet: Bytes,
    ) -> Option<(AssociationHandle, DatagramEvent)> {
        endpoint.handle(now, PEER, None, None, packet)
    }

    pub(super) fn write(
        association: &mut Association,
        _now: Instant,
        id: u16,
        payload: &Bytes,
    ) -> bool {
        let binary = sctp_proto::PayloadProtocolIdentifier::Binary;
        association
            .stream(id)
            .is_ok_and(|mut stream| stream.write_sctp(payload, binary).is_ok())
    }

    pub(super) fn close(association: &mut Association, _now: Instant, id: u16) {
        if let Ok(mut stream) = association.stream(id) {
            let _ = stream.close();
        }
    }
}

mod rtc {
    use super::*;
    use rtc_sctp::{Association, AssociationHandle, DatagramEvent, Endpoint};

    pub(super) fn transport() -> rtc_sctp::TransportConfig {
        let timers = rtc_sctp::TimerConfig {
            max_t3_rtx_retrans: usize::MAX,
            max_t1_init_retrans: usize::MAX,
            max_t1_cookie_retrans: usize::MAX,
            max_ack_retrans: usize::MAX,
            ..rtc_sctp::TimerConfig::default()
        };
        rtc_sctp::TransportConfig::default()
            .with_max_receive_buffer_size(RECEIVE_BUFFER)
            .with_max_message_size(MAX_MESSAGE)
            .with_timer_config(timers)
    }

    pub(super) fn connect(
        endpoint: &mut Endpoint,
        now: Instant,
    ) -> (AssociationHandle, Association) {
        let client = rtc_sctp::ClientConfig::new(transport());
        endpoint.connect(now, client, PEER).expect("valid settings")
    }

    pub(super) fn handle(
        endpoint: &mut Endpoint,
        now: Instant,
        packet: Bytes,
    ) -> Option<(AssociationHandle, DatagramEvent)> {
        endpoint.handle(now, PEER, None, packet)
    }

    pub(super) fn write(
        association: &mut Association,
        now: Instant,
        id: u16,
        payload: &Bytes,
    ) -> bool {
        let binary = rtc_sctp::PayloadProtocolIdentifier::Binary;
        association
            .stream(id)
            .is_ok_and(|mut stream| stream.write_chunk_with_ppi(now, payload, binary).is_ok())
    }

    pub(super) fn close(association: &mut Association, now: Instant, id: u16) {
        if let Ok(mut stream) = association.stream(id) {
            let _ = stream.close(now);
        }
    }
}
