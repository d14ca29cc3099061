"""Lists of Runs, newest first, page by page; a page's cursor says behind which Run it goes on."""

from __future__ import annotations

import base64
import json
from collections.abc import Iterable

from ...domain.errors import InvalidRequest
from ...domain.run_records import RunPage, RunQuery, RunRecord

Place = tuple[float, str]
"""Where a Run stands in a list: the time it was accepted at, and its id."""


def place_of(record: RunRecord) -> Place:
    return record.accepted_at, record.id


def page_of(records: Iterable[RunRecord], query: RunQuery) -> RunPage:
    """The page that the query means, of these Runs. Raises InvalidRequest for a bad cursor.

    A cursor names a place, not a count: Runs that come or go meanwhile shift nothing.
    """
    before = decode_cursor(query.cursor)
    found = [
        record
        for record in records
        if matches(record, query) and (before is None or place_of(record) < before)
    ]
    found.sort(key=place_of, reverse=True)
    page = tuple(found[: query.limit])
    more = len(found) > len(page) > 0
    return RunPage(page, encode_cursor(place_of(page[-1])) if more else None)


def matches(record: RunRecord, query: RunQuery) -> bool:
    return (
        query.session_key in (None, record.session_key)
        and query.agent_id in (None, record.agent_id)
        and query.status in (None, record.status)
    )


def encode_cursor(place: Place) -> str:
    return base64.urlsafe_b64encode(json.dumps(place).encode()).decode()


def decode_cursor(cursor: str | None) -> Place | None:
    """The place that `encode_cursor` made into this. Raises InvalidRequest."""
    if cursor is None:
        return None
    try:
        match json.loads(base64.b64decode(cursor.encode(), altchars=b"-_", validate=True)):
            case [float() | int() as at, str() as run_id]:
                return float(at), run_id
    except (ValueError, OverflowError, RecursionError):
        pass
    raise InvalidRequest(
        "The cursor is none that a list of runs has handed out; leave it out to begin anew.",
        param="cursor",
    )
