"""A peer on websockets: plain yamux in binary messages, as it is told on its standard input.

usage: peer.py server
       peer.py client URL

Each line is `ID VERB ARGUMENTS…`, and is answered with `ID ok WORDS…` or `ID error TEXT`. The answer to
0 is the address. It sends back what comes on a stream of the other side.
"""

import asyncio
import os
import struct
import sys

from websockets.asyncio.client import connect
from websockets.asyncio.server import serve
from websockets.exceptions import ConnectionClosed

HEADER = struct.Struct(">BBHII")
DATA, WINDOW, PING, GO_AWAY = range(4)
SYN, ACK, FIN, RST = 1, 2, 4, 8
CREDIT = 256 * 1024
PIECE = 10_000


class Stream:
    def __init__(self, number):
        self.number = number
        self.credit = CREDIT
        self.credited = asyncio.Event()
        self.received = asyncio.Queue()


class Peer:
    def __init__(self, socket, is_client):
        self.socket = socket
        self.next = 1 if is_client else 2
        self.streams = {}
        self.tasks = set()
        self.gone_away = asyncio.Event()

    def spawn(self, work):
        task = asyncio.create_task(work)
        self.tasks.add(task)
        task.add_done_callback(self.tasks.discard)

    async def frame(self, kind, flags, number, length, body=b""):
        await self.socket.send(HEADER.pack(0, kind, flags, number, length) + body)

    async def run(self):
        """Takes frames, which may begin and end anywhere in a message."""
        have = bytearray()
        try:
            async for message in self.socket:
                have += message
                while len(have) >= HEADER.size:
                    _, kind, flags, number, length = HEADER.unpack_from(have)
                    size = HEADER.size + (length if kind == DATA else 0)
                    if len(have) < size:
                        break
                    await self.take(kind, flags, number, length, bytes(have[HEADER.size:size]))
                    del have[:size]
        except ConnectionClosed:
            pass

    async def take(self, kind, flags, number, length, body):
        if kind == PING:
            if flags & SYN:
                await self.frame(PING, ACK, 0, length)
            return
        if kind == GO_AWAY:
            self.gone_away.set()
            return
        if flags & SYN:
            self.streams[number] = Stream(number)
            await self.frame(WINDOW, ACK, number, 0)
            self.spawn(self.echo(self.streams[number]))
        stream = self.streams.get(number)
        if stream is None:
            return
        if kind == WINDOW:
            stream.credit += length
            stream.credited.set()
        elif body:
            stream.received.put_nowait(body)
        if flags & (FIN | RST):
            stream.received.put_nowait(None)

    async def write(self, stream, data):
        for at in range(0, len(data), PIECE):
            piece = data[at:at + PIECE]
            while stream.credit < len(piece):
                stream.credited.clear()
                await stream.credited.wait()
            stream.credit -= len(piece)
            await self.frame(DATA, 0, stream.number, len(piece), piece)

    async def read(self, stream):
        """What comes next; None at the end."""
        data = await stream.received.get()
        if data is not None:
            await self.frame(WINDOW, 0, stream.number, len(data))
        return data

    async def echo(self, stream):
        while (data := await self.read(stream)) is not None:
            await self.write(stream, data)
        await self.frame(DATA, FIN, stream.number, 0)

    async def ask(self, size):
        """Opens a stream, and expects on it what it has sent."""
        stream = Stream(self.next)
        self.next += 2
        self.streams[stream.number] = stream
        await self.frame(WINDOW, SYN, stream.number, 0)
        sent = os.urandom(size)

        async def sending():
            await self.write(stream, sent)
            await self.frame(DATA, FIN, stream.number, 0)

        async def receiving():
            back = bytearray()
            while (data := await self.read(stream)) is not None:
                back += data
            return bytes(back)

        _, back = await asyncio.gather(sending(), receiving())
        if back != sent:
            raise ValueError(f"{len(back)} of {size} bytes came back, or others")
        return ""

    async def ping(self):
        await (await self.socket.ping(os.urandom(125)))
        return ""

    async def text(self):
        await self.socket.send("a text")
        return await self.ended()

    async def close(self):
        await self.frame(GO_AWAY, 0, 0, 0)
        await self.socket.close()
        return ""

    async def ended(self):
        """The code of the close, and whether the other side has gone away before."""
        await self.socket.wait_closed()
        return f"{self.socket.close_code} {self.gone_away.is_set()}"


def say(number, word, text=""):
    print(number, word, str(text).replace("\n", " "), flush=True)


async def answer(peer, line):
    number, verb, *arguments = line.split()
    try:
        say(number, "ok", await getattr(peer, verb)(*map(int, arguments)))
    except Exception as error:
        say(number, "error", repr(error))


async def obey(peer):
    peer.spawn(peer.run())
    reader = asyncio.StreamReader()
    loop = asyncio.get_running_loop()
    await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), sys.stdin)
    while line := await reader.readline():
        peer.spawn(answer(peer, line.decode()))


async def main():
    # The default, compression, is offered by the client, and not taken.
    if sys.argv[1] == "client":
        async with connect(sys.argv[2]) as socket:
            say(0, "ok", sys.argv[2])
            await obey(Peer(socket, True))
        return
    arrived = asyncio.get_running_loop().create_future()

    async def handler(socket):
        arrived.set_result(socket)
        await socket.wait_closed()

    async with serve(handler, "127.0.0.1", 0) as server:
        host, port = server.sockets[0].getsockname()
        say(0, "ok", f"{host}:{port}")
        await obey(Peer(await arrived, False))


asyncio.run(main())
