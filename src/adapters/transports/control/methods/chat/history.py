"""`chat.history`, `.startup` and `.message.get`: what was said in a Session."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Annotated, Any

from pydantic import Field

from ......domain.access import Principal
from ......domain.byte_budget import held_bytes
from ......domain.concurrency import off_loop
from ......domain.errors import InvalidRequest, UnknownSession
from ......domain.services import Gateway, SessionService
from ......domain.sessions import KeptMessage, SessionKey
from ....http.json_text import dumps
from ...broadcast import Hub
from ...connection import Call, Handler, Handlers, Params
from ...protocol import Count, Name, SessionKeyText
from ..payloads import Extras, Rows, message_object, shrunk, with_short_id
from .commands import Commands
from .inputs import Inputs

MAX_BYTES = 6 * 1024 * 1024
"""Of the messages of one answer, as JSON."""
_LEAST_BYTES = 4_096
_AT_ONCE = 50
"""Messages read at once: a long answer is never whole in memory twice."""

Number = Annotated[int, Field(ge=1)]
MessageId = Annotated[str, Field(pattern=r"^(.{1,256}:)?[1-9][0-9]{0,14}$")]
RunIds = Annotated[list[Name], Field(min_length=1, max_length=50)]


class HistoryParams(Params):
    """The newest `limit` messages; `cursor` (or `offset`): of those numbered below it only, as
    `nextCursor` of an answer before says. `message_id`: of those up to that message, by its id or
    its number. `max_bytes`: of all messages as JSON; `max_chars`: of each text. `input_run_ids`:
    runs of which the client wants to know whether its message has arrived."""

    session_key: SessionKeyText
    session_id: Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,127}$")] | None = None
    agent_id: Name | None = None
    limit: Annotated[int, Field(ge=1, le=1_000)] = 200
    offset: Count | None = None
    cursor: Number | Annotated[str, Field(pattern=r"^[1-9][0-9]{0,14}$")] | None = None
    message_id: MessageId | None = None
    max_bytes: Annotated[int, Field(ge=_LEAST_BYTES)] = MAX_BYTES
    max_chars: Number | None = None
    input_run_ids: RunIds | None = None


class StartupParams(HistoryParams):
    """As `chat.history`; in place of `session_key` there may be a `short_id`: 8 or more digits of
    the UUID that a session's key ends with, and in `slug_hint` words of its label."""

    session_key: Name | None = None  # type: ignore[assignment]
    short_id: Name | None = None
    slug_hint: Name | None = None


class MessageParams(Params):
    """One message, by its id. `max_chars`: of each text."""

    session_key: Name
    agent_id: Name | None = None
    message_id: MessageId
    max_chars: Number | None = None


def handlers(
    gateway: Gateway,
    session_service: SessionService,
    hub: Hub,
    commands: Commands,
    metadata: Metadata,
) -> Handlers:
    history = _History(gateway, session_service, hub, commands, metadata)
    return {
        "chat.history": Handler(HistoryParams, history.history),
        "chat.startup": Handler(StartupParams, history.startup),
        "chat.message.get": Handler(MessageParams, history.message),
    }


Metadata = Callable[[Call, str], object]
"""What `chat.metadata` answers, for an agent."""


@dataclass(frozen=True, slots=True)
class _History:
    gateway: Gateway
    session_service: SessionService
    hub: Hub
    commands: Commands
    metadata: Metadata

    async def startup(self, call: Call, params: StartupParams) -> object:
        """The history of the session that a client shows first, and what it can choose from."""
        given = params.model_dump(exclude_unset=True)
        short_id, slug = given.pop("short_id", None), given.pop("slug_hint", None)
        if (params.session_key is None) == (short_id is None):
            raise InvalidRequest("Give either sessionKey or shortId.", param="sessionKey")
        if short_id is not None:
            found = await with_short_id(
                self.session_service, call.principal, short_id, slug, params.agent_id
            )
            if len(found) != 1:
                raise UnknownSession(f"{len(found)} sessions have the short id {short_id}.")
            given["session_key"] = str(found[0].key)
        told = await self.history(call, HistoryParams(**given))
        key = self.gateway.session_key(told["sessionKey"])
        return {**told, "metadata": self.metadata(call, key.agent_id)}

    async def message(self, call: Call, params: MessageParams) -> object:
        """The message whole, as far as it fits an answer; a history may have cut it."""
        key = self.gateway.session_key(params.session_key, agent_id=params.agent_id)
        number = _number(params.message_id)
        kept = await self.session_service.messages(call.principal, key, limit=1, before=number + 1)
        if not kept:
            return {"ok": False, "unavailableReason": "not_found"}
        told = await off_loop(_size(kept), partial(_fitting, kept[0], params.max_chars))
        if told["seq"] != number or params.message_id not in (str(number), told["messageId"]):
            return {"ok": False, "unavailableReason": "not_found"}
        return {"ok": True, "message": told}

    async def history(self, call: Call, params: HistoryParams) -> dict[str, Any]:
        """From now on the client is told of the Session as well, beginning before the reading:
        what happens meanwhile is told twice rather than not at all."""
        key = self.gateway.session_key(params.session_key, agent_id=params.agent_id)
        with self.hub.room(call.connection, key):
            await self.hub.attend(call.connection, key)
        info = await self.session_service.find(call.principal, key)
        # By its id, so that a session that starts over in between is not mixed with itself.
        session_id = params.session_id or (None if info is None else info.session_id)
        messages = await self._read(call.principal, key, session_id, params)
        rows, inputs = Rows(self.gateway, self.session_service), Inputs(self.gateway, self.commands)
        told: dict[str, Any] = {
            "sessionKey": str(key),
            "messages": messages,
            "defaults": rows.defaults(),
            "sessionInfo": await rows.activity(call.principal, key),
            "hasMore": bool(messages) and messages[0]["seq"] > 1,
            "pendingInputs": await inputs.pending(call.principal, key),
        }
        if info is not None:
            told["sessionInfo"] = await rows.row(call.principal, info, Extras(titles=True))
        if session_id is not None:
            told["sessionId"] = session_id
        if told["hasMore"]:
            told["nextCursor"] = told["nextOffset"] = messages[0]["seq"]
        if params.input_run_ids is not None:
            told |= await inputs.receipts(call.principal, key, params.input_run_ids, messages)
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
            kept = await self.session_service.messages(
                principal, key, limit=wanted, before=before, session_id=session_id
            )
            fits = await off_loop(_size(kept), partial(page.add, kept))
            if not kept or not fits or kept[0].number == 1:
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


def _size(kept: Sequence[KeptMessage]) -> int:
    return held_bytes(one.message for one in kept)


def _fitting(kept: KeptMessage, max_chars: int | None) -> dict[str, Any]:
    """A message as an answer shows it."""
    told = message_object(kept, max_chars)
    return told if len(dumps(told)) <= MAX_BYTES else shrunk(told, MAX_BYTES)


def _before(params: HistoryParams) -> int | None:
    """The number that all messages are to be below. Raises InvalidRequest."""
    message_id = params.message_id
    given = {
        "cursor": None if params.cursor is None else int(params.cursor),
        "offset": params.offset or None,
        "messageId": None if message_id is None else _number(message_id) + 1,
    }
    named = {name: number for name, number in given.items() if number is not None}
    if len(named) > 1:
        raise InvalidRequest(
            f"Give one of {', '.join(named)}, not several: each says where the page ends.",
            param=next(iter(named)),
        )
    return next(iter(named.values()), None)


def _number(message_id: str) -> int:
    """The number that a message's id ends with."""
    return int(message_id.rpartition(":")[2])
