"""Failures of a server, and limits for what it sends."""

from __future__ import annotations

from collections.abc import Iterable

from ...domain.models import Secret

MOST_BYTES = 32 * 1024 * 1024
"""The most bytes of one message of a server."""
_TAIL_BYTES = 4_000
_SHORTEST_SECRET = 4


class ServerUnavailable(Exception):
    """A server cannot be used now. The message is a clause that says why."""


class ConnectionLost(Exception):
    """The connection ended. The message is a clause that says how."""


class Diagnostics:
    """The end of what a server wrote to its standard error, or refused requests, without its
    secrets."""

    def __init__(self, secrets: Iterable[Secret]) -> None:
        self._bytes = bytearray()
        self._is_cut = False
        self._secrets = [secret.reveal() for secret in secrets]

    def add(self, chunk: bytes) -> None:
        self._bytes += chunk
        self._is_cut |= len(self._bytes) > _TAIL_BYTES
        del self._bytes[:-_TAIL_BYTES]

    def clear(self) -> None:
        self._bytes.clear()
        self._is_cut = False

    @property
    def text(self) -> str:
        # A line without its beginning could begin with a part of a secret.
        whole = self._bytes.partition(b"\n")[2] if self._is_cut else self._bytes
        return masked(whole.decode("utf-8", "replace").strip(), self._secrets)


def masked(text: str, secrets: Iterable[str]) -> str:
    for secret in secrets:
        if len(secret) >= _SHORTEST_SECRET:
            text = text.replace(secret, "***")
    return text
