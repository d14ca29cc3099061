"""`chat.history`, `.startup` and `.message.get`: the messages of a Session."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Annotated, Any

from pydantic import Field

from .....domain.access import Principal
from .....domain.byte_budget import held_bytes
from .....domain.concurrency import off_loop
from .....domain.errors import InvalidRequest, UnknownRun, UnknownSession
from .....domain.messages import Role
from .....domain.runs import RunSpec
from .....domain.sessions import KeptMessage, SessionKey
from ...http.json_text import dumps
from ..broadcast import Hub, sender_key
from ..connection import Call, Params
from ..dependencies import Dependencies
from ..protocol import Count, Name, SessionKeyText
from .messages import content, message_object, shrunk
from .rows import with_short_id
from .service import ControlService, answers

_SHOWN = 20
"""Pending inputs that are listed."""


def _pending_item(run: RunSpec) -> dict[str, Any]:
    accepted_at = int(run.accepted_at * 1_000)
    return {
        "id": sender_key(run.id),
        "runId": run.id,
        "message": {
            "role": Role.USER.value,
            "content": content(run.messages[-1]),
            "timestamp": accepted_at,
            "idempotencyKey": sender_key(run.id),
        },
        "acceptedAt": accepted_at,
        "state": "queued",
    }


MAX_BYTES = 6 * 1024 * 1024
"""Bytes of the messages of one response, as JSON."""
_LEAST_BYTES = 4_096
_AT_ONCE = 50
"""Messages read per query, so that a long response is not in memory twice."""

Number = Annotated[int, Field(ge=1)]
MessageId = Annotated[str, Field(pattern=r"^(.{1,256}:)?[1-9][0-9]{0,14}$")]
RunIds = Annotated[list[Name], Field(min_length=1, max_length=50)]


class HistoryParams(Params):
    """The newest `limit` messages. `cursor` (or `offset`): only messages with lower numbers, from
    `nextCursor` of the previous page. `message_id`: only messages up to this one, by id or number.
    `max_bytes`: of all messages as JSON; `max_chars`: of each text. `input_run_ids`: runs for which
    the response says whether their message has arrived."""

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
    """Like `chat.history`. `short_id` may replace `session_key`: 8 or more digits of the UUID at
    the end of a session's key; `slug_hint`: words of its label."""

    session_key: Name | None = None  # type: ignore[assignment]
    short_id: Name | None = None
    slug_hint: Name | None = None


class MessageParams(Params):
    """One message, by its id. `max_chars`: of each text."""

    session_key: Name
    agent_id: Name | None = None
    message_id: MessageId
    max_chars: Number | None = None


Metadata = Callable[[Call, str], object]


class History(ControlService):
    """`metadata`: returns the payload of `chat.metadata` for an agent."""

    def __init__(self, dependencies: Dependencies, hub: Hub, metadata: Metadata) -> None:
        super().__init__(dependencies, hub)
        self.metadata = metadata

    @answers("chat.startup", StartupParams)
    async def startup(self, call: Call, params: StartupParams) -> object:
        """The history of the session that a client opens first, with commands and models."""
        fields = params.model_dump(exclude_unset=True)
        short_id, slug = fields.pop("short_id", None), fields.pop("slug_hint", None)
        if (params.session_key is None) == (short_id is None):
            raise InvalidRequest("Pass either sessionKey or shortId.", param="sessionKey")
        if short_id is not None:
            found = await with_short_id(
                self.session_service, call.principal, short_id, slug, params.agent_id
            )
            if len(found) != 1:
                raise UnknownSession(f"{len(found)} sessions have the short id {short_id}.")
            fields["session_key"] = str(found[0].key)
        payload = await self.history(call, HistoryParams(**fields))
        key = self.gateway.session_key(payload["sessionKey"], principal=call.principal)
        return {**payload, "metadata": self.metadata(call, key.agent_id)}

    @answers("chat.message.get", MessageParams)
    async def message(self, call: Call, params: MessageParams) -> object:
        """One message, which the history may have shortened; shortened to `MAX_BYTES` here."""
        key = self.gateway.session_key(
            params.session_key, agent_id=params.agent_id, principal=call.principal
        )
        number = _number(params.message_id)
        kept = await self.session_service.messages(call.principal, key, limit=1, before=number + 1)
        if not kept:
            return {"ok": False, "unavailableReason": "not_found"}
        message = await off_loop(_size(kept), partial(_fitting, kept[0], params.max_chars))
        if message["seq"] != number or params.message_id not in (str(number), message["messageId"]):
            return {"ok": False, "unavailableReason": "not_found"}
        return {"ok": True, "message": message}

    @answers("chat.history", HistoryParams)
    async def history(self, call: Call, params: HistoryParams) -> dict[str, Any]:
        """Also subscribes the client to the Session, before reading: an event in between is then
        delivered twice rather than lost."""
        key = self.gateway.session_key(
            params.session_key, agent_id=params.agent_id, principal=call.principal
        )
        with self.hub.subscriptions.reserved(call.connection, key):
            await self.hub.subscribe(call.connection, key)
        info = await self.session_service.find(call.principal, key)
        # By session id, so that a reset in between does not mix two transcripts.
        session_id = params.session_id or (None if info is None else info.session_id)
        messages = await self._read(call.principal, key, session_id, params)
        payload: dict[str, Any] = {
            "sessionKey": str(key),
            "messages": messages,
            "defaults": self.rows.defaults(),
            "sessionInfo": await self.rows.activity(call.principal, key),
            "hasMore": bool(messages) and messages[0]["seq"] > 1,
            "pendingInputs": await self._pending(call.principal, key),
        }
        if info is not None:
            payload["sessionInfo"] = await self.rows.row(call.principal, info, title=True)
        if session_id is not None:
            payload["sessionId"] = session_id
        if payload["hasMore"]:
            payload["nextCursor"] = payload["nextOffset"] = messages[0]["seq"]
        if params.input_run_ids is not None:
            payload |= await self._receipts(call.principal, key, params.input_run_ids, messages)
        for name in ("thinkingLevel", "verboseLevel"):
            if info is not None and name in info.settings:
                payload[name] = info.settings[name]
        return payload

    async def _pending(self, principal: Principal, key: SessionKey) -> dict[str, Any]:
        """The inputs of active Runs, whose messages are not in the history yet."""
        runs = await self.gateway.active(principal, key)
        return {"items": [_pending_item(run) for run in runs[:_SHOWN]], "total": len(runs)}

    async def _receipts(
        self,
        principal: Principal,
        key: SessionKey,
        run_ids: Sequence[str],
        messages: Sequence[Mapping[str, Any]],
    ) -> dict[str, Any]:
        """Whether each of these inputs is pending or consumed. Existing clients hold back later
        messages until an input is consumed, however its Run ended. `messages`: the messages of the
        same response."""
        active = {run.id for run in await self.gateway.active(principal, key)}
        stored = {one["runId"]: one["messageId"] for one in messages if one["role"] == Role.USER}
        pending: list[dict[str, Any]] = []
        consumed: list[dict[str, Any]] = []
        for run_id in dict.fromkeys(run_ids):
            if run_id in active and run_id not in stored:
                pending.append({"runId": run_id, "state": "pending"})
            elif run_id in stored or await self._accepted(principal, key, run_id):
                # The input of an aborted or failed run is not stored and has no message id.
                event = stored.get(run_id, sender_key(run_id))
                consumed.append({"runId": run_id, "consumedByEventId": event})
        receipts = [*pending, *({**one, "state": "consumed"} for one in consumed)]
        return {"inputReceipts": receipts, "inputConsumptions": consumed}

    async def _accepted(self, principal: Principal, key: SessionKey, run_id: str) -> bool:
        try:
            return (await self.gateway.run(principal, run_id)).session_key == key
        except UnknownRun:
            return False

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
    """Collects messages from the newest backwards, up to `max_bytes`."""

    def __init__(self, max_bytes: int, max_chars: int | None) -> None:
        self.messages: deque[dict[str, Any]] = deque()
        self._left = max_bytes - 2
        self._max_chars = max_chars

    def add(self, kept: tuple[KeptMessage, ...]) -> bool:
        """Add messages; False at the first that does not fit. The newest is shortened to fit."""
        for one in reversed(kept):
            message = message_object(one, self._max_chars)
            size = len(dumps(message)) + 1
            if size > self._left:
                if self.messages:
                    return False
                message = shrunk(message, self._left)
                size = len(dumps(message)) + 1
            self.messages.appendleft(message)
            self._left -= size
        return True


def _size(kept: Sequence[KeptMessage]) -> int:
    return held_bytes(one.message for one in kept)


def _fitting(kept: KeptMessage, max_chars: int | None) -> dict[str, Any]:
    message = message_object(kept, max_chars)
    return message if len(dumps(message)) <= MAX_BYTES else shrunk(message, MAX_BYTES)


def _before(params: HistoryParams) -> int | None:
    """The number that all messages must be below. Raises InvalidRequest."""
    message_id = params.message_id
    ends = {
        "cursor": None if params.cursor is None else int(params.cursor),
        "offset": params.offset or None,
        "messageId": None if message_id is None else _number(message_id) + 1,
    }
    passed = {name: number for name, number in ends.items() if number is not None}
    if len(passed) > 1:
        raise InvalidRequest(
            f"Pass only one of {', '.join(passed)}: each defines the end of the page.",
            param=next(iter(passed)),
        )
    return next(iter(passed.values()), None)


def _number(message_id: str) -> int:
    """The number at the end of a message id."""
    return int(message_id.rpartition(":")[2])
