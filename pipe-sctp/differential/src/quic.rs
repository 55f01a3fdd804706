//! [`Stack`] for QUIC of quinn: the yardstick of throughput and fairness.

use crate::sim::{Output, Sending, Stack};
use bytes::Bytes;
use quinn_proto::{
    ClientConfig, Connection, ConnectionHandle, DatagramEvent, Dir, Endpoint, EndpointConfig,
    Event, ServerConfig, StreamEvent, StreamId, TransportConfig, WriteError,
};
use std::collections::{BTreeMap, VecDeque};
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::{Duration, Instant};

/// Bytes of IP and UDP around a packet.
pub const OVERHEAD: usize = 28;

/// Size of the packets in bytes: with their overhead those of SCTP with its own.
const MTU: u16 = 1_228;

/// One endpoint with one connection. A stream of messages is a stream of bytes without their bounds.
pub struct Quic {
    endpoint: Endpoint,
    connection: Option<(ConnectionHandle, Connection)>,
    client: Option<ClientConfig>,
    base: Instant,
    streams: BTreeMap<u16, (StreamId, Bytes)>,
    outputs: VecDeque<Output>,
    readable: Vec<StreamId>,
    /// Whether a stream that was blocked may take more.
    writable: bool,
}

const PEER: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 1);

fn transport() -> Arc<TransportConfig> {
    let mut transport = TransportConfig::default();
    transport
        .congestion_controller_factory(Arc::new(quinn_proto::congestion::CubicConfig::default()))
        .initial_mtu(MTU)
        .mtu_discovery_config(None)
        .receive_window(16_000_000u32.into())
        .stream_receive_window(16_000_000u32.into())
        .send_window(16_000_000)
        .max_idle_timeout(None);
    Arc::new(transport)
}

impl Quic {
    /// Returns a client and a server with a certificate made on the spot.
    pub fn pair(base: Instant) -> [Box<dyn Stack>; 2] {
        let made = rcgen::generate_simple_self_signed(["localhost".into()]).expect("a certificate");
        let certificate = made.cert.der().clone();
        let key = rustls::pki_types::PrivatePkcs8KeyDer::from(made.signing_key.serialize_der());
        let mut server = ServerConfig::with_single_cert(vec![certificate.clone()], key.into())
            .expect("a valid certificate");
        server.transport_config(transport());
        let mut roots = rustls::RootCertStore::empty();
        roots.add(certificate).expect("a valid certificate");
        let mut client =
            ClientConfig::with_root_certificates(Arc::new(roots)).expect("valid roots");
        client.transport_config(transport());
        let server = Quic::new(base, Some(Arc::new(server)), None);
        [
            Box::new(Quic::new(base, None, Some(client))),
            Box::new(server),
        ]
    }

    fn new(base: Instant, server: Option<Arc<ServerConfig>>, client: Option<ClientConfig>) -> Quic {
        Quic {
            endpoint: Endpoint::new(
                Arc::new(EndpointConfig::default()),
                server,
                false,
                Some([7; 32]),
            ),
            connection: None,
            client,
            base,
            streams: BTreeMap::new(),
            outputs: VecDeque::new(),
            readable: Vec::new(),
            writable: false,
        }
    }

    fn collect(&mut self) {
        let Some((handle, connection)) = &mut self.connection else {
            return;
        };
        while let Some(event) = connection.poll_endpoint_events() {
            if let Some(event) = self.endpoint.handle_event(*handle, event) {
                connection.handle_event(event);
            }
        }
        while let Some(event) = connection.poll() {
            match event {
                Event::Connected => self.outputs.push_back(Output::Connected),
                Event::ConnectionLost { reason } => {
                    self.outputs.push_back(Output::Closed(reason.to_string()))
                }
                Event::Stream(StreamEvent::Readable { id }) => self.readable.push(id),
                Event::Stream(StreamEvent::Writable { .. }) => self.writable = true,
                _ => {}
            }
        }
        while let Some(id) = connection.streams().accept(Dir::Uni) {
            self.readable.push(id);
        }
        for id in std::mem::take(&mut self.readable) {
            let mut stream = connection.recv_stream(id);
            let Ok(mut chunks) = stream.read(true) else {
                continue;
            };
            while let Ok(Some(chunk)) = chunks.next(usize::MAX) {
                self.outputs.push_back(Output::Message {
                    stream: id.index() as u16,
                    payload: chunk.bytes,
                });
            }
            let _ = chunks.finalize();
        }
        if std::mem::take(&mut self.writable) {
            for (id, rest) in self.streams.values_mut() {
                write(connection, *id, rest);
            }
        }
    }
}

/// Writes what the connection takes of `rest`.
fn write(connection: &mut Connection, id: StreamId, rest: &mut Bytes) {
    while !rest.is_empty() {
        match connection
            .send_stream(id)
            .write_chunks(std::slice::from_mut(rest))
        {
            Ok(_) => {}
            Err(WriteError::Blocked) => return,
            Err(error) => panic!("{error}"),
        }
    }
}

impl Stack for Quic {
    fn connect(&mut self, now: Duration) {
        let client = self.client.take().expect("a client connects once");
        let connected = self
            .endpoint
            .connect(self.base + now, client, PEER, "localhost");
        self.connection = Some(connected.expect("valid settings"));
    }

    fn handle_packet(&mut self, now: Duration, packet: Bytes) {
        let now = self.base + now;
        let mut buffer = Vec::new();
        let event = self
            .endpoint
            .handle(now, PEER, None, None, packet[..].into(), &mut buffer);
        match event {
            Some(DatagramEvent::NewConnection(incoming)) => {
                let accepted = self.endpoint.accept(incoming, now, &mut buffer, None);
                self.connection = Some(accepted.unwrap_or_else(|error| panic!("{}", error.cause)));
            }
            Some(DatagramEvent::ConnectionEvent(_, event)) => {
                if let Some((_, connection)) = &mut self.connection {
                    connection.handle_event(event);
                }
            }
            Some(DatagramEvent::Response(_)) | None => {}
        }
        self.collect();
    }

    fn poll_transmit(&mut self, now: Duration) -> Option<Bytes> {
        self.collect();
        let (_, connection) = self.connection.as_mut()?;
        let mut buffer = Vec::with_capacity(1_500);
        let transmit = connection.poll_transmit(self.base + now, 1, &mut buffer)?;
        buffer.truncate(transmit.size);
        Some(buffer.into())
    }

    fn poll_timeout(&mut self) -> Option<Duration> {
        let at = self.connection.as_mut()?.1.poll_timeout()?;
        Some(at.saturating_duration_since(self.base))
    }

    fn handle_timeout(&mut self, now: Duration) {
        if let Some((_, connection)) = &mut self.connection {
            connection.handle_timeout(self.base + now);
        }
        self.collect();
    }

    fn poll_output(&mut self) -> Option<Output> {
        self.collect();
        self.outputs.pop_front()
    }

    /// Takes one message beyond what the connection has room for.
    fn send(&mut self, _now: Duration, stream: u16, payload: Bytes, _sending: Sending) -> bool {
        let Some((_, connection)) = &mut self.connection else {
            return false;
        };
        let (id, rest) = self.streams.entry(stream).or_insert_with(|| {
            let id = connection.streams().open(Dir::Uni).expect("few streams");
            (id, Bytes::new())
        });
        if !rest.is_empty() {
            return false;
        }
        *rest = payload;
        write(connection, *id, rest);
        true
    }

    fn reset(&mut self, _now: Duration, _stream: u16) {}

    fn shutdown(&mut self, _now: Duration) {}

    fn buffered(&mut self) -> usize {
        self.streams.values().map(|(_, rest)| rest.len()).sum()
    }

    fn describe(&self) -> String {
        self.connection
            .as_ref()
            .map_or(String::new(), |(_, connection)| {
                format!("{:?}", connection.stats().path)
            })
    }
}
