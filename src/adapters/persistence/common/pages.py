"""Lists of Runs, newest first, page by page; a page's cursor says behind which Run it goes on."""

from __future__ import annotations

import base64
import json
from collections.abc import Iterable

from ....domain.errors import InvalidRequest
from ....domain.runs import RunPage, RunQuery, RunRecord
from .codec import MAX_INTEGER

Numbered = tuple[int, RunRecord]
"""A Run with its number: later Runs have higher ones, wherever the system's clock is set to."""


def page_of(runs: Iterable[Numbered], query: RunQuery) -> RunPage:
    """The page that the query means, of these Runs. Raises InvalidRequest for a bad cursor.

    A cursor is a number of a Run, not a count: Runs that come or go meanwhile shift nothing.
    """
    before = decode_cursor(query.cursor)
    found = {
        number: record
        for number, record in runs
        if matches(record, query) and (before is None or number < before)
    }
    numbers = sorted(found, reverse=True)
    page = numbers[: query.limit]
    more = len(numbers) > len(page) > 0
    return RunPage(
        tuple(found[number] for number in page), encode_cursor(page[-1]) if more else None
    )


def matches(record: RunRecord, query: RunQuery) -> bool:
    return (
        query.session_key in (None, record.session_key)
        and query.agent_id in (None, record.agent_id)
        and query.principal_id in (None, record.principal_id)
        and query.status in (None, record.status)
    )


def encode_cursor(number: int) -> str:
    return base64.urlsafe_b64encode(f"[{number}]".encode()).decode()


def decode_cursor(cursor: str | None) -> int | None:
    """The number that `encode_cursor` made into this. Raises InvalidRequest."""
    if cursor is None:
        return None
    try:
        match json.loads(base64.b64decode(cursor.encode(), altchars=b"-_", validate=True)):
            case [int() as number] if abs(number) <= MAX_INTEGER:
                return number
    except (ValueError, RecursionError):
        pass
    raise InvalidRequest(
        "The cursor is none that a list of runs has handed out; leave it out to begin anew.",
        param="cursor",
    )
