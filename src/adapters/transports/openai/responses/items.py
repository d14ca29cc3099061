"""Input items in the form in which they are kept and listed, and pages of items."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence, Set
from typing import Any

from quart import request

from .....domain.errors import InvalidRequest
from .....domain.responses import ItemPage, ItemQuery, Json
from .....domain.services import repeated_item

_PREFIXES = {
    "message": "msg",
    "function_call": "fc",
    "function_call_output": "fco",
    "reasoning": "rs",
    "compaction": "cmp",
}
_REFERENCE = "item_reference"
_TEXT_PARTS = {"assistant": "output_text"}
_KEY = re.compile(r"[a-z]{2,4}_([0-9a-f]{32})(_.{0,40})?")
"""The id of an item: of an answer, or of the input of a response."""
MAX_LISTED = 100
"""Items of one page, as OpenAI has it."""


def key_of_item(item_id: str) -> str | None:
    """The key of the response that an item belongs to; None for ids of another form."""
    found = _KEY.fullmatch(item_id)
    return None if found is None else found[1]


def kept_items(
    items: Iterable[object], key: str, resolved: Mapping[str, object] | None = None
) -> list[Json]:
    """Items that were read, each with an id of its own and its content as parts. `key`: makes the
    ids of those without one, or with that of an earlier item. `resolved`: the items that references
    stand for."""
    made: list[Json] = []
    seen: set[str] = set()
    for number, item in enumerate(items):
        if not isinstance(item, dict):
            continue
        kind = _kind_of(item)
        if kind == _REFERENCE:
            known = (resolved or {}).get(str(item.get("id")))
            if isinstance(known, Mapping) and known["id"] not in seen:
                seen.add(str(known["id"]))
                made.append(known)
            continue
        item_id = item.get("id") or ""
        if not item_id or item_id in seen:
            item_id = f"{_PREFIXES.get(kind, 'item')}_{key}_in{number}"
        seen.add(item_id)
        own: dict[str, Any] = {"id": item_id, "type": kind, "status": "completed"}
        own |= {name: value for name, value in item.items() if name != "id" and value is not None}
        if isinstance(text := own.get("content"), str) and kind == "message":
            part = _TEXT_PARTS.get(str(own.get("role")), "input_text")
            extra: dict[str, Any] = {"annotations": []} if part == "output_text" else {}
            own["content"] = [{"type": part, "text": text, **extra}]
        made.append(own)
    return made


def layers_in(items: Iterable[Json]) -> list[Json]:
    """The messages of `system` and `developer` among kept items."""
    return [
        {"type": "message", "role": item["role"], "content": item["content"]}
        for item in items
        if item["type"] == "message" and item.get("role") in ("system", "developer")
    ]


def refuse_repeated(items: Iterable[object], before: Set[str]) -> None:
    """Refuse an item of the input whose id is one of those `before` it. Raises InvalidRequest."""
    for number, item in enumerate(items):
        if isinstance(item, dict) and item.get("id") in before and _kind_of(item) != _REFERENCE:
            raise repeated_item(str(item["id"]), f"input[{number}].id")


def _kind_of(item: Mapping[str, Any]) -> str:
    kind: str = item.get("type") or ("message" if "role" in item else _REFERENCE)
    return kind


def item_query() -> ItemQuery:
    """The page that the query of the current request asks for. Raises InvalidRequest."""
    args = request.args
    limit, order = args.get("limit", "20"), args.get("order", "desc")
    if not (limit.isascii() and limit.isdigit() and len(limit) < 4 and 1 <= int(limit) <= 100):
        raise InvalidRequest(f"`limit` must be 1 to {MAX_LISTED}.", param="limit")
    if order not in ("asc", "desc"):
        raise InvalidRequest("`order` must be one of asc, desc.", param="order")
    return ItemQuery(int(limit), args.get("after") or None, order == "desc")


def page_of(items: Sequence[Json], query: ItemQuery) -> ItemPage:
    """A page of items that are all there. Raises InvalidRequest."""
    ordered = list(reversed(items)) if query.newest_first else list(items)
    if query.after is not None:
        ids = [item.get("id") for item in ordered]
        if query.after not in ids:
            raise InvalidRequest("`after` names no item of this list.", param="after")
        ordered = ordered[ids.index(query.after) + 1 :]
    return ItemPage(ordered[: query.limit], len(ordered) > query.limit)


def list_object(page: ItemPage) -> dict[str, object]:
    """A page as OpenAI lists items."""
    items = page.items
    return {
        "object": "list",
        "data": list(items),
        "first_id": items[0].get("id") if items else None,
        "last_id": items[-1].get("id") if items else None,
        "has_more": page.has_more,
    }
