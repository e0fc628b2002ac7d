"""Computes the vectors of docs/protocol.md, 1 and 2, from fixed inputs and with none of Gesher's code.

    pip install argon2-cffi cryptography
    python3 make.py > joining.txt

A line is `name = value`. Byte strings are in hex, texts as they are, with \\r and \\n for the ends of their lines.
Random bytes are the ChaCha20 key stream of a seed (64-bit counter and nonce, both zero), in the order in which a side
draws them: a connector its ephemeral key and then the WebSocket key, a gateway its ephemeral key.
"""

import base64
import hashlib
import hmac

from argon2.low_level import Type, hash_secret_raw
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms

SECRET = "correct horse battery staple"
PIN_TYPED = "k7q-m2x"
SECONDS = 1767225600  # 2026-01-01T00:00:00Z
HOST = "tunnel.example.org"
SEALS = "fernet"
NAME = ""  # of a credential: none in this version
CONNECTOR_SEED = bytes(range(0x00, 0x20))
GATEWAY_SEED = bytes(range(0x20, 0x40))


def argon2id(password: bytes, salt: bytes) -> bytes:
    return hash_secret_raw(password, salt, time_cost=5, memory_cost=7168, parallelism=1, hash_len=32,
                           type=Type.ID, version=0x13)


def mac(key: bytes, text: bytes) -> bytes:
    return hmac.new(key, text, hashlib.sha256).digest()


def extract(salt: bytes, ikm: bytes) -> bytes:
    return mac(salt, ikm)


def expand(prk: bytes, info: bytes) -> bytes:
    """32 bytes are one block: T(1) = HMAC(prk, info | 0x01)."""
    return mac(prk, info + b"\x01")


def b64url(value: bytes) -> str:
    return base64.urlsafe_b64encode(value).rstrip(b"=").decode()


def random(seed: bytes, count: int) -> bytes:
    return Cipher(algorithms.ChaCha20(seed, bytes(16)), mode=None).encryptor().update(bytes(count))


def show(name: str, value: bytes | str) -> None:
    if isinstance(value, bytes):
        value = value.hex()
    print(f"{name} = " + value.replace("\r", "\\r").replace("\n", "\\n"))


# 1. Keys
pin = PIN_TYPED.replace(" ", "").replace("-", "").upper()
root = argon2id(SECRET.encode(), b"gesher.v2")
pin_salt = expand(root, b"gesher.v2 pin")[:16]
p = argon2id(pin.encode(), pin_salt)
k_sign = expand(root, b"gesher.v2 sign")
k_join = expand(p, b"gesher.v2 join")
k_mix = expand(p, b"gesher.v2 mix")

# 2. Joining: what the connector sends
drawn = random(CONNECTOR_SEED, 48)
connector = X25519PrivateKey.from_private_bytes(drawn[:32])
connector_public = connector.public_key().public_bytes_raw()
websocket_key = base64.b64encode(drawn[32:]).decode()
connector_key = b64url(connector_public)
proved = "\n".join(["gesher.v2 connect", str(SECONDS), SEALS, connector_key, NAME])
proof = b64url(mac(k_join, proved.encode()))
signed = "\n".join([proved, proof])
signature = b64url(mac(k_sign, signed.encode()))
request = "\r\n".join([
    "GET /_connect_tunnel HTTP/1.1",
    f"Host: {HOST}",
    "Connection: Upgrade",
    "Upgrade: websocket",
    "Sec-WebSocket-Version: 13",
    f"Sec-WebSocket-Key: {websocket_key}",
    "Sec-WebSocket-Protocol: gesher.v2",
    f"Gesher-Seal: {SEALS}",
    f"Authorization: Gesher {SECONDS}.{connector_key}.{signature}.{NAME}",
    f"X-Join-Code: {proof}",
    "", "",
])

# What the gateway answers
gateway = X25519PrivateKey.from_private_bytes(random(GATEWAY_SEED, 32))
gateway_public = gateway.public_key().public_bytes_raw()
gateway_key = b64url(gateway_public)
shared = gateway.exchange(X25519PublicKey.from_public_bytes(connector_public))
assert shared == connector.exchange(X25519PublicKey.from_public_bytes(gateway_public))
transcript = "\n".join([signed, signature, "fernet", gateway_key])
th = hashlib.sha256(transcript.encode()).digest()
prk = extract(k_mix, shared)
k_accept = expand(prk, b"gesher.v2 accept" + th)
k_c2g = expand(prk, b"gesher.v2 c2g" + th)
k_g2c = expand(prk, b"gesher.v2 g2c" + th)
accept_mac = b64url(mac(k_accept, th))
websocket_accept = base64.b64encode(
    hashlib.sha1((websocket_key + "258EAFA5-E914-47DA-95CA-C5AB0DC85B11").encode()).digest()).decode()
response = "\r\n".join([
    "HTTP/1.1 101 Switching Protocols",
    "Connection: Upgrade",
    "Upgrade: websocket",
    f"Sec-WebSocket-Accept: {websocket_accept}",
    "Sec-WebSocket-Protocol: gesher.v2",
    "Gesher-Seal: fernet",
    f"Gesher-Accept: {gateway_key}.{accept_mac}",
    "", "",
])

show("secret", SECRET)
show("pin typed", PIN_TYPED)
show("pin", pin)
show("root", root)
show("K_sign", k_sign)
show("pin salt", pin_salt)
show("P", p)
show("K_join", k_join)
show("K_mix", k_mix)
show("seconds", str(SECONDS))
show("host", HOST)
show("connector seed", CONNECTOR_SEED)
show("connector private", drawn[:32])
show("connector public", connector_public)
show("proved", proved)
show("proof", proof)
show("signed", signed)
show("signature", signature)
show("request", request)
show("gateway seed", GATEWAY_SEED)
show("gateway private", random(GATEWAY_SEED, 32))
show("gateway public", gateway_public)
show("shared", shared)
show("prk", prk)
show("transcript", transcript)
show("th", th)
show("K_accept", k_accept)
show("MAC", accept_mac)
show("K_c2g", k_c2g)
show("K_g2c", k_g2c)
show("response", response)
