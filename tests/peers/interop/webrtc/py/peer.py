"""A peer on aiortc, which does what it is told on its standard input.

usage: peer.py offer|answer

Each line is `ID VERB ARGUMENTS…`, and is answered with `ID ok WORDS…` or `ID error TEXT`, as in peer.rs.
The verbs are those of peer.mjs. The signals are those of docs/wire-webrtc.md, in JSON.
"""

import asyncio
import hashlib
import json
import os
import sys

import aioice.ice
from aiortc import RTCConfiguration, RTCPeerConnection, RTCSessionDescription
from aiortc.sdp import candidate_from_sdp

# By itself it leaves the loopback addresses out.
aioice.ice.get_host_addresses = lambda use_ipv4, use_ipv6: ["127.0.0.1"]


class Channel:
    """A data channel whose messages are taken when they are asked for."""

    def __init__(self, channel):
        self.channel = channel
        self.messages = asyncio.Queue()
        self.opened = asyncio.Event()
        self.closed = asyncio.Event()
        channel.on("message", self.messages.put_nowait)
        channel.on("open", self.opened.set)
        channel.on("close", self.closed.set)
        if channel.readyState == "open":
            self.opened.set()

    async def take(self, count):
        """The messages that carry the next so many bytes."""
        while count > 0:
            message = await self.messages.get()
            count -= len(message)
            yield message


class Peer:
    def __init__(self, offers):
        self.connection = RTCPeerConnection(RTCConfiguration(iceServers=[]))
        self.signals = asyncio.Queue()
        self.accepted = asyncio.Queue()
        self.echoed = asyncio.Queue()
        self.channels = {}
        self.connection.on(
            "datachannel", lambda channel: self.accepted.put_nowait(Channel(channel))
        )
        self.ping = self.negotiated("ping", 2 if offers else 1)
        echo = self.negotiated("echo", 1 if offers else 2).channel

        @echo.on("message")
        def send_back(message):
            echo.send(message)
            self.echoed.put_nowait(len(message))

    def negotiated(self, label, number):
        return Channel(
            self.connection.createDataChannel(label, negotiated=True, id=number)
        )

    async def describe(self, description):
        """Gathers, and says the description with the candidates in it."""
        await self.connection.setLocalDescription(description)
        said = self.connection.localDescription
        self.signals.put_nowait({"type": said.type, "sdp": said.sdp})
        self.signals.put_nowait({"type": "end-of-candidates"})

    async def hear(self, signal):
        kind = signal["type"]
        if kind in ("offer", "answer"):
            description = RTCSessionDescription(signal["sdp"], kind)
            await self.connection.setRemoteDescription(description)
            if kind == "offer":
                await self.describe(await self.connection.createAnswer())
        elif kind == "candidate":
            candidate = candidate_from_sdp(signal["candidate"].removeprefix("candidate:"))
            candidate.sdpMid = signal["sdpMid"]
            candidate.sdpMLineIndex = signal["sdpMLineIndex"]
            await self.connection.addIceCandidate(candidate)
        elif kind == "end-of-candidates":
            await self.connection.addIceCandidate(None)
        else:
            raise ValueError(f"a signal of type {kind}")

    async def keep(self, channel):
        """Keeps a channel under its number."""
        await channel.opened.wait()
        self.channels[channel.channel.id] = channel
        return channel.channel.id

    async def do(self, verb, words):
        if verb == "signals":
            return json.dumps(await self.signals.get())
        if verb == "signal":
            return await self.hear(json.loads(" ".join(words)))
        if verb == "ping":
            await self.ping.opened.wait()
            sent = os.urandom(64)
            self.ping.channel.send(sent)
            back = await self.ping.messages.get()
            return f"{sent.hex()} {back.hex()}"
        if verb == "echoed":
            return await self.echoed.get()
        if verb == "open":
            return await self.keep(Channel(self.connection.createDataChannel(words[0])))
        if verb == "accept":
            channel = await self.accepted.get()
            return f"{await self.keep(channel)} {channel.channel.label}"
        if verb == "end":
            return await self.connection.close()
        if verb == "ended":
            await self.ping.closed.wait()
            return None
        channel = self.channels[int(words[0])]
        if verb == "echo":
            async for message in channel.take(int(words[1])):
                channel.channel.send(message)
        elif verb == "send":
            sent = hashlib.sha256()
            for _ in range(int(words[1])):
                message = os.urandom(int(words[2]))
                sent.update(message)
                channel.channel.send(message)
            return sent.hexdigest()
        elif verb == "receive":
            received = hashlib.sha256()
            async for message in channel.take(int(words[1])):
                received.update(message)
            return received.hexdigest()
        elif verb == "close":
            channel.channel.close()
            await channel.closed.wait()
        elif verb == "closed":
            await channel.closed.wait()
        else:
            raise ValueError(f"no verb {verb}")


async def main():
    offers = sys.argv[1] == "offer"
    loop = asyncio.get_running_loop()
    lines = asyncio.StreamReader(limit=1 << 20)
    await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(lines), sys.stdin)
    peer = Peer(offers)
    running = set()

    async def answer(line):
        number, verb, *words = line.split()
        try:
            told = await peer.do(verb, words)
            print(number, "ok", "" if told is None else told, flush=True)
        except Exception as error:
            print(number, "error", type(error).__name__, error, flush=True)

    print("0 ok", sys.argv[1], flush=True)
    if offers:
        await peer.describe(await peer.connection.createOffer())
    while line := (await lines.readline()).decode():
        task = asyncio.create_task(answer(line))
        running.add(task)
        task.add_done_callback(running.discard)


asyncio.run(main())
