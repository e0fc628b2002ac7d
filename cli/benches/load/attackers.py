"""The floods of flood.py, and the app that holds what some of them open.

An attacker opens connections by `connect`, does its worst with each, and begins again when that ends.
"""
import asyncio
import functools
import os
import socket
import struct
import sys
import time
import types

CONNECTOR = "127.0.0.1"  # where connectors dial from
ONE, MANY = ["127.0.1.1"], [f"127.0.1.{number}" for number in range(1, 201)]
WEBSOCKET = ["Connection: Upgrade", "Upgrade: websocket", "Sec-WebSocket-Version: 13",
             "Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA=="]


def request(method, path, *fields):
    return "\r\n".join([f"{method} {path} HTTP/1.1", "Host: flood.example", *fields, "", ""]).encode()


class Nobody:
    """The visitor is alone; and what the other floods have in common."""
    count = 0
    sources = MANY
    descriptors = None  # how many the gateway may have, as ulimit -n
    beside_nginx = True  # whether nginx can have the same flood
    pause_seconds = 0.5  # before an attacker begins again

    def __init__(self, secret, pin):
        self.secret, self.pin = secret, pin

    async def attack(self, number, connect):
        """Does it once, on one connection."""

    async def attacker(self, number, to):
        async def connect():
            return await asyncio.open_connection(*to, local_addr=(self.sources[number % len(self.sources)], 0))

        await asyncio.sleep(number / self.count)
        while True:
            try:
                await self.attack(number, connect)
            except (OSError, EOFError, SystemExit):
                pass
            await asyncio.sleep(self.pause_seconds)

    async def run(self, to):
        await asyncio.gather(*(self.attacker(number, to) for number in range(self.count)))


class Idle(Nobody):
    """Connections on which nothing is said."""
    count = 3000

    async def attack(self, number, connect):
        reader, _ = await connect()
        await reader.read()


class IdleFew(Idle):
    """The same, more than there are descriptors."""
    count, descriptors = 316, 256


class HalfHeads(Nobody):
    """A part of a head, and no more."""
    count = 3000

    async def attack(self, number, connect):
        reader, writer = await connect()
        writer.write(b"GET / HTTP/1.1\r\nHost: slow")
        await reader.read()


class Unread(Nobody):
    """Requests for 1 MiB of which nothing is read."""
    count = 400

    async def attack(self, number, connect):
        _, writer = await connect()
        writer.transport.pause_reading()
        writer.write(request("GET", "/large"))
        await asyncio.sleep(3600)


class Crowd(Nobody):
    """Small requests, one at a time on each connection."""
    count = 1500

    async def attack(self, number, connect):
        reader, writer = await connect()
        while True:
            writer.write(request("GET", "/"))
            head = (await reader.readuntil(b"\r\n\r\n")).lower()
            await reader.readexactly(int(head.partition(b"content-length:")[2].partition(b"\r\n")[0] or 0))
            await asyncio.sleep(1)


class Uploads(Nobody):
    """Uploads of one visitor to an app that takes them, a byte every 2 s."""
    count, sources = 600, ONE

    async def attack(self, number, connect):
        reader, writer = await connect()
        writer.write(request("POST", "/hold", "Content-Length: 1000000"))
        while not reader.at_eof():
            writer.write(b"x")
            await writer.drain()
            await asyncio.sleep(2)


class Uploads2000(Uploads):
    """More of them."""
    count = 2000


class WebSockets(Nobody):
    """Upgraded connections of one visitor that rest."""
    count, sources = 600, ONE

    async def attack(self, number, connect):
        reader, writer = await connect()
        writer.write(request("GET", "/hold", *WEBSOCKET))
        await reader.read()


class WebSockets2000(WebSockets):
    """More of them."""
    count = 2000


class ComeAndGo(Nobody):
    """Connections that are reset as soon as they are open."""
    count = 300

    async def attack(self, number, connect):
        _, writer = await connect()
        writer.transport.abort()


class WrongJoins(Nobody):
    """Joins with a wrong signature, some 40 a second, from one address."""
    count, sources, beside_nginx = 20, ONE, False

    async def attack(self, number, connect):
        reader, writer = await connect()
        wrong = "A" * 43
        writer.write(request("GET", "/_connect_tunnel", *WEBSOCKET, "Sec-WebSocket-Protocol: gesher.v2",
                             "Gesher-Seal: fernet", f"X-Join-Code: {wrong}",
                             f"Authorization: Gesher {int(time.time())}.{wrong}.{wrong}."))
        await reader.readuntil(b"\r\n\r\n")
        writer.transport.abort()


class WrongJoinsHere(WrongJoins):
    """The same from the connectors' own address, as behind a proxy."""
    sources = [CONNECTOR]


class Links(Nobody):
    """Links of who has secret and PIN, some 20 coming and going a second; all want each list of connectors."""
    count, sources, beside_nginx, pause_seconds = 200, MANY, False, 0
    guests = 40
    reads = True

    def join(self, sock):
        link = connector.Link(sock, *connector.join(sock, "flood.example", self.secret.encode(), self.pin))
        sock.setblocking(False)
        return link

    async def attack(self, number, connect):
        sock = socket.create_connection(self.to, 10, (self.sources[number % len(self.sources)], 0))
        link = await asyncio.get_running_loop().run_in_executor(None, self.join, sock)
        reader, writer = await asyncio.open_connection(sock=sock)
        link.connection = types.SimpleNamespace(sendall=writer.write)
        # No streams: visitors' requests are for others.
        link.say(connector.HELLO, 0, struct.pack(">BII", 2, 0, 0) + connector.tlv(2, os.urandom(16))
                 + connector.tlv(4, struct.pack(">Q", 1)))
        if not self.reads:
            writer.transport.pause_reading()
        try:
            until = time.monotonic() + (2 if number < self.guests else 3600)
            while time.monotonic() < until and not reader.at_eof():
                link.say(10, 0)  # PEERS
                link.flush()
                if self.reads:
                    await reader.read(1 << 20)
                await asyncio.sleep(1)
        finally:
            writer.transport.abort()

    async def run(self, to):
        self.to = to
        await super().run(to)


class LinksUnread(Links):
    """The same, of which nothing is read."""
    count, reads = 400, False


FLOODS = {"none": Nobody, "idle": Idle, "idle-few": IdleFew, "half-heads": HalfHeads, "unread": Unread, "crowd": Crowd,
          "uploads": Uploads, "uploads-2000": Uploads2000, "websockets": WebSockets, "websockets-2000": WebSockets2000,
          "come-and-go": ComeAndGo, "wrong-joins": WrongJoins, "wrong-joins-here": WrongJoinsHere,
          "links": Links, "links-unread": LinksUnread}

sys.path.append(os.path.join(os.path.dirname(os.path.abspath(__file__)), "../../tests/interop"))
try:
    import connector
    connector.argon2id = functools.cache(connector.argon2id)
except ImportError:
    del FLOODS["links"], FLOODS["links-unread"]
    print("SKIPPED: links and links-unread need Python's cryptography", file=sys.stderr)


async def hold(reader, writer):
    """An app that upgrades to whatever it is asked for, and answers nothing else: it takes what comes until it ends."""
    head = await reader.readuntil(b"\r\n\r\n")
    if b"\r\nupgrade:" in head.lower():
        writer.write(b"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n")
    while await reader.read(1 << 16):
        pass
    writer.close()


async def serve(port):
    server = await asyncio.start_server(hold, "127.0.0.1", port, backlog=4096)
    await server.serve_forever()
