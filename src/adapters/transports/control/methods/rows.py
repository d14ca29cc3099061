"""Sessions as rows of a list, as entries in responses to changes, and by their short ids."""

from __future__ import annotations

import re
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

from .....domain.access import Principal, Scope
from .....domain.errors import InvalidRequest
from .....domain.models import ModelTarget
from .....domain.services import Gateway, SessionService
from .....domain.sessions import MAIN, OWNER, SessionInfo, SessionKey, SessionQuery
from .messages import one_line

_TITLE = 80
_PREVIEW = 240
_LOOK_BACK = 6
"""Newest messages that are searched for one with text."""


@dataclass(frozen=True, slots=True)
class Rows:
    gateway: Gateway
    session_service: SessionService

    async def row(
        self,
        principal: Principal,
        info: SessionInfo,
        *,
        title: bool | None = False,
        last_message: bool | None = False,
    ) -> dict[str, Any]:
        """The row of a Session; times in milliseconds. `title` and `last_message` require reading
        the transcript."""
        row = {
            "key": str(info.key),
            "agentId": info.key.agent_id,
            "kind": _kind(info.key),
            "isMain": info.key.rest == MAIN,
            "lastActivityAt": _ms(info.updated_at),
            "lastInteractionAt": _ms(info.updated_at),
            "totalTokensFresh": True,
            **await self.activity(principal, info.key),
            **self.entry(info),
            **_model_and_window(self._target(info)),
        }
        if title:
            row |= _known(derivedTitle=await self._title(principal, info))
        if last_message:
            row |= _known(lastMessagePreview=await self._last(principal, info))
        return row

    async def activity(self, principal: Principal, key: SessionKey) -> dict[str, Any]:
        """The active Runs of a Session, which may not exist yet."""
        active = [run.id for run in await self.gateway.active(principal, key)]
        return {
            "hasActiveRun": bool(active),
            "activeRunIds": active,
            "status": "running" if active else "done",
        }

    def entry(self, info: SessionInfo) -> dict[str, Any]:
        """The stored state of a Session; its model is an override of the agent's."""
        settings = dict(info.settings)
        settings.pop(OWNER, None)
        chosen = settings.pop("model", None)
        entry: dict[str, Any] = {
            "sessionId": info.session_id,
            "createdAt": _ms(info.created_at),
            "updatedAt": _ms(info.updated_at),
            "messageCount": info.message_count,
            "inputTokens": info.input_tokens,
            "outputTokens": info.output_tokens,
            "compactionCount": info.compactions,
            "totalTokens": info.input_tokens + info.output_tokens,
            "archived": False,
            "pinned": False,
            "unread": False,
            **settings,
        }
        if "label" in settings:
            # Not a generated name: clients build links from it and generate their own.
            entry["displayName"] = settings["label"]
        if chosen is not None:
            provider, _, model = str(chosen).partition("/")
            entry |= {"providerOverride": provider, "modelOverride": model}
        return entry

    def resolved(self, info: SessionInfo) -> dict[str, Any]:
        """The model of the next turn: the session's, or the agent's first."""
        return _model(self._target(info))

    def defaults(self) -> dict[str, Any]:
        """The settings of a new Session of the default agent."""
        return _model_and_window(next(iter(self.gateway.settings.agents.default.models), None))

    def path(self, principal: Principal) -> str:
        """The path of the store; redacted unless the principal is an administrator."""
        store = self.gateway.settings.store
        kept = "(memory)" if store.memory else store.place
        return kept if principal.may(Scope.ADMIN) else "[redacted]"

    def _target(self, info: SessionInfo) -> ModelTarget | None:
        settings = self.gateway.settings
        chosen = info.settings.get("model")
        agent = settings.agents.get(info.key.agent_id)
        own = next(iter(agent.models), None) if agent is not None else None
        found = settings.models.get(str(chosen)) if chosen is not None else own
        return found or own or settings.models.get(info.model)

    async def _title(self, principal: Principal, info: SessionInfo) -> str | None:
        newest = await self.session_service.transcripts(principal, info.key, 1)
        question = newest[0].first_question if newest else None
        return one_line(question, _TITLE) if question else None

    async def _last(self, principal: Principal, info: SessionInfo) -> str | None:
        kept = await self.session_service.messages(principal, info.key, limit=_LOOK_BACK)
        texts = (one_line(one.message.text, _PREVIEW) for one in reversed(kept))
        return next(filter(None, texts), None)


def _model(target: ModelTarget | None) -> dict[str, Any]:
    if target is None:
        return {"modelProvider": None, "model": None}
    return {"modelProvider": target.provider.id, "model": target.model}


def _model_and_window(target: ModelTarget | None) -> dict[str, Any]:
    return {**_model(target), "contextTokens": None if target is None else target.context_window}


def lowered(agent_id: str | None) -> str | None:
    """The canonical form of an agent's id."""
    return None if agent_id is None else agent_id.strip().lower()


def _kind(key: SessionKey) -> str:
    parts = key.rest.lower().split(":")[:-1]
    return "group" if "group" in parts or "channel" in parts else "direct"


def _known(**values: object) -> dict[str, Any]:
    return {name: value for name, value in values.items() if value is not None}


def _ms(seconds: float) -> int:
    return int(seconds * 1_000)


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
