"""What distinguishes the HTTP APIs of model providers from one another."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from ....domain.errors import ModelFailed
from ....domain.models import ModelEvent, ModelFinished, ModelRequest, Provider
from .failures import ApiDescription, FailureFactory


class Answer(Protocol):
    """Reads the answer to one call. Every method may raise ModelFailed.

    `feed` gets each piece of an event stream, `end` follows the last one, `whole` gets a body that
    is not an event stream. If a failure follows the events that they return, `check` raises it.
    """

    done: bool

    @property
    def has_finished(self) -> bool:
        """Whether the reason for the end of the answer arrived; little may follow it."""
        ...

    def feed(self, piece: bytes) -> Sequence[ModelEvent]: ...

    def end(self, cut: ModelFailed | None = None) -> Sequence[ModelEvent]: ...

    def whole(self, body: bytes, cut: ModelFailed | None = None) -> Sequence[ModelEvent]: ...

    def check(self) -> None: ...

    def finished(self) -> ModelFinished: ...


class Api(Protocol):
    """One HTTP API: its requests and the reader of its answers."""

    description: ApiDescription

    def headers(self, provider: Provider) -> dict[str, str]:
        """The headers of the API itself, with the key."""
        ...

    def body(self, request: ModelRequest, failures: FailureFactory) -> bytes:
        """The JSON text of a call. Raises ModelFailed (BAD_REQUEST) if it cannot be expressed."""
        ...

    def answer(self, failures: FailureFactory, content_type: str, wait: float | None) -> Answer:
        """The reader of one answer. `wait`: its `Retry-After` in seconds."""
        ...

    def is_complete(self, body: bytes) -> bool:
        """Whether a body that is not an event stream is a complete answer."""
        ...
