"""The pieces of a model's tool calls, put in order and passed on once each."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from .....domain.models import ToolCallDelta
from .. import json as openai_json
from ..json import PairJoiner

MAX_CALLS = 1_024
"""Tool calls of one answer; also the pieces of calls in one chunk."""
_NO_ARGUMENTS = ("", "{}", "null")
_NOTHING = ("", "[]", "{}", "null", "none")


class TooMany(Exception):
    """An answer holds more of something than any model would send; the text is a clause."""


@dataclass(slots=True)
class _Call:
    """A call that has begun. `id` and `name` as known so far."""

    index: int
    id: str | None = None
    name: str | None = None


class ToolCalls:
    """The tool calls of one answer.

    A provider may leave out the `index` of a piece: then its place in the list counts. Some say
    index 0 for each of several calls: a piece with a name and another id begins a new one. Some
    repeat id and name in every piece, or make up a new id for each: only the first is passed on.
    A piece without a name and arguments begins no call: some end each answer with such a stub,
    or with an empty value of another type. One call may stand there without a list.
    """

    def __init__(self, pairs: PairJoiner) -> None:
        self._pairs = pairs
        """Repairs the arguments; their keys are the indexes of the calls."""
        self._open: dict[int, _Call] = {}
        """The call that a wire index means now."""
        self._ids: dict[int, str] = {}
        """The ids of calls that have not begun yet, by wire index."""
        self._begun = 0

    @property
    def any(self) -> bool:
        """Whether the model called anything."""
        return self._begun > 0

    def read(self, pieces: object) -> list[ToolCallDelta] | None:
        """The deltas of a `tool_calls` field, in order; None when it has another shape. Raises
        TooMany."""
        if _is_nothing(pieces):
            return []
        if isinstance(pieces, dict):
            pieces = [pieces]
        if not isinstance(pieces, list):
            return None
        if len(pieces) > MAX_CALLS:
            raise TooMany(f"it holds more than {MAX_CALLS} tool calls")
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
        """None when the piece says nothing new."""
        function = piece.get("function") or {}
        call_id = _word(piece.get("id"))
        name = _word(function.get("name"))
        arguments = _arguments(function.get("arguments"))
        index = piece.get("index")
        index = index if isinstance(index, int) else place
        if index not in self._open:
            if len(self._ids) > MAX_CALLS or self._begun >= MAX_CALLS:
                raise TooMany(f"it holds more than {MAX_CALLS} tool calls")
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
            raise TooMany(f"it holds more than {MAX_CALLS} tool calls")
        call = self._open[index] = _Call(self._begun)
        self._begun += 1
        return call, True


def _word(value: object) -> str | None:
    return openai_json.repaired(value) if isinstance(value, str) and value.strip() else None


def _is_nothing(value: object) -> bool:
    """An empty value of any type, or a word for it."""
    return not value or (isinstance(value, str) and value.strip().lower() in _NOTHING)


def _arguments(value: object) -> str:
    """The JSON text of the arguments; some send it decoded."""
    if value is None:
        return ""
    return value if isinstance(value, str) else openai_json.shown(value)
