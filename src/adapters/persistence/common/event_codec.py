"""Events of a Run as bytes, and back: a JSON list of the stored forms of `domain.runs.kinds`."""

from __future__ import annotations

import json
from collections.abc import Iterable

import orjson

from ....domain.models import TextDelta
from ....domain.runs import EVERY_KIND, RunEvent, consumes, dump_event, load_event
from .codec import Undecodable


@consumes(*EVERY_KIND)
def encode_events(events: Iterable[RunEvent]) -> bytes:
    """The events as JSON; texts with lone surrogates as in `codec.encode`."""
    # Nearly all events are texts: those without a call for each.
    body = [
        ["t", e.text] if isinstance(e, TextDelta) and not e.refusal else dump_event(e)
        for e in events
    ]
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
    return [_load(event) for event in body]


def _load(stored: object) -> RunEvent:
    try:
        return load_event(stored)
    except ValueError as error:
        raise Undecodable(f"a stored event of a run cannot be read: {error}") from error


def _loads(data: bytes) -> object:
    try:
        return orjson.loads(data)
    except orjson.JSONDecodeError:
        pass  # Lone surrogates, or damage: the slow way finds out which.
    try:
        return json.loads(data.decode("utf-8", "surrogatepass"))
    except (ValueError, RecursionError) as error:
        raise Undecodable(f"stored events of a run are not JSON: {error}") from error
