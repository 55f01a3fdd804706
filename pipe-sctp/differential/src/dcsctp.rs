//! [`Stack`] for dcsctp.

use crate::sim::{Output, Sending, Stack};
use bytes::Bytes;
use dcsctp::api::{
    DcSctpSocket, Message, Options, PpId, SendOptions, SocketEvent, SocketTime, StreamId,
    ZERO_CHECKSUM_ALTERNATE_ERROR_DETECTION_METHOD_LOWER_LAYER_DTLS,
};
use std::collections::VecDeque;
use std::time::Duration;

/// A socket of dcsctp.
pub struct Dcsctp {
    socket: Box<dyn DcSctpSocket>,
    packets: VecDeque<Bytes>,
    outputs: VecDeque<Output>,
    streams: Vec<u16>,
}

impl Dcsctp {
    /// An endpoint that never gives up retransmitting, with timers of at most 3 s as libwebrtc sets them. The
    /// default has no bound below 60 s: when the SACKs of a short flight are lost, dcsctp takes the wait for
    /// T3-rtx as the round trip of the chunks that were sent once, so that two or three such losses bring its RTO
    /// to a minute and a path of 15 % loss to a few packets a minute. `interleaving` and `zero_checksum` are offered.
    pub fn new(interleaving: bool, zero_checksum: bool) -> Dcsctp {
        let mut options = Options {
            mtu: 1_188,
            max_send_buffer_size: 64 << 20,
            per_stream_send_queue_limit: 64 << 20,
            max_retransmissions: None,
            max_init_retransmits: None,
            enable_message_interleaving: interleaving,
            heartbeat_interval: Duration::ZERO,
            max_timer_backoff_duration: Some(Duration::from_secs(3)),
            ..Options::default()
        };
        if zero_checksum {
            options.zero_checksum_alternate_error_detection_method =
                ZERO_CHECKSUM_ALTERNATE_ERROR_DETECTION_METHOD_LOWER_LAYER_DTLS;
        }
        let socket = dcsctp::new_socket("", &options);
        Dcsctp {
            socket,
            packets: VecDeque::new(),
            outputs: VecDeque::new(),
            streams: Vec::new(),
        }
    }

    fn at(&mut self, now: Duration) {
        self.socket.advance_time(SocketTime::zero() + now);
    }

    fn collect(&mut self) {
        // Messages first: those of before a reset were complete before it.
        while let Some(message) = self.socket.get_next_message() {
            let (stream, payload) = (message.stream_id.0, message.payload.into());
            self.outputs.push_back(Output::Message { stream, payload });
        }
        while let Some(event) = self.socket.poll_event() {
            match event {
                SocketEvent::SendPacket(packet) => self.packets.push_back(packet.into()),
                SocketEvent::OnConnected() => self.outputs.push_back(Output::Connected),
                SocketEvent::OnConnectionRestarted() => self.outputs.push_back(Output::Restarted),
                SocketEvent::OnClosed() => self.outputs.push_back(Output::Closed(String::new())),
                SocketEvent::OnAborted(kind, text) => {
                    self.outputs
                        .push_back(Output::Closed(format!("{kind:?} {text}")));
                }
                SocketEvent::OnIncomingStreamReset(streams) => {
                    let resets = streams
                        .iter()
                        .map(|stream| Output::IncomingReset { stream: stream.0 });
                    self.outputs.extend(resets);
                }
                SocketEvent::OnStreamsResetPerformed(streams) => {
                    let resets = streams
                        .iter()
                        .map(|stream| Output::OutgoingReset { stream: stream.0 });
                    self.outputs.extend(resets);
                }
                SocketEvent::OnStreamsResetFailed(streams) => {
                    let denied = streams
                        .iter()
                        .map(|stream| Output::ResetDenied { stream: stream.0 });
                    self.outputs.extend(denied);
                }
                _ => {}
            }
        }
    }
}

impl Stack for Dcsctp {
    fn connect(&mut self, now: Duration) {
        self.at(now);
        self.socket.connect();
        self.collect();
    }

    fn handle_packet(&mut self, now: Duration, packet: Bytes) {
        self.at(now);
        self.socket.handle_input(&packet);
        self.collect();
    }

    fn poll_transmit(&mut self, now: Duration) -> Option<Bytes> {
        self.at(now);
        self.collect();
        self.packets.pop_front()
    }

    fn poll_timeout(&mut self) -> Option<Duration> {
        let at = self.socket.poll_timeout();
        (at != SocketTime::infinite_future()).then(|| at - SocketTime::zero())
    }

    fn handle_timeout(&mut self, now: Duration) {
        self.at(now);
        self.collect();
    }

    fn poll_output(&mut self) -> Option<Output> {
        self.collect();
        self.outputs.pop_front()
    }

    /// Takes no lifetime for a message of several fragments. When it ends between two of them, dcsctp 0.1.16 drops
    /// the rest and begins the next message; it gives the first one up only when a fragment of it is lost too. Then
    /// the END that it puts in place of the rest takes a TSN amid the fragments of the next message, which no
    /// receiver can join (RFC 9260, section 6.9), and otherwise the stream waits for ever.
    fn send(&mut self, now: Duration, stream: u16, payload: Bytes, sending: Sending) -> bool {
        self.at(now);
        if sending.lifetime.is_some() && payload.len() > 1_000 {
            return false;
        }
        let options = SendOptions {
            unordered: sending.unordered,
            lifetime: sending.lifetime,
            max_retransmissions: sending.max_retransmits,
            lifecycle_id: None,
        };
        let message = Message::new(StreamId(stream), PpId(53), payload.to_vec());
        let taken = self.socket.send(message, &options).is_ok();
        if taken && !self.streams.contains(&stream) {
            self.streams.push(stream);
        }
        self.collect();
        taken
    }

    fn reset(&mut self, now: Duration, stream: u16) {
        self.at(now);
        // Refused for a stream that was not used; such a reset is not asked for.
        let _ = self.socket.reset_streams(&[StreamId(stream)]);
        self.collect();
    }

    /// It drops what it has not begun to send.
    fn reset_discards(&mut self, stream: u16) -> bool {
        self.socket.buffered_amount(StreamId(stream)) > 0
    }

    fn shutdown(&mut self, now: Duration) {
        self.at(now);
        self.socket.shutdown();
        self.collect();
    }

    fn buffered(&mut self) -> usize {
        self.streams
            .iter()
            .map(|stream| self.socket.buffered_amount(StreamId(*stream)))
            .sum()
    }

    fn describe(&self) -> String {
        format!("dcsctp {:?}", self.socket.state())
    }
}
