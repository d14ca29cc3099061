"""Converts the pieces of a model's tool calls into ToolCallDeltas."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from .....domain.errors import ModelFailed
from .....domain.models import ToolCallDelta
from ...http import FailureFactory, PairJoiner, json_text

MAX_CALLS = 1_024
"""Tool calls of one answer; also the pieces of calls in one chunk."""
_NO_ARGUMENTS = ("", "{}", "null")
_NOTHING = ("", "[]", "{}", "null", "none")


@dataclass(slots=True)
class _Call:
    """A call that has begun. `id` and `name` are None until known."""

    index: int
    id: str | None = None
    name: str | None = None


class ToolCalls:
    """The tool calls of one answer.

    Differences between providers:

    - `index` is missing: the position in the list is used.
    - Each of several calls has index 0: a piece with a name and another id begins a new call.
    - Every piece repeats id and name, or has a new id: only the first is used.
    - The answer ends with a piece without name and arguments, or an empty value of another type:
      such a piece begins no call.
    - A single call is not in a list.
    """

    def __init__(self, failures: FailureFactory, pairs: PairJoiner) -> None:
        self._failures = failures
        self._pairs = pairs
        """Joins surrogates in the arguments; the key is the index of the call."""
        self._open: dict[int, _Call] = {}
        """The current call of each `index` that the provider uses."""
        self._ids: dict[int, str] = {}
        """The ids of calls that have not begun yet, by `index`."""
        self._begun = 0

    @property
    def any(self) -> bool:
        return self._begun > 0

    def read(self, pieces: object) -> list[ToolCallDelta] | None:
        """The deltas of a `tool_calls` field, in order; None if its shape is unknown. Raises
        ModelFailed if an answer has more than MAX_CALLS."""
        if _is_nothing(pieces):
            return []
        if isinstance(pieces, dict):
            pieces = [pieces]
        if not isinstance(pieces, list):
            return None
        if len(pieces) > MAX_CALLS:
            raise self._too_many()
        deltas = []
        for place, piece in enumerate(pieces):
            if _is_nothing(piece):
                continue
            if not isinstance(piece, dict) or not isinstance(piece.get("function") or {}, dict):
                return None
            if (delta := self._delta(place, piece)) is not None:
                deltas.append(delta)
        return deltas

    def _delta(self, place: int, piece: dict[str, Any]) -> ToolCallDelta | None:
        """None if the piece has nothing new."""
        function = piece.get("function") or {}
        call_id = _word(piece.get("id"))
        name = _word(function.get("name"))
        arguments = _arguments(function.get("arguments"))
        index = piece.get("index")
        index = index if isinstance(index, int) else place
        if index not in self._open:
            if len(self._ids) > MAX_CALLS or self._begun >= MAX_CALLS:
                raise self._too_many()
            call_id = self._ids.setdefault(index, call_id) if call_id else self._ids.get(index)
            if not name and arguments.strip() in _NO_ARGUMENTS:
                return None
        call, begins = self._call(index, call_id, name)
        call_id = None if call.id else call_id
        name = None if call.name else name
        call.id, call.name = call.id or call_id, call.name or name
        arguments = self._pairs.join(call.index, arguments)
        if not (begins or call_id or name or arguments):
            return None
        return ToolCallDelta(call.index, call_id, name, arguments)

    def _call(self, index: int, call_id: str | None, name: str | None) -> tuple[_Call, bool]:
        call = self._open.get(index)
        another = call is not None and name and call_id and call.id and call_id != call.id
        if call is not None and not another:
            return call, False
        if self._begun >= MAX_CALLS:
            raise self._too_many()
        call = self._open[index] = _Call(self._begun)
        self._begun += 1
        return call, True

    def _too_many(self) -> ModelFailed:
        return self._failures.unusable(f"it holds more than {MAX_CALLS} tool calls")


def _word(value: object) -> str | None:
    return json_text.repaired(value) if isinstance(value, str) and value.strip() else None


def _is_nothing(value: object) -> bool:
    """Whether it is an empty value of any type, also as a string."""
    return not value or (isinstance(value, str) and value.strip().lower() in _NOTHING)


def _arguments(value: object) -> str:
    """The JSON text of the arguments; some providers send them decoded."""
    if value is None:
        return ""
    return value if isinstance(value, str) else json_text.shown(value)
