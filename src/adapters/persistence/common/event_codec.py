"""Events of a Run as bytes, and back: one closed, tagged JSON form, small because there are many.

A batch is a list of events, an event a list that begins with its tag.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from typing import assert_never

import orjson

from ....domain.errors import FailureKind
from ....domain.models import ReasoningDelta, StopReason, TextDelta, Usage
from ....domain.runs import Aborted, Failed, Finished, Resumed, RunEvent, Started, Waiting
from .codec import Undecodable

_MOST_TOKENS = 2**53
"""More than any provider counts; JSON's numbers are exact up to there."""


def encode_events(events: Iterable[RunEvent]) -> bytes:
    """The events as JSON; texts with lone surrogates as in `codec.encode`."""
    # Nearly all events are texts: those without a call for each.
    body = [["t", e.text] if isinstance(e, TextDelta) else _event(e) for e in events]
    try:
        return orjson.dumps(body)
    except orjson.JSONEncodeError:
        text = json.dumps(body, ensure_ascii=False, separators=(",", ":"))
        return text.encode("utf-8", "surrogatepass")


def decode_events(data: bytes) -> list[RunEvent]:
    """The events that `encode_events` made into `data`. Raises Undecodable."""
    body = _loads(data)
    if not isinstance(body, list):
        raise Undecodable("stored events of a run are not a list")
    return [_decode_event(event) for event in body]


def _event(event: RunEvent) -> list[object]:
    match event:
        case TextDelta(text=text):
            return ["t", text]
        case ReasoningDelta(text=text):
            return ["r", text]
        case Started(queued=queued, history=history):
            return ["s", queued, history]
        case Finished(stop=stop, usage=usage, model=model):
            return ["f", stop.value, _usage(usage), model]
        case Failed(kind=kind):
            name = None if kind is None else kind.value
            return ["x", event.code, event.message, name, event.retry_after, event.param]
        case Aborted(reason=reason):
            return ["a", reason]
        case Waiting(what=what, approval_id=approval_id, expires=expires):
            return ["w", what, approval_id, expires]
        case Resumed(attempt=attempt, void=void, why=why):
            return ["R", attempt, void, why]
        case _:
            assert_never(event)


def _usage(usage: Usage) -> list[object]:
    counts = (usage.input, usage.output, usage.reasoning, usage.cached)
    return [*(max(-_MOST_TOKENS, min(count, _MOST_TOKENS)) for count in counts), usage.estimated]


def _decode_event(body: object) -> RunEvent:
    try:
        match body:
            case ["t", str() as text]:
                return TextDelta(text)
            case ["r", str() as text]:
                return ReasoningDelta(text)
            case ["w", str() as what, None | str() as approval_id, None | float() as expires]:
                return Waiting(what, approval_id, expires)
            case ["R", int() as attempt, int() as void, str() as why]:
                return Resumed(attempt, void, why)
            case ["s", int() | float() as queued, int() | float() as history]:
                return Started(queued, history)
            case ["f", str() as stop, usage, str() as model]:
                return Finished(StopReason(stop), _decode_usage(usage), model)
            case [
                "x",
                str() as code,
                str() as message,
                str() | None as kind,
                int() | float() | None as wait,
                str() | None as param,
            ]:
                failure = None if kind is None else FailureKind(kind)
                return Failed(code, message, failure, wait, param)
            case ["a", str() as reason]:
                return Aborted(reason)
    except ValueError as error:
        raise Undecodable(f"a stored event of a run is of no known kind: {error}") from error
    raise Undecodable("a stored event of a run is of no known kind")


def _decode_usage(body: object) -> Usage:
    match body:
        case [
            int() as asked,
            int() as answered,
            int() as reasoning,
            int() as cached,
            bool() as estimated,
        ]:
            return Usage(asked, answered, reasoning, cached, estimated)
    raise Undecodable("a stored event of a run has no usage")


def _loads(data: bytes) -> object:
    try:
        return orjson.loads(data)
    except orjson.JSONDecodeError:
        pass  # Lone surrogates, or damage: the slow way tells which.
    try:
        return json.loads(data.decode("utf-8", "surrogatepass"))
    except (ValueError, RecursionError) as error:
        raise Undecodable(f"stored events of a run are not JSON: {error}") from error
