"""Puts our classes in the places of hypercorn's, after a look at what these places hold."""

from __future__ import annotations

import inspect
from types import ModuleType

from hypercorn import protocol
from hypercorn.asyncio import run
from hypercorn.asyncio.tcp_server import TCPServer
from hypercorn.protocol import h2, h11
from hypercorn.protocol.http_stream import HTTPStream
from hypercorn.protocol.ws_stream import WebsocketBuffer, WSStream

from .http1 import RuledHttp1, RuledHttpStream
from .http2 import RuledHttp2
from .tcp_server import PatientServer
from .websocket_stream import RuledStream


class HypercornChanged(Exception):
    """hypercorn is not built as these rules expect; the message says where."""


def install() -> None:
    """Have hypercorn serve its connections by these rules. Doing it again changes nothing.

    Raises HypercornChanged.
    """
    for module, name, original, ours in _REPLACED:
        if getattr(module, name, None) not in (original, ours):
            raise HypercornChanged(f"{module.__name__} does not use its {name}")
    for owner, names in _EXPECTED.items():
        if absent := [name for name in names if not hasattr(owner, name)]:
            raise HypercornChanged(f"{owner.__name__} has no {', '.join(absent)}")
    for owner, parameters in _PARAMETERS.items():
        if missing := parameters - inspect.signature(owner).parameters.keys():
            raise HypercornChanged(f"{owner.__name__} takes no {', '.join(sorted(missing))}")
    for module, name, _, ours in _REPLACED:
        setattr(module, name, ours)


_REPLACED: tuple[tuple[ModuleType, str, type, type], ...] = (
    (protocol, "H11Protocol", h11.H11Protocol, RuledHttp1),
    (protocol, "H2Protocol", h2.H2Protocol, RuledHttp2),
    (h11, "HTTPStream", HTTPStream, RuledHttpStream),
    (h11, "WSStream", WSStream, RuledStream),
    (h2, "HTTPStream", HTTPStream, RuledHttpStream),
    (h2, "WSStream", WSStream, RuledStream),
    (run, "TCPServer", TCPServer, PatientServer),
)
"""Where hypercorn names a class, that class, and ours."""
_EXPECTED: dict[type, tuple[str, ...]] = {
    WSStream: ("handle", "app_send", "_accept", "_handle_events", "_send_wsproto_event"),
    HTTPStream: ("handle",),
    h11.H11Protocol: (
        "handle",
        "stream_send",
        "_check_protocol",
        "_send_error_response",
        "_send_h11_event",
    ),
    h2.H2Protocol: (
        "handle",
        "idle",
        "initiate",
        "stream_send",
        "_flush",
        "_handle_events",
        "_priority_updated",
        "_send_data",
    ),
    TCPServer: (
        "protocol_send",
        "_close",
        "_read_data",
        "_idle_timeout",
        "_initiate_server_close",
        "run",
    ),
}
_PARAMETERS: dict[type, set[str]] = {
    WSStream: {"app", "config", "task_group", "send", "stream_id"},
    HTTPStream: {"send", "stream_id"},
    h11.H11Protocol: {"config", "send"},
    h11.H2ProtocolAssumedError: {"data"},
    h2.H2Protocol: {"config", "send", "task_group"},
    TCPServer: {"writer"},
    WebsocketBuffer: {"max_length"},
}
