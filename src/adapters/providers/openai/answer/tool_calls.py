"""Converts the pieces of a model's tool calls into ToolCallDeltas."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from .....domain.errors import ModelFailed
from .....domain.models import ToolCallDelta
from ...http import FailureFactory, PairJoiner, json_text

MAX_CALLS = 1_024
"""Tool calls of one answer; also the pieces of calls in one chunk."""
_MOST_CHECKS = 64
_NO_ARGUMENTS = ("", "{}", "null")
_NOTHING = ("", "[]", "{}", "null", "none")


@dataclass(slots=True)
class _Call:
    """A call that has begun. `slot`: the index that the provider gave it, None if it gave none.
    `id` and `name` are None until known."""

    index: int
    slot: int | None
    id: str | None = None
    name: str | None = None
    arguments: list[str] = field(default_factory=list)
    size: int = 0
    """Characters of the arguments."""
    has_no_arguments: bool = False
    """The provider sent an empty object as arguments."""
    checks: int = 0

    def add(self, arguments: str) -> None:
        self.arguments.append(arguments)
        self.size += len(arguments)

    def is_complete(self) -> bool:
        """Whether the arguments so far are a JSON object, so that nothing can follow them.

        The number of checks is bounded, because each reads all arguments.
        """
        if not self.arguments[-1].rstrip().endswith("}") or self.checks >= _MOST_CHECKS:
            return False
        self.checks += 1
        return json_text.loads("".join(self.arguments).encode("utf-8", "replace")) is not None

    def is_repeated_by(self, arguments: str) -> bool:
        """Whether a piece has the same, complete arguments once more."""
        if len(arguments) != self.size or arguments != "".join(self.arguments):
            return False
        return self.is_complete()

    def continues(self, call_id: str | None, name: str | None, arguments: str) -> bool:
        """Whether a piece that may belong to this call does, and does not begin another one."""
        if name is None or self.name is None:
            return True
        has_other_id = bool(call_id and self.id and call_id != self.id)
        if self.arguments:
            same = name == self.name and not has_other_id
            if same and (not arguments or self.is_repeated_by(arguments)):
                return True
            return name == self.name and not self.is_complete()
        if has_other_id:
            return False
        # The same name again, or the rest of it.
        has_place = bool(call_id) or self.slot is not None
        return name == self.name or (has_place and not self.has_no_arguments)


class ToolCalls:
    """The tool calls of one answer.

    Differences between providers:

    - `index` is missing: a piece belongs to the call with its id, to the one at the same position
      of the last list of several pieces, or to the last call.
    - Each of several calls has index 0: a piece with a name and another id begins a new call. So
      does a name behind complete arguments, where there are no ids.
    - Every piece repeats id and name, or has a new id: only the first is used. A name may also come
      in pieces.
    - The arguments are an object instead of a text, or begin with an empty one.
    - The last piece repeats the whole call.
    - The answer ends with a piece without name and arguments, or an empty value of another type:
      such a piece begins no call.
    - A single call is not in a list; name and arguments are not in `function`.
    """

    def __init__(self, failures: FailureFactory, pairs: PairJoiner) -> None:
        self._failures = failures
        self._pairs = pairs
        """Joins surrogates in the arguments; the key is the index of the call."""
        self._open: dict[int, _Call] = {}
        """The current call of each `index` that the provider uses."""
        self._places: dict[int, _Call] = {}
        """The calls of the last list of several pieces without `index`, by their position."""
        self._last: _Call | None = None
        self._named: dict[tuple[int | None, str], _Call] = {}
        """The last call of each slot and id."""
        self._ids: dict[int | None, str] = {}
        """The ids of calls that have not begun yet, by slot."""
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
            delta = self._delta(place if len(pieces) > 1 else None, piece)
            if delta is not None:
                deltas.append(delta)
        return deltas

    def _delta(self, place: int | None, piece: dict[str, Any]) -> ToolCallDelta | None:
        """None if the piece has nothing new. `place`: its position in a list of several."""
        function = piece.get("function") or ({} if "function" in piece else piece)
        call_id = _word(piece.get("id"))
        name = _word(function.get("name"))
        arguments = _arguments(function.get("arguments"))
        slot = _number(piece.get("index", function.get("index")))
        call = self._call_of(slot, place, call_id)
        if call is None:
            if len(self._ids) > MAX_CALLS or self._begun >= MAX_CALLS:
                raise self._too_many()
            call_id = self._ids.setdefault(slot, call_id) if call_id else self._ids.get(slot)
            if not name and arguments.strip() in _NO_ARGUMENTS:
                return None
        begins = call is None or not call.continues(call_id, name, arguments)
        if call is None or begins:
            call = self._begin(slot)
        self._last = call
        if place is not None and slot is None:
            self._places[place] = call
        return self._added(call, call_id, name, arguments, begins=begins)

    def _call_of(self, slot: int | None, place: int | None, call_id: str | None) -> _Call | None:
        """The call that a piece may belong to."""
        if call_id and (named := self._named.get((slot, call_id))):
            return named
        if slot is not None:
            return self._open.get(slot)
        return self._last if place is None else self._places.get(place)

    def _begin(self, slot: int | None) -> _Call:
        if self._begun >= MAX_CALLS:
            raise self._too_many()
        call = _Call(self._begun, slot)
        self._begun += 1
        if slot is not None:
            self._open[slot] = call
        self._ids.pop(slot, None)
        return call

    def _added(
        self, call: _Call, call_id: str | None, name: str | None, arguments: str, *, begins: bool
    ) -> ToolCallDelta | None:
        """Add a piece to its call. None if it has nothing new."""
        new_id = None if call.id else call_id
        if new_id:
            call.id = new_id
            self._named[call.slot, new_id] = call
        known = call.name or ""
        new_name = name and name.removeprefix(known)
        call.name = known + (new_name or "") or None
        if not call.arguments and arguments.strip() in _NO_ARGUMENTS:
            # Other arguments may follow. If none do, the call has none either.
            call.has_no_arguments |= bool(arguments.strip())
            arguments = ""
        elif call.arguments and call.is_repeated_by(arguments):
            arguments = ""
        if arguments:
            call.add(arguments)
        arguments = self._pairs.join(call.index, arguments)
        if not (begins or new_id or new_name or arguments):
            return None
        return ToolCallDelta(call.index, new_id, new_name or None, arguments)

    def _too_many(self) -> ModelFailed:
        return self._failures.unusable(f"it holds more than {MAX_CALLS} tool calls")


def _word(value: object) -> str | None:
    return json_text.repaired(value) if isinstance(value, str) and value.strip() else None


def _number(value: object) -> int | None:
    """An index, also as a text."""
    if isinstance(value, str) and value.isdecimal():
        value = int(value[:9])
    return value if isinstance(value, int) and not isinstance(value, bool) else None


def _is_nothing(value: object) -> bool:
    """Whether it is an empty value of any type, also as a string."""
    return not value or (isinstance(value, str) and value.strip().lower() in _NOTHING)


def _arguments(value: object) -> str:
    """The JSON text of the arguments; some providers send them decoded."""
    if value is None:
        return ""
    return value if isinstance(value, str) else json_text.shown(value)
