"""A peer on aioquic: plain QUIC streams, or those of WebTransport, as it is told on its standard input.

usage: peer.py server ALPN|webtransport
       peer.py client HOST:PORT ALPN|webtransport

Each line is `ID VERB ARGUMENTS…`, and is answered with `ID ok WORDS…` or `ID error TEXT`. The answer to
0 is the address: a server's carries the hash of its certificate.
"""

import asyncio
import datetime
import hashlib
import ssl
import sys
import tempfile

from aioquic.asyncio import QuicConnectionProtocol, connect, serve
from aioquic.h3 import events as h3_events
from aioquic.h3.connection import H3_ALPN, FrameType, H3Connection
from aioquic.quic.configuration import QuicConfiguration
from aioquic.quic import events
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

WINDOW = 1 << 20


class Stream:
    def __init__(self):
        self.count = 0
        self.hash = hashlib.sha256()
        self.ending = asyncio.get_running_loop().create_future()
        self.stopped = asyncio.get_running_loop().create_future()

    def end(self, how):
        if not self.ending.done():
            self.ending.set_result(how)


class Peer(QuicConnectionProtocol):
    def __init__(self, *args, **kwargs):
        super().__init__(*args, **kwargs)
        self.streams = {}
        self.accepted = asyncio.Queue()
        self.over = asyncio.get_running_loop().create_future()
        if ready is not None and not ready.done():
            ready.set_result(self)

    def stream(self, number):
        if number not in self.streams:
            self.streams[number] = Stream()
            ours = (number % 2 == 0) == self._quic.configuration.is_client
            if not ours:
                self.accepted.put_nowait(number)
        return self.streams[number]

    def quic_event_received(self, event):
        if isinstance(event, events.StreamDataReceived):
            stream = self.stream(event.stream_id)
            stream.count += len(event.data)
            stream.hash.update(event.data)
            if event.end_stream:
                stream.end("end")
        elif isinstance(event, events.StreamReset):
            self.stream(event.stream_id).end(f"reset {event.error_code}")
        elif isinstance(event, events.StopSendingReceived):
            stopped = self.stream(event.stream_id).stopped
            if not stopped.done():
                stopped.set_result(event.error_code)
        elif isinstance(event, events.ConnectionTerminated):
            self.over.set_result((event.error_code, event.reason_phrase))

    async def do(self, verb, words):
        quic = self._quic
        if verb == "open":
            number = quic.get_next_available_stream_id()
            self.stream(number)
            quic.send_stream_data(number, b"")
            return number
        if verb == "accept":
            return await self.accepted.get()
        if verb == "close":
            quic.close(error_code=int(words[0]), reason_phrase=" ".join(words[1:]))
            self.transmit()
            return ""
        if verb == "closed":
            code, reason = await self.over
            return f"{code} {reason}"
        number = int(words[0])
        if verb == "send":
            data = bytes((i * 7 + number) % 251 for i in range(int(words[1])))
            quic.send_stream_data(number, data)
            answer = hashlib.sha256(data).hexdigest()
        elif verb == "finish":
            quic.send_stream_data(number, b"", end_stream=True)
            answer = ""
        elif verb == "reset":
            quic.reset_stream(number, int(words[1]))
            answer = ""
        elif verb == "stop":
            quic.stop_stream(number, int(words[1]))
            answer = ""
        elif verb == "stopped":
            return await self.stream(number).stopped
        elif verb == "read":
            stream = self.stream(number)
            ending = await stream.ending
            return f"{stream.count} {stream.hash.hexdigest()} {ending}"
        else:
            raise ValueError(f"no verb {verb}")
        self.transmit()
        return answer


# The first code of HTTP/3 for those of WebTransport (draft-ietf-webtrans-http3, section 4.4).
FIRST_CODE = 0x52E4A40FA8DB
CLOSE_SESSION = 0x2843


def to_http(code):
    return FIRST_CODE + code + code // 0x1E


def from_http(code):
    code -= FIRST_CODE
    return code - code // 0x1F


class WebPeer(Peer):
    """A session of WebTransport. The client asks for it; the server grants it to the first who does."""

    def __init__(self, *args, **kwargs):
        super().__init__(*args, **kwargs)
        self.http = H3Connection(self._quic, enable_webtransport=True)
        self.session = None
        self.granted = asyncio.get_running_loop().create_future()
        self.last = b""

    async def ask(self, host):
        self.session = self._quic.get_next_available_stream_id()
        self.http.send_headers(
            self.session,
            [
                (b":method", b"CONNECT"),
                (b":scheme", b"https"),
                (b":authority", host.encode()),
                (b":path", b"/path"),
                (b":protocol", b"webtransport"),
            ],
        )
        self.transmit()
        await self.granted

    def quic_event_received(self, event):
        if isinstance(event, events.StreamReset):
            self.stream(event.stream_id).end(f"reset {from_http(event.error_code)}")
        elif isinstance(event, events.StopSendingReceived):
            stopped = self.stream(event.stream_id).stopped
            if not stopped.done():
                stopped.set_result(from_http(event.error_code))
        elif isinstance(event, events.ConnectionTerminated):
            if not self.over.done():
                self.over.set_result((0, event.reason_phrase))
        for told in self.http.handle_event(event):
            self.http_event_received(told)

    def http_event_received(self, event):
        if isinstance(event, h3_events.HeadersReceived):
            if self._quic.configuration.is_client:
                status = dict(event.headers)[b":status"]
                if status == b"200":
                    self.granted.set_result(None)
                else:
                    self.granted.set_exception(RuntimeError(f"status {status}"))
            else:
                self.session = event.stream_id
                self.http.send_headers(event.stream_id, [(b":status", b"200")])
                self.transmit()
        elif isinstance(event, h3_events.DataReceived) and event.stream_id == self.session:
            self.last += event.data
            if event.stream_ended and not self.over.done():
                code = int.from_bytes(self.last[3:7], "big")
                self.over.set_result((code, self.last[7:].decode()))
        elif isinstance(event, h3_events.WebTransportStreamDataReceived):
            stream = self.stream(event.stream_id)
            stream.count += len(event.data)
            stream.hash.update(event.data)
            if event.stream_ended:
                stream.end("end")

    async def do(self, verb, words):
        if verb == "open":
            number = self.http.create_webtransport_stream(self.session)
            # aioquic (1.3) takes what comes back on it for frames of HTTP otherwise.
            with self.http._get_or_create_stream(number) as stream:
                stream.frame_type = FrameType.WEBTRANSPORT_STREAM
                stream.session_id = self.session
            self.stream(number)
            self.transmit()
            return number
        if verb in ("reset", "stop"):
            words = [words[0], to_http(int(words[1]))]
        if verb == "close":
            reason = " ".join(words[1:]).encode()
            payload = int(words[0]).to_bytes(4, "big") + reason
            capsule = (0x4000 | CLOSE_SESSION).to_bytes(2, "big") + bytes([len(payload)]) + payload
            self.http.send_data(self.session, capsule, end_stream=True)
            self.transmit()
            return ""
        return await super().do(verb, words)


def certificate():
    """A key and a certificate of its own, in PEM, and the hash of the certificate."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "localhost")])
    now = datetime.datetime.now(datetime.timezone.utc)
    cert = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(days=1))
        .not_valid_after(now + datetime.timedelta(days=1))
        .sign(key, hashes.SHA256())
    )
    der = cert.public_bytes(serialization.Encoding.DER)
    pem = cert.public_bytes(serialization.Encoding.PEM) + key.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.NoEncryption(),
    )
    return pem, hashlib.sha256(der).hexdigest()


async def obey(peer):
    loop = asyncio.get_running_loop()
    lines = asyncio.StreamReader()
    await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(lines), sys.stdin)
    running = set()

    async def answer(line):
        number, verb, *words = line.split()
        try:
            if not peer.done():
                await peer
            told = await peer.result().do(verb, words)
            print(number, "ok", told, flush=True)
        except Exception as error:
            print(number, "error", type(error).__name__, error, flush=True)

    while line := (await lines.readline()).decode():
        task = asyncio.create_task(answer(line))
        running.add(task)
        task.add_done_callback(running.discard)


async def main():
    global ready
    ready = asyncio.get_running_loop().create_future()
    role, *words = sys.argv[1:]
    is_web = words[-1] == "webtransport"
    protocol = WebPeer if is_web else Peer
    config = QuicConfiguration(
        is_client=role == "client",
        alpn_protocols=H3_ALPN if is_web else [words[-1]],
        max_datagram_frame_size=65536 if is_web else None,
        max_data=8 * WINDOW,
        max_stream_data=WINDOW,
    )
    if role == "server":
        pem, digest = certificate()
        with tempfile.NamedTemporaryFile() as file:
            file.write(pem)
            file.flush()
            config.load_cert_chain(file.name, file.name)
        server = await serve("127.0.0.1", 0, configuration=config, create_protocol=protocol)
        port = server._transport.get_extra_info("sockname")[1]
        print("0 ok", f"127.0.0.1:{port}?cert-sha256={digest}", flush=True)
        await obey(ready)
        server.close()
        return
    config.verify_mode = ssl.CERT_NONE
    host, port = words[0].rsplit(":", 1)
    async with connect(host, int(port), configuration=config, create_protocol=protocol) as peer:
        await peer.wait_connected()
        if is_web:
            await peer.ask(words[0])
        print("0 ok", words[0], flush=True)
        await obey(ready)


ready = None
asyncio.run(main())
