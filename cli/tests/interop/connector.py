"""A connector in Python, made from docs/protocol.md and nothing of Gesher's code, so that the two cannot drift apart.

    GESHER_SECRET=... python3 connector.py HOST PORT PIN

Needs the package cryptography, and argon2-cffi where that has no Argon2id. It answers requests itself:
GET /hello with a text, GET /large?N with N bytes, everything else with the body that came. It prints a line when it has
joined, one for each request, and one when the gateway says goodbye.
"""

import base64
import hashlib
import hmac
import os
import socket
import struct
import sys
import time

from cryptography.hazmat.primitives import padding
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

WINDOW = 65536
HELLO, REQUEST, RESPONSE, DATA, END, RESET, WINDOW_FRAME, PING, PONG, GOAWAY = range(10)
NONE, SIZED, UNKNOWN, UPGRADE, UPGRADE_AFTER_SIZED = range(5)


def argon2id(password, salt):
    try:
        from argon2.low_level import Type, hash_secret_raw
    except ImportError:
        from cryptography.hazmat.primitives.kdf.argon2 import Argon2id
        return Argon2id(salt=salt, length=32, iterations=5, lanes=1, memory_cost=7168).derive(password)
    return hash_secret_raw(password, salt, time_cost=5, memory_cost=7168, parallelism=1, hash_len=32, type=Type.ID)


def mac(key, text):
    return hmac.new(key, text, hashlib.sha256).digest()


def expand(prk, info):
    return mac(prk, info + b"\x01")


def b64url(value):
    return base64.urlsafe_b64encode(value).rstrip(b"=")


def unb64url(text):
    return base64.urlsafe_b64decode(text + b"=" * (-len(text) % 4))


# ---- 1 and 2: keys and joining -------------------------------------------------------------------------------------


def join(connection, host, secret, pin):
    root = argon2id(secret, b"gesher.v2")
    p = argon2id(pin.replace(" ", "").replace("-", "").upper().encode(), expand(root, b"gesher.v2 pin")[:16])
    k_sign = expand(root, b"gesher.v2 sign")
    k_join, k_mix = expand(p, b"gesher.v2 join"), expand(p, b"gesher.v2 mix")

    own = X25519PrivateKey.generate()
    seconds, key = str(int(time.time())).encode(), b64url(own.public_key().public_bytes(Encoding.Raw, PublicFormat.Raw))
    name = b""
    proved = b"\n".join([b"gesher.v2 connect", seconds, b"fernet", key, name])
    proof = b64url(mac(k_join, proved))
    signed = proved + b"\n" + proof
    signature = b64url(mac(k_sign, signed))
    websocket_key = base64.b64encode(os.urandom(16))
    connection.sendall(b"\r\n".join([
        b"GET /_connect_tunnel HTTP/1.1",
        b"Host: " + host.encode(),
        b"Connection: Upgrade",
        b"Upgrade: websocket",
        b"Sec-WebSocket-Version: 13",
        b"Sec-WebSocket-Key: " + websocket_key,
        b"Sec-WebSocket-Protocol: gesher.v2",
        b"Gesher-Seal: fernet",
        b"Authorization: Gesher " + b".".join([seconds, key, signature, name]),
        b"X-Join-Code: " + proof,
        b"", b"",
    ]))

    head = b""
    while not head.endswith(b"\r\n\r\n"):
        byte = connection.recv(1)
        if not byte:
            raise SystemExit(f"no answer: {head!r}")
        head += byte
    status, *lines = head.decode().split("\r\n")
    fields = {line.split(":", 1)[0].lower(): line.split(":", 1)[1].strip() for line in lines if line}
    if status.split()[1] != "101":
        raise SystemExit(f"refused: {status.split()[1]} {fields.get('gesher-refusal') or fields.get('gesher-missing')}")
    accept = hashlib.sha1(websocket_key + b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11").digest()
    assert fields["sec-websocket-accept"] == base64.b64encode(accept).decode()
    assert fields["sec-websocket-protocol"] == "gesher.v2" and "sec-websocket-extensions" not in fields
    seal = fields["gesher-seal"].encode()
    assert seal == b"fernet"
    gateway_key, gateway_mac = fields["gesher-accept"].encode().split(b".")
    th = hashlib.sha256(b"\n".join([signed, signature, seal, gateway_key])).digest()
    shared = own.exchange(X25519PublicKey.from_public_bytes(unb64url(gateway_key)))  # raises if it is all zeros
    prk = mac(k_mix, shared)
    assert hmac.compare_digest(b64url(mac(expand(prk, b"gesher.v2 accept" + th), th)), gateway_mac), "an impostor"
    return expand(prk, b"gesher.v2 c2g" + th), expand(prk, b"gesher.v2 g2c" + th)


# ---- 3: records ----------------------------------------------------------------------------------------------------


def seal(key, plain):
    pad = padding.PKCS7(128).padder()
    iv = os.urandom(16)
    cipher = Cipher(algorithms.AES(key[16:]), modes.CBC(iv)).encryptor()
    token = b"\x80" + struct.pack(">Q", int(time.time())) + iv
    token += cipher.update(pad.update(plain) + pad.finalize()) + cipher.finalize()
    return token + mac(key[:16], token)


def unseal(key, token):
    signed, tag = token[:-32], token[-32:]
    assert hmac.compare_digest(mac(key[:16], signed), tag) and signed[0] == 0x80, "a record does not verify"
    cipher = Cipher(algorithms.AES(key[16:]), modes.CBC(signed[9:25])).decryptor()
    unpad = padding.PKCS7(128).unpadder()
    return unpad.update(cipher.update(signed[25:]) + cipher.finalize()) + unpad.finalize()


class Link:
    def __init__(self, connection, c2g, g2c):
        self.connection, self.c2g, self.g2c = connection, c2g, g2c
        self.sent = self.heard = 0
        self.waiting = b""

    def exactly(self, count):
        data = b""
        while len(data) < count:
            more = self.connection.recv(count - len(data))
            if not more:
                raise EOFError
            data += more
        return data

    def message(self):
        """The opcode and payload of the next WebSocket frame; this gateway sends whole messages."""
        first, second = self.exactly(2)
        assert first & 0x70 == 0 and first & 0x80 and second & 0x80 == 0
        length = second
        if length == 126:
            length, = struct.unpack(">H", self.exactly(2))
        elif length == 127:
            length, = struct.unpack(">Q", self.exactly(8))
        return first & 0x0F, self.exactly(length)

    def write(self, opcode, payload):
        length = len(payload)
        if length < 126:
            head = struct.pack(">BB", 0x80 | opcode, 0x80 | length)
        elif length < 65536:
            head = struct.pack(">BBH", 0x80 | opcode, 0x80 | 126, length)
        else:
            head = struct.pack(">BBQ", 0x80 | opcode, 0x80 | 127, length)
        mask = os.urandom(4)
        key = int.from_bytes((mask * (length // 4 + 1))[:length], "big")
        masked = (int.from_bytes(payload, "big") ^ key).to_bytes(length, "big")
        self.connection.sendall(head + mask + masked)

    def say(self, kind, stream, payload=b""):
        self.waiting += len(payload).to_bytes(3, "big") + struct.pack(">BI", kind, stream) + payload
        if len(self.waiting) >= 16384:
            self.flush()

    def flush(self):
        if self.waiting:
            self.write(2, seal(self.c2g, struct.pack(">Q", self.sent) + self.waiting))
            self.sent += 1
            self.waiting = b""

    def record(self):
        """The frames of the next record; none once the gateway closes."""
        while True:
            opcode, payload = self.message()
            if opcode == 8:
                return None
            if opcode == 9:
                self.write(10, payload)
            if opcode != 2:
                continue
            plain = unseal(self.g2c, payload)
            number, = struct.unpack(">Q", plain[:8])
            assert number == self.heard, "a record is missing"
            self.heard += 1
            frames, at = [], 8
            while at < len(plain):
                length = int.from_bytes(plain[at:at + 3], "big")
                kind, stream = struct.unpack(">BI", plain[at + 3:at + 8])
                assert at + 8 + length <= len(plain)
                frames.append((kind, stream, plain[at + 8:at + 8 + length]))
                at += 8 + length
            return frames


# ---- 4 and 5: frames, credit ---------------------------------------------------------------------------------------


def tlv(kind, value):
    return struct.pack(">BH", kind, len(value)) + value


def tlvs(data):
    found, at = {}, 0
    while at < len(data):
        kind, length = struct.unpack(">BH", data[at:at + 3])
        found[kind] = data[at + 3:at + 3 + length]
        at += 3 + length
    return found


def body_and_rest(payload):
    """The body kind, the length of a sized body, and what follows."""
    if payload[0] in (SIZED, UPGRADE_AFTER_SIZED):
        return payload[0], struct.unpack(">Q", payload[1:9])[0], payload[9:]
    return payload[0], 0, payload[1:]


class Stream:
    def __init__(self, method, target, credit):
        self.method, self.target, self.credit = method, target, credit
        self.body, self.taken = b"", 0
        self.answer = None  # what of the response's body is to be sent


class Connector:
    def __init__(self, link):
        self.link, self.streams, self.window = link, {}, 0

    def run(self):
        self.link.say(HELLO, 0, struct.pack(">BII", 2, 100, WINDOW) + tlv(1, b"python") + tlv(2, os.urandom(16))
                      + tlv(4, struct.pack(">Q", 1)))
        self.link.say(PING, 0, os.urandom(8))
        self.link.flush()
        leaving = False
        while (frames := self.link.record()) is not None:
            for kind, stream, payload in frames:
                if kind == HELLO:
                    version, _, self.window = struct.unpack(">BII", payload[:9])
                    more = tlvs(payload[9:])
                    assert version == 2 and len(more[2]) == 16
                    print(f"joined as {more.get(6, b'').decode()}", flush=True)
                elif kind == PING:
                    self.link.say(PONG, 0, payload)
                elif kind == GOAWAY:
                    leaving = True
                    print("the gateway says goodbye", flush=True)
                else:
                    self.exchange(kind, stream, payload)
            for number in list(self.streams):
                self.go_on(number)
            self.link.flush()
            if leaving and not self.streams:
                self.link.write(8, struct.pack(">H", 1000))
                leaving = False

    def exchange(self, kind, number, payload):
        stream = self.streams.get(number)
        if kind == REQUEST:
            _, _, rest = body_and_rest(payload)
            length, = struct.unpack(">H", rest[:2])
            line, *_ = rest[2 + length:].split(b"\r\n", 1)
            method, target, version = line.decode().split(" ")
            print(f"{method} {target} {version}", flush=True)
            self.streams[number] = Stream(method, target, self.window)
        elif stream is None:
            pass  # over, and these were under way; an unknown type
        elif kind == DATA:
            stream.body += payload
            stream.taken += len(payload)
            if stream.taken >= 16384:
                self.link.say(WINDOW_FRAME, number, struct.pack(">I", stream.taken))
                stream.taken = 0
        elif kind == END:
            self.answer(number, stream)
        elif kind == WINDOW_FRAME:
            stream.credit += struct.unpack(">I", payload)[0]
        elif kind == RESET:
            del self.streams[number]

    def answer(self, number, stream):
        path, _, query = stream.target.partition("?")
        if path == "/hello":
            stream.answer = b"hello from python\n"
        elif path == "/large":
            stream.answer = bytes(i % 251 for i in range(int(query)))
        else:
            stream.answer = stream.body
        head = b"HTTP/1.1 200 OK\r\nContent-Type: application/octet-stream\r\nX-From: python\r\n\r\n"
        if stream.method == "HEAD":
            stream.answer = b""
            self.link.say(RESPONSE, number, struct.pack(">B", NONE) + head)
        else:
            self.link.say(RESPONSE, number, struct.pack(">BQ", SIZED, len(stream.answer)) + head)

    def go_on(self, number):
        stream = self.streams[number]
        if stream.answer is None:
            return
        while stream.answer and stream.credit:
            portion = stream.answer[:min(16384, stream.credit)]
            stream.answer = stream.answer[len(portion):]
            stream.credit -= len(portion)
            self.link.say(DATA, number, portion)
        if not stream.answer:
            self.link.say(END, number)
            del self.streams[number]


def main():
    host, port, pin = sys.argv[1], int(sys.argv[2]), sys.argv[3]
    connection = socket.create_connection((host, port), timeout=60)
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    c2g, g2c = join(connection, f"{host}:{port}", os.environ["GESHER_SECRET"].encode(), pin)
    Connector(Link(connection, c2g, g2c)).run()
    print("the link has ended", flush=True)


if __name__ == "__main__":
    main()
