"""`chat.history`: what was said in a Session, page by page from its end."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass
from typing import Annotated, Any

from pydantic import Field

from .....domain.auth import Principal
from .....domain.errors import InvalidRequest
from .....domain.gateway import Gateway
from .....domain.session_desk import SessionDesk
from .....domain.session_records import KeptMessage
from .....domain.sessions import SessionKey
from ...http.json_text import dumps
from ..calls import Call, Handler, Handlers, Params
from ..frames import Count, Name
from ..hub import Hub
from .kept_messages import message_object, shrunk

MAX_BYTES = 6 * 1024 * 1024
"""Of the messages of one answer, as JSON."""
_LEAST_BYTES = 4_096
_AT_ONCE = 50
"""Messages read at once: a long answer is never whole in memory twice."""

Number = Annotated[int, Field(ge=1)]


class HistoryParams(Params):
    """The newest `limit` messages; `cursor` (or `offset`): of those numbered below it only, as
    `nextCursor` of an answer before says. `message_id`: of those up to that number. `max_bytes`:
    of all messages as JSON; `max_chars`: of each text."""

    session_key: Name
    session_id: Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,127}$")] | None = None
    agent_id: Name | None = None
    limit: Annotated[int, Field(ge=1, le=1_000)] = 200
    offset: Count | None = None
    cursor: Number | Annotated[str, Field(pattern=r"^[1-9][0-9]{0,14}$")] | None = None
    message_id: Annotated[str, Field(pattern=r"^[1-9][0-9]{0,14}$")] | None = None
    max_bytes: Annotated[int, Field(ge=_LEAST_BYTES)] = MAX_BYTES
    max_chars: Number | None = None


def handlers(gateway: Gateway, desk: SessionDesk, hub: Hub) -> Handlers:
    return {"chat.history": Handler(HistoryParams, _History(gateway, desk, hub).history)}


@dataclass(frozen=True, slots=True)
class _History:
    gateway: Gateway
    desk: SessionDesk
    hub: Hub

    async def history(self, call: Call, params: HistoryParams) -> object:
        """From now on the client is told of the Session as well, beginning before the reading:
        what happens meanwhile is told twice rather than not at all."""
        key = self.gateway.session_key(params.session_key, agent_id=params.agent_id)
        with self.hub.room(call.connection, key):
            self.hub.attend(call.connection, key)
        info = await self.desk.find(call.principal, key)
        # By its id, so that a session that starts over in between is not mixed with itself.
        session_id = params.session_id or (None if info is None else info.session_id)
        messages = await self._read(call.principal, key, session_id, params)
        active = [run.id for run in self.gateway.active(call.principal, key)]
        told: dict[str, Any] = {
            "sessionKey": str(key),
            "messages": messages,
            "sessionInfo": {"hasActiveRun": bool(active), "activeRunIds": active},
        }
        if session_id is not None:
            told["sessionId"] = session_id
        if messages and messages[0]["seq"] > 1:
            told["nextCursor"] = messages[0]["seq"]
        for name in ("thinkingLevel", "verboseLevel"):
            if info is not None and name in info.settings:
                told[name] = info.settings[name]
        return told

    async def _read(
        self, principal: Principal, key: SessionKey, session_id: str | None, params: HistoryParams
    ) -> list[dict[str, Any]]:
        page = _Page(min(params.max_bytes, MAX_BYTES), params.max_chars)
        before = _before(params)
        while len(page.messages) < params.limit:
            wanted = min(_AT_ONCE, params.limit - len(page.messages))
            kept = await self.desk.messages(
                principal, key, limit=wanted, before=before, session_id=session_id
            )
            if not page.add(kept) or len(kept) < wanted:
                break
            before = kept[0].number
        return list(page.messages)


class _Page:
    """Messages as long as they fit, the newest first in."""

    def __init__(self, max_bytes: int, max_chars: int | None) -> None:
        self.messages: deque[dict[str, Any]] = deque()
        self._left = max_bytes - 2
        self._max_chars = max_chars

    def add(self, kept: tuple[KeptMessage, ...]) -> bool:
        """Add what fits; False where something did not. The newest message always does."""
        for one in reversed(kept):
            told = message_object(one, self._max_chars)
            size = len(dumps(told)) + 1
            if size > self._left:
                if self.messages:
                    return False
                told = shrunk(told, self._left)
                size = len(dumps(told)) + 1
            self.messages.appendleft(told)
            self._left -= size
        return True


def _before(params: HistoryParams) -> int | None:
    """The number that all messages are to be below. Raises InvalidRequest."""
    given = {
        "cursor": None if params.cursor is None else int(params.cursor),
        "offset": params.offset or None,
        "messageId": None if params.message_id is None else int(params.message_id) + 1,
    }
    named = {name: number for name, number in given.items() if number is not None}
    if len(named) > 1:
        raise InvalidRequest(
            f"Give one of {', '.join(named)}, not several: each says where the page ends.",
            param=next(iter(named)),
        )
    return next(iter(named.values()), None)
