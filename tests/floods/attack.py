"""One client that floods a Gateway: `python -m tests.floods.attack KIND NAME PORT SECONDS`.

It reconnects whenever the Gateway closes its connection, and prints how often that was.
"""

from __future__ import annotations

import json
import select
import socket
import sys
import time
from collections.abc import Mapping
from dataclasses import dataclass

import hpack

from tests.control.client import connect_params
from tests.websocket.client import CLOSE, CONTINUATION, PING, PONG, TEXT, frame, upgrade

SECRET = "a secret of the floods"
_CHUNK = 65_536
_HEAD = b"POST /v1/chat/completions HTTP/1.1\r\nHost: localhost\r\n"
_CHUNKED = _HEAD + b"Transfer-Encoding: chunked\r\n\r\n"


@dataclass(frozen=True)
class Flood:
    """What a connection begins with, and what it repeats for as long as it may."""

    begin: bytes
    again: bytes
    reads: bool = True
    """Whether the client takes what the Gateway sends."""
    at_once: int = _CHUNK
    """Bytes in one write."""


def _request(number: int, method: str, params: object = None) -> bytes:
    text = json.dumps({"type": "req", "id": str(number), "method": method, "params": params})
    return frame(TEXT, text.encode())


def _connect() -> bytes:
    params = connect_params(SECRET)
    text = json.dumps({"type": "req", "id": "c", "method": "connect", "params": params})
    return upgrade() + frame(TEXT, text.encode())


def h2_frame(kind: int, payload: bytes = b"", flags: int = 0, stream: int = 0) -> bytes:
    """https://www.rfc-editor.org/rfc/rfc9113#section-4.1"""
    head = len(payload).to_bytes(3) + bytes([kind, flags]) + stream.to_bytes(4)
    return head + payload


def h2_request(stream: int, *headers: tuple[str, str]) -> bytes:
    """HEADERS that begin and end a request."""
    block = hpack.Encoder().encode(
        headers
        or (
            (":method", "GET"),
            (":scheme", "http"),
            (":path", "/healthz"),
            (":authority", "localhost"),
        )
    )
    return h2_frame(1, block, flags=0x05, stream=stream)


PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + h2_frame(4)
_RESETS = b"".join(
    h2_request(stream) + h2_frame(3, (8).to_bytes(4), stream=stream)
    for stream in range(1, 4_001, 2)
)

STRANGERS: Mapping[str, Flood] = {
    "empty fragments": Flood(upgrade() + frame(TEXT, fin=False), frame(CONTINUATION, fin=False)),
    "small fragments": Flood(
        upgrade() + frame(TEXT, b"x", fin=False), frame(CONTINUATION, b"x", fin=False)
    ),
    "pings": Flood(upgrade(), frame(PING)),
    "pings, unread": Flood(upgrade(), frame(PING, b"x" * 125), reads=False),
    "pongs": Flood(upgrade(), frame(PONG)),
    "close frames": Flood(upgrade(), frame(CLOSE)),
    "empty messages": Flood(upgrade(), frame(TEXT)),
    "unmasked frames": Flood(upgrade(), frame(PING, masked=False)),
    "reserved frames": Flood(upgrade(), frame(3)),
    "fragmented pings": Flood(upgrade(), frame(PING, fin=False)),
    "upgrades and no frames": Flood(upgrade(), upgrade(), at_once=len(upgrade())),
    "frames before the upgrade": Flood(b"", frame(PING)),
    "header bytes": Flood(_HEAD + b"X: ", b"x"),
    "header lines": Flood(_HEAD, b"a:\r\n"),
    "complete headers": Flood(b"", b"GET / HTTP/1.1\r\n" + b"a:\r\n" * 4_000 + b"\r\n"),
    "blank lines": Flood(b"", b"\r\n"),
    "pipelined requests": Flood(b"", b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n"),
    "pipelined requests, unread": Flood(
        b"", b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n", reads=False
    ),
    "small chunks": Flood(_CHUNKED, b"1\r\nx\r\n"),
    "chunk extensions": Flood(_CHUNKED, b"1;" + b"x" * 4_000 + b"\r\nx\r\n"),
    "one chunk extension": Flood(_CHUNKED + b"1;", b"x"),
    "trailers": Flood(_CHUNKED + b"0\r\n", b"a:\r\n"),
    "small segments": Flood(_HEAD + b"Content-Length: 9999999\r\n\r\n", b"x", at_once=1),
    "upgrades to HTTP/2": Flood(
        b"",
        b"GET /healthz HTTP/1.1\r\nHost: localhost\r\nConnection: Upgrade, HTTP2-Settings\r\n"
        b"Upgrade: h2c\r\nHTTP2-Settings: AAMAAABkAAQAAP__\r\n\r\n",
    ),
    "prior knowledge of HTTP/2": Flood(PREFACE, h2_frame(6, bytes(8))),
}
OVER_HTTP2: Mapping[str, Flood] = {
    "PING": Flood(PREFACE, h2_frame(6, bytes(8))),
    "SETTINGS": Flood(PREFACE, h2_frame(4, b"\0\4\0\0\xff\xff")),
    "large SETTINGS": Flood(PREFACE, h2_frame(4, b"\0\4\0\0\xff\xff" * 2_700)),
    "PRIORITY": Flood(
        PREFACE, b"".join(h2_frame(2, bytes(4) + b"\x10", stream=2 * n + 1) for n in range(9_000))
    ),
    "WINDOW_UPDATE": Flood(PREFACE, h2_frame(8, (1).to_bytes(4))),
    "unknown frames": Flood(PREFACE, h2_frame(0xFA)),
    "empty DATA": Flood(
        PREFACE
        + h2_frame(
            1,
            hpack.Encoder().encode(
                (
                    (":method", "POST"),
                    (":scheme", "http"),
                    (":path", "/v1/chat/completions"),
                    (":authority", "localhost"),
                )
            ),
            flags=0x04,
            stream=1,
        ),
        h2_frame(0, stream=1),
    ),
    "rapid resets": Flood(PREFACE + _RESETS, h2_frame(6, bytes(8))),
    "CONTINUATION": Flood(PREFACE + h2_frame(1, stream=1), h2_frame(9, stream=1)),
}
CLIENTS: Mapping[str, Flood] = {
    "pings": Flood(_connect(), frame(PING)),
    "pongs": Flood(_connect(), frame(PONG)),
    "empty fragments": Flood(_connect() + frame(TEXT, fin=False), frame(CONTINUATION, fin=False)),
    "fragments that are not small": Flood(
        _connect() + frame(TEXT, fin=False), frame(CONTINUATION, b"x" * 256, fin=False)
    ),
    "health requests": Flood(_connect(), _request(1, "health")),
    "health requests, unread": Flood(_connect(), _request(1, "health"), reads=False),
    "unknown methods": Flood(_connect(), _request(1, "no.such.method")),
    "empty messages": Flood(_connect(), frame(TEXT)),
    "requests with many wrong items": Flood(
        _connect(), _request(1, "sessions.preview", {"keys": [1] * 4_900})
    ),
    "requests that are answered from threads": Flood(_connect(), _request(1, "config.schema")),
    "requests for the log": Flood(_connect(), _request(1, "logs.tail")),
}
ALL: Mapping[str, Mapping[str, Flood]] = {
    "strangers": STRANGERS,
    "http2": OVER_HTTP2,
    "clients": CLIENTS,
}


HALF_OPEN = "half-open"


def attack(flood: Flood, port: int, until: float) -> int:
    """Flood until that moment, by the monotonic clock; how many connections were closed."""
    repeated = flood.again * max(1, flood.at_once // len(flood.again))
    closed = 0
    while time.monotonic() < until:
        try:
            with socket.create_connection(("127.0.0.1", port)) as peer:
                peer.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                peer.sendall(flood.begin)
                peer.setblocking(False)
                _send(peer, repeated, flood.reads, until)
        except OSError:
            pass
        closed += 1
    return closed


def half_open(port: int, until: float, count: int = 40) -> int:
    """Keep so many upgraded connections without `connect`, reopening those that are closed; how
    many were closed."""
    peers: set[socket.socket] = set()
    closed = 0
    try:
        while time.monotonic() < until:
            while len(peers) < count:
                peer = socket.create_connection(("127.0.0.1", port))
                peers.add(peer)
                peer.sendall(upgrade())
            for peer in select.select(list(peers), [], [], 0.05)[0]:
                if _is_closing(peer):
                    peer.close()
                    peers.remove(peer)
                    closed += 1
    finally:
        for peer in peers:
            peer.close()
    return closed


def _is_closing(peer: socket.socket) -> bool:
    """Whether the Gateway ended it, or says that it does (1013)."""
    try:
        data = peer.recv(_CHUNK)
    except OSError:
        return True
    return not data or (1013).to_bytes(2) in data


def _send(peer: socket.socket, repeated: bytes, reads: bool, until: float) -> None:
    """Send without end. Raises OSError when the connection is reset; returns when it ends."""
    rest = memoryview(repeated)
    while time.monotonic() < until:
        readable, writable, _ = select.select([peer] if reads else [], [peer], [], 0.1)
        if readable and not peer.recv(_CHUNK):
            return
        if writable:
            rest = rest[peer.send(rest) :] or memoryview(repeated)


if __name__ == "__main__":
    kind, name, port, seconds = sys.argv[1:]
    end = time.monotonic() + float(seconds)
    if kind == HALF_OPEN:
        print(half_open(int(port), end, int(name)))
    else:
        print(attack(ALL[kind][name], int(port), end))
