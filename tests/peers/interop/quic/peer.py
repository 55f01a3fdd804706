"""A peer on aioquic: plain QUIC streams, as it is told on its standard input.

usage: peer.py server ALPN
       peer.py client HOST:PORT ALPN

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
    config = QuicConfiguration(
        is_client=role == "client",
        alpn_protocols=[words[-1]],
        max_data=8 * WINDOW,
        max_stream_data=WINDOW,
    )
    if role == "server":
        pem, digest = certificate()
        with tempfile.NamedTemporaryFile() as file:
            file.write(pem)
            file.flush()
            config.load_cert_chain(file.name, file.name)
        server = await serve("127.0.0.1", 0, configuration=config, create_protocol=Peer)
        port = server._transport.get_extra_info("sockname")[1]
        print("0 ok", f"127.0.0.1:{port}?cert-sha256={digest}", flush=True)
        await obey(ready)
        server.close()
        return
    config.verify_mode = ssl.CERT_NONE
    host, port = words[0].rsplit(":", 1)
    async with connect(host, int(port), configuration=config, create_protocol=Peer) as peer:
        await peer.wait_connected()
        print("0 ok", words[0], flush=True)
        await obey(ready)


ready = None
asyncio.run(main())
