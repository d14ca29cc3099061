"""Bodies that are compressed, that are bombs, and that strangers send."""

from __future__ import annotations

import asyncio
import gzip
import json
import tracemalloc
import zlib
from collections.abc import Callable
from contextlib import suppress

import pytest

from opensoul.adapters.transports.http.bodies import Unpacker

from .app import Harness
from .client import CHAT, HI, Bare, Client, bare

BODY = json.dumps({"messages": HI}).encode()
MEBIBYTE = 1024 * 1024


def raw_deflate(data: bytes) -> bytes:
    packer = zlib.compressobj(wbits=-zlib.MAX_WBITS)
    return packer.compress(data) + packer.flush()


@pytest.mark.parametrize(
    ("encoding", "pack"),
    [
        ("gzip", gzip.compress),
        ("GZIP", gzip.compress),
        ("x-gzip", gzip.compress),
        ("gzip", lambda data: gzip.compress(data[:9]) + gzip.compress(data[9:])),
        ("gzip", lambda data: gzip.compress(data) + b"\0" * 512),
        ("deflate", zlib.compress),
        ("deflate", raw_deflate),
        ("identity", bytes),
        ("", bytes),
        ("identity, gzip", gzip.compress),
    ],
)
async def test_a_compressed_body_is_unpacked(
    gateway: Harness, client: Client, encoding: str, pack: Callable[[bytes], bytes]
) -> None:
    reply = await client.post(pack(BODY), headers={"Content-Encoding": encoding})

    assert reply.status == 200
    assert gateway.model.seen[-1].messages[-1].text == "Hi"


@pytest.mark.parametrize("encoding", ["br", "zstd", "compress", "gzip, gzip", "gzip, br", "x"])
async def test_another_encoding_is_refused_with_those_that_there_are(
    client: Client, encoding: str
) -> None:
    reply = await client.post(BODY, headers={"Content-Encoding": encoding})

    assert (reply.status, reply.error["code"]) == (415, "unsupported_content_encoding")
    assert repr(encoding) in reply.error["message"]
    assert "gzip, deflate" in reply.error["message"]
    assert reply.headers["Accept-Encoding"] == "gzip, deflate"


@pytest.mark.parametrize(
    ("encoding", "body", "says"),
    [
        ("gzip", BODY, "incorrect header check"),
        ("gzip", gzip.compress(BODY, mtime=0)[:-1], "cut short"),
        ("gzip", gzip.compress(BODY, mtime=0)[:-8] + b"\0" * 8, "incorrect data check"),
        ("gzip", gzip.compress(BODY, mtime=0) + b"rest", "incorrect header check"),
        ("gzip", gzip.compress(b"") * 2_000, "more than 1024 files"),
        ("gzip", b"", "cut short"),
        ("deflate", zlib.compress(BODY) + b"rest", "something follows"),
        ("deflate", b"x", "cut short"),
    ],
)
async def test_a_body_that_is_not_what_it_claims_is_refused(
    client: Client, encoding: str, body: bytes, says: str
) -> None:
    reply = await client.post(body, headers={"Content-Encoding": encoding})

    assert (reply.status, reply.error["code"]) == (400, "invalid_request")
    assert f"unpacked as {encoding}" in reply.error["message"]
    assert says in reply.error["message"]


@pytest.mark.parametrize("size", [1, 7, 100_000])
@pytest.mark.parametrize("pack", [gzip.compress, zlib.compress, raw_deflate])
def test_a_body_may_come_in_pieces_of_any_size(pack: Callable[[bytes], bytes], size: int) -> None:
    data = bytes(range(256)) * 1_000
    packed = pack(data)
    unpacker = Unpacker("gzip" if packed[:2] == b"\x1f\x8b" else "deflate")

    plain = [
        step
        for start in range(0, len(packed), size)
        for step in unpacker.feed(packed[start : start + size])
    ]

    unpacker.finish()
    assert b"".join(plain) == data
    assert max(map(len, plain)) <= 65_536


def bomb(size: int) -> bytes:
    """A small gzip body that unpacks to `size` bytes of spaces."""
    packer = zlib.compressobj(9, wbits=16 + zlib.MAX_WBITS)
    block = b" " * MEBIBYTE
    packed = [packer.compress(block) for _ in range(size // MEBIBYTE)]
    return b"".join([*packed, packer.flush()])


async def test_a_bomb_is_stopped_at_the_limit(gateway: Harness, client: Client) -> None:
    gateway.chat(max_body_bytes=MEBIBYTE)
    body = bomb(200 * MEBIBYTE)
    assert len(body) < MEBIBYTE

    tracemalloc.start()
    try:
        reply = await client.post(body, headers={"Content-Encoding": "gzip"})
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()

    assert (reply.status, reply.error["code"]) == (413, "request_too_large")
    assert "1048576 bytes" in reply.error["message"]
    assert peak < 8 * MEBIBYTE


def test_a_bomb_goes_off_in_small_steps_only() -> None:
    steps = Unpacker("gzip").feed(bomb(8 * MEBIBYTE))

    assert {len(next(steps)) for _ in range(100)} == {65_536}


async def _flood(wire: Bare, size: int) -> int:
    """Send the head and then `size` bytes of body, whatever the answer is; its status."""
    wire.writer.write(
        b"POST %b HTTP/1.1\r\nHost: h\r\nContent-Type: application/json\r\n"
        b"Authorization: Bearer stranger\r\nContent-Length: %d\r\n\r\n" % (CHAT.encode(), size)
    )
    block = b" " * 65_536
    for _ in range(size // len(block)):
        wire.writer.write(block)
        await wire.writer.drain()
    status, _ = await wire.read_head()
    return status


async def test_what_strangers_send_is_kept_nowhere(gateway: Harness) -> None:
    strangers, size = 6, 16 * MEBIBYTE
    tracemalloc.start()
    try:
        async with asyncio.TaskGroup() as group:

            async def stranger() -> int | None:
                async with bare(gateway.port) as wire:
                    with suppress(ConnectionError):  # It may be cut off while it still sends.
                        return await _flood(wire, size)
                    return None

            tasks = [group.create_task(stranger()) for _ in range(strangers)]
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()

    assert {task.result() for task in tasks} <= {401, None}
    assert peak < 12 * MEBIBYTE  # Kept, the bodies would be 96 of them.


async def test_a_client_that_sends_on_and_on_after_its_refusal_is_cut_off(
    gateway: Harness,
) -> None:
    async with asyncio.timeout(30), bare(gateway.port) as wire:
        with pytest.raises(ConnectionError):
            await _flood(wire, 1_024 * MEBIBYTE)
