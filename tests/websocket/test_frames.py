"""RFC 6455: fragments, control frames, and what a fault is answered with."""

from __future__ import annotations

import pytest

from tests.websocket.client import (
    BINARY,
    CLOSE,
    CONTINUATION,
    PING,
    PONG,
    TEXT,
    close_frame,
    connected,
    frame,
    opened,
    upgrade,
)
from tests.websocket.serving import Served

pytestmark = pytest.mark.both_loops


async def test_a_message_in_fragments_is_one_message_with_control_frames_in_between(
    served: Served,
) -> None:
    word = "Grüße".encode()
    async with opened(served.port) as client:
        client.send(frame(TEXT, word[:3], fin=False), frame(PING, b"alive?"))
        assert await client.frame() == (PONG, b"alive?")
        client.send(frame(CONTINUATION, b"", fin=False), frame(PONG, b"unasked"))
        client.send(frame(CONTINUATION, word[3:]))
        assert await client.text() == "Grüße"


async def test_bytes_that_come_one_by_one_make_the_same_message(served: Served) -> None:
    async with opened(served.port) as client:
        for byte in frame(TEXT, "½".encode()):
            client.send(bytes([byte]))
            await client.writer.drain()
        assert await client.text() == "½"


@pytest.mark.parametrize("size", [0, 125, 126, 127, 128, 65_535, 65_536])
async def test_a_message_of_any_size_up_to_the_limit_comes_whole(served: Served, size: int) -> None:
    async with opened(served.port) as client:
        client.send(frame(TEXT, b"x" * size))
        assert await client.text() == "x" * size


async def test_a_binary_message_reaches_the_application_as_bytes(served: Served) -> None:
    async with opened(served.port) as client:
        client.send(frame(BINARY, b"\x00\xff"), frame(BINARY, b""))
        assert await client.frame() == (BINARY, b"\x00\xff")
        assert await client.frame() == (BINARY, b"")
        assert served.taken == [b"\x00\xff", b""]


async def test_a_ping_of_any_payload_is_answered_with_the_same(served: Served) -> None:
    async with opened(served.port) as client:
        client.send(frame(PING), frame(PING, b"\xfe" * 125))
        assert await client.frame() == (PONG, b"")
        assert await client.frame() == (PONG, b"\xfe" * 125)


FAULTS = {
    "an unknown opcode": (frame(3), 1002),
    "an unknown control opcode": (frame(11), 1002),
    "reserved bits": (frame(TEXT, b"x", rsv=1), 1002),
    "the bit of compression": (frame(TEXT, b"x", rsv=4), 1002),
    "a control frame in fragments": (frame(PING, b"x", fin=False), 1002),
    "a control frame too long": (frame(PING, b"x" * 126), 1002),
    "a close frame too long": (close_frame(1000, b"x" * 124), 1002),
    "a continuation of nothing": (frame(CONTINUATION, b"x"), 1002),
    "a message inside another": (frame(TEXT, b"x", fin=False) + frame(TEXT, b"y"), 1002),
    "a frame without a mask": (frame(TEXT, b"x", masked=False), 1002),
    "a length longer than needed": (b"\x81\xfe\x00\x05", 1002),
    "a length with its highest bit set": (b"\x81\xff" + b"\x80" + bytes(7), 1002),
    "text that is not UTF-8": (frame(TEXT, b"\xce\xba\xff"), 1007),
    "text that ends within a character": (frame(TEXT, b"\xce"), 1007),
    "a surrogate": (frame(TEXT, b"\xed\xa0\x80"), 1007),
    "fragments that are not UTF-8": (
        frame(TEXT, b"ok", fin=False) + frame(CONTINUATION, b"\xff", fin=False),
        1007,
    ),
    "a reason that is not UTF-8": (close_frame(1000, b"\xff"), 1007),
    "a close frame of one byte": (frame(CLOSE, b"\x03"), 1002),
} | {
    f"the close code {code}": (close_frame(code), 1002)
    for code in (0, 999, 1004, 1005, 1006, 1015, 1016, 2999, 5000, 65_535)
}


@pytest.mark.parametrize(("sent", "code"), FAULTS.values(), ids=FAULTS)
async def test_a_fault_is_told_in_a_close_frame_and_ends_the_connection(
    served: Served, sent: bytes, code: int
) -> None:
    async with opened(served.port) as client:
        client.send(sent)
        told, reason = await client.closing()
        assert (told, reason != "") == (code, True)
        await client.ended()
        await served.left.wait()
        assert served.taken == []


async def test_what_was_said_before_a_fault_counts_and_after_it_does_not(served: Served) -> None:
    async with opened(served.port) as client:
        client.send(frame(TEXT, b"before"))
        assert await client.text() == "before"
        client.send(frame(3), frame(TEXT, b"after"), frame(PING, b"after"))
        assert (await client.closing())[0] == 1002
        await client.ended()
        await served.left.wait()
        assert served.taken == ["before"]


@pytest.mark.parametrize("code", [1000, 1001, 1003, 1007, 1011, 1012, 3000, 3999, 4000, 4999])
async def test_a_close_frame_is_answered_with_its_own_code(served: Served, code: int) -> None:
    async with opened(served.port) as client:
        client.send(close_frame(code, b"goodbye"))
        assert await client.closing() == (code, "goodbye")
        await client.ended()
        await served.left.wait()


async def test_a_close_frame_without_a_code_is_answered_with_1000(served: Served) -> None:
    async with opened(served.port) as client:
        client.send(frame(CLOSE))
        assert await client.closing() == (1000, "")
        await client.ended()


async def test_a_client_that_closes_and_stops_writing_still_gets_the_answer(served: Served) -> None:
    async with opened(served.port) as client:
        client.send(close_frame(1000))
        client.writer.write_eof()
        assert await client.closing() == (1000, "")
        await client.ended()


async def test_compression_is_not_accepted_though_it_is_offered(served: Served) -> None:
    async with opened(served.port) as client:
        assert "extensions" not in client.head.lower()


async def test_who_speaks_before_the_answer_to_its_upgrade_is_heard_after_it(
    served: Served,
) -> None:
    async with connected(served.port) as client:
        client.send(upgrade(), frame(TEXT, b"early"))
        await client.reader.readuntil(b"\r\n\r\n")
        assert await client.text() == "early"


async def test_an_upgrade_that_is_none_is_refused_and_its_connection_closed(
    served: Served,
) -> None:
    async with connected(served.port) as client:
        client.send(upgrade(version=12))
        assert (await client.reader.read()).startswith(b"HTTP/1.1 400")


async def test_an_upgrade_that_the_application_refuses_gets_its_answer(served: Served) -> None:
    async with connected(served.port) as client:
        client.send(upgrade("/refused"), frame(TEXT, b"early"))
        answer = await client.reader.read()
        assert answer.startswith(b"HTTP/1.1 503")
        assert answer.endswith(b"Not now")
