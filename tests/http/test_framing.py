"""Where a request ends is never a matter of opinion: nothing can be smuggled behind it."""

from __future__ import annotations

import json

import pytest

from .app import Harness
from .client import CHAT, HI, Bare, bare
from .conftest import AccessLog

BODY = json.dumps({"messages": HI}).encode()
CHUNKED = b"%x\r\n%b\r\n0\r\n\r\n" % (len(BODY), BODY)
SMUGGLED = b"GET /smuggled HTTP/1.1\r\nHost: h\r\n\r\n"


def send(wire: Bare, headers: tuple[str, ...], body: bytes, *, version: str = "HTTP/1.1") -> None:
    lines = [f"POST {CHAT} {version}", "Host: h", "x-api-key: secret", *headers, "", ""]
    wire.writer.write("\r\n".join(lines).encode() + body + SMUGGLED)


@pytest.mark.parametrize(
    "headers",
    [
        ("Content-Length: 5", "Transfer-Encoding: chunked"),
        ("Transfer-Encoding: chunked", f"Content-Length: {len(CHUNKED)}"),
        ("Transfer-Encoding: Chunked", "Content-Length: 0", "Connection: keep-alive"),
    ],
)
async def test_after_a_length_beside_chunks_the_connection_is_closed(
    gateway: Harness, access_log: AccessLog, headers: tuple[str, ...]
) -> None:
    async with bare(gateway.port) as wire:
        send(wire, headers, CHUNKED)

        status, head = await wire.read_head()
        rest = await wire.reader.read()

    assert status == 200
    assert b"connection: close" in head.lower().split(b"\r\n")
    assert b"HTTP/1.1" not in rest
    assert gateway.model.seen[-1].messages[-1].text == "Hi"
    assert (await access_log.line())["path"] == CHAT
    assert access_log.is_empty


@pytest.mark.parametrize(
    ("headers", "body", "status"),
    [
        (("Content-Length: 5", "Content-Length: 6"), BODY, 400),
        (("Content-Length: 5, 6",), BODY, 400),
        (("Content-Length: -5",), BODY, 400),
        (("Content-Length: +5",), BODY, 400),
        (("Content-Length: 0x5",), BODY, 400),
        (("Transfer-Encoding: gzip, chunked",), CHUNKED, 501),
        (("Transfer-Encoding: chunked, identity",), CHUNKED, 501),
        (("Transfer-Encoding: chunked", "Transfer-Encoding: chunked"), CHUNKED, 501),
        (("Transfer-Encoding: \x0bchunked",), CHUNKED, 400),
        (("Transfer-Encoding : chunked",), CHUNKED, 400),
        (("Transfer-Encoding: chunked",), b"5;x\r\nHel", 400),
        (("Transfer-Encoding: chunked",), b"-1\r\n", 400),
    ],
)
async def test_any_other_doubtful_framing_is_refused_and_the_connection_is_closed(
    gateway: Harness, headers: tuple[str, ...], body: bytes, status: int
) -> None:
    async with bare(gateway.port) as wire:
        send(wire, headers, body)

        answered, _ = await wire.read_head()
        rest = await wire.reader.read()

    assert (answered, b"HTTP/1.1" in rest) == (status, False)
    assert gateway.run_log.runs == []


async def test_after_chunks_in_http_1_0_the_connection_is_closed(gateway: Harness) -> None:
    async with bare(gateway.port) as wire:
        headers = ("Transfer-Encoding: chunked", "Connection: keep-alive")
        send(wire, headers, CHUNKED, version="HTTP/1.0")

        await wire.read_head()
        assert b"HTTP/1.1" not in await wire.reader.read()


async def test_chunks_alone_leave_the_connection_open(gateway: Harness) -> None:
    async with bare(gateway.port) as wire:
        send(wire, ("Transfer-Encoding: chunked",), CHUNKED)
        _, head = await wire.read_head()
        assert b"connection: close" not in head.lower()
        assert b" 404 " in await wire.reader.readuntil(b" 404 ")
