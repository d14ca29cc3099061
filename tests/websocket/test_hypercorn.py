"""hypercorn is the one that our replacements were written against, and they are what serves."""

from __future__ import annotations

import hashlib
import inspect
from importlib.metadata import version
from typing import Any

import hpack
import pytest
from hypercorn import protocol
from hypercorn.asyncio.tcp_server import TCPServer
from hypercorn.protocol import h2, h11
from hypercorn.protocol.h2 import H2Protocol
from hypercorn.protocol.h11 import H11Protocol
from hypercorn.protocol.http_stream import HTTPStream
from hypercorn.protocol.ws_stream import WebsocketBuffer, WSStream

from opensoul.app.server import hypercorn as replacing
from opensoul.app.server.hypercorn import HypercornChanged, install
from opensoul.app.server.hypercorn.http1 import RuledHttp1, RuledHttpStream
from opensoul.app.server.hypercorn.http2 import RuledHttp2
from opensoul.app.server.hypercorn.tcp_server import PatientServer
from opensoul.app.server.hypercorn.websocket_message import ByteCounter
from opensoul.app.server.hypercorn.websocket_stream import RuledStream
from tests.floods.attack import PREFACE, h2_frame, h2_request
from tests.websocket.client import connected, upgrade
from tests.websocket.serving import serving

REPLACED: list[tuple[type, type, str]] = [
    (TCPServer, PatientServer, "3bfa72b319509f2b"),
    (H11Protocol, RuledHttp1, "b32a61e0a8ca2127"),
    (H2Protocol, RuledHttp2, "7257f8bafccaa2e5"),
    (HTTPStream, RuledHttpStream, "e0f656feb55ab89c"),
    (WSStream, RuledStream, "67434c428a1a3c04"),
    (WebsocketBuffer, ByteCounter, "31c9b1345f308f4c"),
]
"""hypercorn's class, ours, and the beginning of the SHA-256 of the source that ours relies on."""
_UPGRADE = [
    (":method", "CONNECT"),
    (":protocol", "websocket"),
    (":scheme", "http"),
    (":path", "/"),
    (":authority", "localhost"),
    ("sec-websocket-version", "13"),
]
REQUESTS: dict[str, tuple[bytes, type, type]] = {
    "HTTP/1.1": (b"GET /nothing HTTP/1.1\r\nHost: localhost\r\n\r\n", RuledHttp1, RuledHttpStream),
    "HTTP/1.1 WebSocket": (upgrade(), RuledHttp1, RuledStream),
    "HTTP/2": (PREFACE + h2_request(1), RuledHttp2, RuledHttpStream),
    "HTTP/2 WebSocket": (
        PREFACE + h2_frame(1, hpack.Encoder().encode(_UPGRADE), flags=0x04, stream=1),
        RuledHttp2,
        RuledStream,
    ),
}
"""What a client sends, and our classes of its connection's protocol and of its stream."""


@pytest.mark.both_loops
@pytest.mark.parametrize(
    ("request_bytes", "of_protocol", "of_stream"), REQUESTS.values(), ids=REQUESTS
)
async def test_what_serves_a_request_is_ours(
    request_bytes: bytes, of_protocol: type, of_stream: type
) -> None:
    async with serving(http2=True) as served, connected(served.port) as client:
        client.writer.write(request_bytes)
        await served.begun.wait()
        stream: Any = served.sends[0].__self__  # type: ignore[attr-defined]
        of_connection = stream.send.__self__
        classes = [type(stream), type(of_connection), type(of_connection.send.__self__)]
        assert classes == [of_stream, of_protocol, PatientServer]


def overridden(original: type, ours: type) -> list[str]:
    return [
        name
        for name, member in vars(ours).items()
        if inspect.isfunction(member) and hasattr(original, name) and name != "__init__"
    ]


def test_the_table_names_the_version_that_is_installed() -> None:
    assert f"written against hypercorn {version('hypercorn')}." in (replacing.__doc__ or "")


@pytest.mark.parametrize(
    ("original", "digest"), [pytest.param(o, d, id=o.__name__) for o, _, d in REPLACED]
)
def test_the_source_of_what_is_replaced_is_the_one_that_was_read(
    original: type, digest: str
) -> None:
    found = hashlib.sha256(inspect.getsource(original).encode()).hexdigest()[:16]
    assert found == digest, (
        f"{original.__name__} has changed: read its changes, mend what replaces it in "
        "src/app/server/hypercorn, and write the new digest here."
    )


@pytest.mark.parametrize(
    ("original", "ours", "name"),
    [
        pytest.param(original, ours, name, id=f"{ours.__name__}.{name}")
        for original, ours, _ in REPLACED
        for name in overridden(original, ours)
    ],
)
def test_what_overrides_takes_the_same_parameters(original: type, ours: type, name: str) -> None:
    theirs = inspect.signature(getattr(original, name)).parameters.values()
    mine = inspect.signature(getattr(ours, name)).parameters.values()
    assert [(p.name, p.kind, p.default) for p in mine] == [
        (p.name, p.kind, p.default) for p in theirs
    ]


def test_installing_twice_is_installing_once() -> None:
    install()
    install()
    assert h11.WSStream is h2.WSStream is RuledStream  # type: ignore[attr-defined]
    assert h11.HTTPStream is h2.HTTPStream is RuledHttpStream  # type: ignore[attr-defined]
    assert (protocol.H11Protocol, protocol.H2Protocol) == (RuledHttp1, RuledHttp2)  # type: ignore[attr-defined]


@pytest.mark.parametrize(
    ("module", "name"),
    [
        ("protocol", "H11Protocol"),
        ("protocol", "H2Protocol"),
        ("protocol.h11", "HTTPStream"),
        ("protocol.h11", "WSStream"),
        ("protocol.h2", "HTTPStream"),
        ("protocol.h2", "WSStream"),
        ("asyncio.run", "TCPServer"),
    ],
)
def test_a_hypercorn_that_makes_other_classes_is_refused(
    monkeypatch: pytest.MonkeyPatch, module: str, name: str
) -> None:
    install()
    monkeypatch.setattr(f"hypercorn.{module}.{name}", object)
    with pytest.raises(HypercornChanged, match=f"hypercorn.{module} does not use its {name}"):
        install()


def test_another_release_of_hypercorn_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("opensoul.app.server.hypercorn.replacements.version", lambda _: "0.19.0")
    with pytest.raises(HypercornChanged, match=r"hypercorn 0\.19\.0 is installed"):
        install()
