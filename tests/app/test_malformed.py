"""Malformed heads, over HTTP and as upgrades: an answer that says what is wrong, and no failure."""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import pytest_asyncio
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.app.serving import SECRET, Served, config, serving
from tests.examples import examples

UPGRADE = (
    b"Connection: Upgrade",
    b"Upgrade: websocket",
    b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==",
    b"Sec-WebSocket-Version: 13",
)
KINDS = pytest.mark.parametrize("more", [(), UPGRADE], ids=["request", "upgrade"])


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def served(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Served]:
    home: Path = tmp_path_factory.mktemp("malformed")
    async with serving(home, config()) as served:
        yield served


pytestmark = pytest.mark.asyncio(loop_scope="module")


class Failures(logging.Handler):
    """The records of failures: with a traceback, or graver than a warning."""

    def __init__(self) -> None:
        super().__init__(logging.WARNING)
        self.found: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        if record.exc_info or record.levelno > logging.WARNING:
            self.found.append(self.format(record))


@contextmanager
def no_failures() -> Iterator[None]:
    failures = Failures()
    loggers = [logging.getLogger(name) for name in (None, "hypercorn.error")]
    for logger in loggers:
        logger.addHandler(failures)
    try:
        yield
    finally:
        for logger in loggers:
            logger.removeHandler(failures)
    assert failures.found == []


async def exchange(served: Served, head: bytes, body: bytes = b"") -> tuple[int, bytes]:
    """Send bytes, and no more; the status and body of the answer, 0 where none came."""
    port = int(served.url.rpartition(":")[2])
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    try:
        writer.write(head + body)
        async with asyncio.timeout(10):
            answered = await reader.readuntil(b"\r\n\r\n")
            status = int(answered.split()[1])
            length = [
                line.split(b":")[1]
                for line in answered.split(b"\r\n")
                if line.lower().startswith(b"content-length:")
            ]
            return status, await reader.readexactly(int(length[0])) if length else b""
    except (asyncio.IncompleteReadError, ConnectionError):
        return 0, b""
    finally:
        writer.transport.abort()


def head(target: bytes, *headers: bytes, method: bytes = b"GET") -> bytes:
    return b"\r\n".join([method + b" " + target + b" HTTP/1.1", *headers, b"", b""])


@KINDS
@pytest.mark.parametrize(
    "host",
    [
        b"a..b",
        b".",
        b"..",
        b".a",
        b"a..",
        b"a b",
        b"a\tb",
        b"\xff",
        b"\xc3\xa9.example",
        b"x" * 64,
        b"x" * 64 + b".example",
        b".".join([b"x" * 50] * 6),
        b"user@localhost",
        b"user:pass@localhost",
        b"localhost:65536",
        b"localhost:999999",
        b"localhost:-1",
        b"localhost:x",
        b"localhost:\xb2",
        b"localhost:80:80",
        b"::1",
        b"[::1",
        b"::1]",
        b"[::g]",
        b"[]",
        b"[127.0.0.1]",
        b"[::1]x",
        b"localhost/path",
        b"localhost?x",
        b"localhost#x",
        b"localhost\\x",
        b"http://localhost",
        b"%6cocalhost",
        b"a,b",
        b"*",
        b"'localhost'",
    ],
)
async def test_a_malformed_host_is_a_400(
    served: Served, host: bytes, more: tuple[bytes, ...]
) -> None:
    with no_failures():
        status, body = await exchange(served, head(b"/healthz", b"Host: " + host, *more))

    assert status == 400
    assert "Host header" in json.loads(body)["error"]["message"]
    assert len(body) < 500


@pytest.mark.parametrize(
    "host",
    [
        b"localhost",
        b"LOCALHOST:18789",
        b"localhost.",
        b"localhost:",
        b"my_gateway:1",
        b"127.0.0.1:65535",
        b"[::1]",
        b"[::1]:18789",
        b"[fe80::1%25eth0]",
        b"x" * 63 + b".example",
        b"xn--bcher-kva.example",
        b"",
    ],
)
async def test_a_host_of_the_right_form_is_let_through(served: Served, host: bytes) -> None:
    with no_failures():
        status, _ = await exchange(served, head(b"/healthz", b"Host: " + host))

    assert status == 200


@KINDS
@pytest.mark.parametrize(
    "headers",
    [
        pytest.param([b"Host: localhost", b"Host: localhost"], id="several"),
        pytest.param([], id="none"),
    ],
)
async def test_anything_but_one_host_is_a_400(
    served: Served, headers: list[bytes], more: tuple[bytes, ...]
) -> None:
    with no_failures():
        assert (await exchange(served, head(b"/healthz", *headers, *more)))[0] == 400


@KINDS
@pytest.mark.parametrize(
    "target",
    [
        b"*",
        b"?x",
        b"healthz",
        b"localhost:80",
        b"http://",
        b"http://other/healthz",
        b"http://localhost:1/healthz",
        b"http://user@localhost/healthz",
        b"http://[/healthz",
        b"ftp://localhost/healthz",
        b"//",
        b"#x",
    ],
)
async def test_a_target_that_is_no_path_of_this_host_is_no_failure(
    served: Served, target: bytes, more: tuple[bytes, ...]
) -> None:
    with no_failures():
        status, _ = await exchange(served, head(target, b"Host: localhost", *more))

    # Two slashes are a path where nothing is, over HTTP, and a path like any other of an upgrade.
    assert status == (400 if target != b"//" else 101 if more else 404)


@pytest.mark.parametrize("method", [b"OPTIONS", b"CONNECT", b"TRACE", b"PRI"])
@pytest.mark.parametrize("target", [b"*", b"localhost:80"])
async def test_targets_of_other_methods_are_refused(
    served: Served, method: bytes, target: bytes
) -> None:
    with no_failures():
        status, _ = await exchange(served, head(target, b"Host: localhost:80", method=method))

    assert status == 400


@pytest.mark.parametrize("target", [b"http://localhost/healthz", b"HTTP://LOCALHOST/healthz?x=1"])
async def test_a_target_in_absolute_form_of_the_same_host_is_served(
    served: Served, target: bytes
) -> None:
    assert (await exchange(served, head(target, b"Host: localhost")))[0] == 200


@pytest.mark.parametrize("name", [b"Connection", b"Sec-WebSocket-Protocol"])
async def test_an_upgrade_with_a_header_that_cannot_be_decoded_is_a_400(
    served: Served, name: bytes
) -> None:
    headers = [b"Host: localhost", *UPGRADE, name + b": upgrade, \xff"]
    with no_failures():
        assert (await exchange(served, head(b"/", *headers)))[0] == 400


async def test_a_refused_body_is_taken_so_that_the_refusal_arrives(served: Served) -> None:
    size = 3_000_000
    headers = [b"Host: a..b", b"Content-Length: %d" % size]

    status, body = await exchange(
        served, head(b"/v1/models", *headers, method=b"POST"), b"x" * size
    )

    assert (status, json.loads(body)["error"]["code"]) == (400, "invalid_request")


FUZZ = settings(
    max_examples=examples(75),
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
BYTES = st.binary(max_size=60).map(lambda b: b.replace(b"\r", b"").replace(b"\n", b""))
TEXTS = st.text("a.:@[]%/\\-_*,0é²\0\t ", max_size=20).map(str.encode) | BYTES
NAMES = [
    b"Accept",
    b"Accept-Encoding",
    b"Authorization",
    b"Connection",
    b"Content-Encoding",
    b"Content-Length",
    b"Content-Type",
    b"Cookie",
    b"Expect",
    b"Forwarded",
    b"Host",
    b"If-None-Match",
    b"Origin",
    b"Range",
    b"Referer",
    b"Sec-WebSocket-Extensions",
    b"Sec-WebSocket-Key",
    b"Sec-WebSocket-Protocol",
    b"Sec-WebSocket-Version",
    b"Transfer-Encoding",
    b"Upgrade",
    b"X-Forwarded-For",
    b"X-Request-Id",
    b"x-opensoul-session-key",
]
PATHS = [
    b"/",
    b"/healthz",
    b"/v1/models",
    b"/v1/models/",
    b"/v1/chat/completions",
    b"",
    b"http://h",
]


@FUZZ
@given(
    method=st.sampled_from([b"GET", b"POST", b"OPTIONS", b"HEAD", b"CONNECT", b"X"]),
    path=st.sampled_from(PATHS),
    rest=TEXTS | st.sampled_from([b"%00", b"%ff", b"%ed%a0%80", b"?%gg=%", b"?a[]=&&=;"]),
    headers=st.lists(st.tuples(st.sampled_from(NAMES), TEXTS), max_size=4),
    base=st.sampled_from([(b"Host: h",), (b"Host: h", *UPGRADE), ()]),
)
async def test_no_head_makes_the_server_fail(
    served: Served,
    method: bytes,
    path: bytes,
    rest: bytes,
    headers: list[tuple[bytes, bytes]],
    base: tuple[bytes, ...],
) -> None:
    lines = [*base, *(name + b": " + value for name, value in headers)]
    lines.append(b"x-api-key: " + SECRET.encode())
    with no_failures():
        # The end of a body that is announced and does not come is not waited for.
        with_end = head(path + rest, *lines, b"Connection: close", method=method)
        port = int(served.url.rpartition(":")[2])
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        try:
            writer.write(with_end)
            async with asyncio.timeout(0.2):
                answered = await reader.readline()
        except (TimeoutError, ConnectionError):
            answered = b""
        finally:
            writer.transport.abort()
    assert b" 500 " not in answered
