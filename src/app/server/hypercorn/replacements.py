"""Puts our classes in the places of hypercorn's."""

from __future__ import annotations

from importlib.metadata import version
from types import ModuleType

from hypercorn import protocol
from hypercorn.asyncio import run
from hypercorn.asyncio.tcp_server import TCPServer
from hypercorn.protocol import h2, h11
from hypercorn.protocol.http_stream import HTTPStream
from hypercorn.protocol.ws_stream import WSStream

from .http1 import RuledHttp1, RuledHttpStream
from .http2 import RuledHttp2
from .tcp_server import PatientServer
from .websocket_stream import RuledStream

RELEASES = "0.18."


class HypercornChanged(Exception):
    """These replacements were not written for the installed hypercorn."""


def install() -> None:
    """Make hypercorn use our classes. Idempotent. Raises HypercornChanged."""
    installed = version("hypercorn")
    if not installed.startswith(RELEASES):
        raise HypercornChanged(
            f"hypercorn {installed} is installed, but this Gateway needs {RELEASES}x."
        )
    for module, name, original, ours in _REPLACED:
        if getattr(module, name, None) not in (original, ours):
            raise HypercornChanged(f"{module.__name__} does not use its {name}")
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
"""A module and its name for a class, hypercorn's class, and ours."""
