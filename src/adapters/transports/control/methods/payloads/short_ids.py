"""Finds Sessions by short ids in links: the first digits of the UUID in their key."""

from __future__ import annotations

import re
from itertools import pairwise

from ......domain.access import Principal
from ......domain.errors import InvalidRequest
from ......domain.services import SessionService
from ......domain.sessions import SessionInfo, SessionQuery

_SHORT_ID = re.compile(r"[0-9a-f]{8,32}")
_UUID = re.compile(r"([0-9a-f]{8})-([0-9a-f]{4})-([0-9a-f]{4})-([0-9a-f]{4})-([0-9a-f]{12})$")
_GROUPS = (8, 12, 16, 20)
"""Digits of a UUID before each of its hyphens."""
_MOST = 100
"""Sessions that are examined; UUIDs with equal beginnings were created within the same minute."""


async def with_short_id(
    session_service: SessionService,
    principal: Principal,
    short_id: str,
    slug: str | None,
    agent_id: str | None,
) -> tuple[SessionInfo, ...]:
    """The Sessions with this short id. If there are several and some have a label equal to `slug`,
    only those. Raises InvalidRequest."""
    digits = short_id.lower()
    if not _SHORT_ID.fullmatch(digits):
        raise InvalidRequest("shortId must be 8-32 hexadecimal characters", param="shortId")
    query = SessionQuery(
        agent_id=None if agent_id is None else agent_id.strip().lower(),
        search=_hyphenated(digits),
        limit=_MOST,
    )
    page = await session_service.list(principal, query)
    found = tuple(info for info in page.sessions if _digits(info).startswith(digits))
    if len(found) < 2 or slug is None:
        return found
    wanted = _slug(slug)
    named = tuple(info for info in found if _slug(str(info.settings.get("label", ""))) == wanted)
    return named or found


def _hyphenated(digits: str) -> str:
    """Insert hyphens as in a UUID."""
    ends = (0, *(end for end in _GROUPS if end < len(digits)), len(digits))
    return "-".join(digits[start:end] for start, end in pairwise(ends))


def _digits(info: SessionInfo) -> str:
    """The digits of the UUID at the end of the key; empty if there is none."""
    uuid = _UUID.search(str(info.key).lower())
    return "" if uuid is None else "".join(uuid.groups())


def _slug(text: str) -> str:
    return "-".join(re.findall(r"[a-z0-9]+", text.lower()))
