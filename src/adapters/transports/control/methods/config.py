"""`config.*`: reading and editing the configuration file."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Callable, Mapping
from functools import partial
from typing import Annotated, Any

from pydantic import Field

from .....domain.access import Principal, Scope
from .....domain.ports.configuration import ConfigIssue, ConfigRefused, ConfigSnapshot
from ..broadcast import Hub
from ..connection import AnswerFailed, Call, NoParams, Params
from ..dependencies import Dependencies
from ..protocol import INVALID_REQUEST, ErrorShape, Name, SessionKeyText, Text
from .config_schema import (
    HELD_BACK,
    LookupParams,
    looked_up,
    reload_mode,
    requiring_restart,
    wait_applied,
)
from .service import ControlService, answers

_FILE = re.compile(r"(?<!\S)/\S+")

Edit = Callable[[str, str | None], ConfigSnapshot]


class SetParams(Params):
    """`base_hash`: the `hash` of the configuration that was edited; required if the file exists."""

    raw: str
    base_hash: Name | None = None


class ApplyParams(SetParams):
    """The parameters that announce a restart are accepted and ignored: there is no restart."""

    session_key: SessionKeyText | None = None
    note: Text | None = None
    restart_delay_ms: Annotated[int, Field(ge=0, le=60_000)] | None = None
    delivery_context: Any = None


class ConfigMethods(ControlService):
    """Reads and writes the file in threads; a lock serialises edits."""

    def __init__(self, dependencies: Dependencies, hub: Hub) -> None:
        super().__init__(dependencies, hub)
        self._config = dependencies.config
        self._edit_lock = asyncio.Lock()

    @answers("config.get", NoParams)
    async def _get(self, call: Call, params: NoParams) -> object:
        """The configuration without secrets. Only administrators see the path of the file."""
        reader = not call.principal.may(Scope.ADMIN)
        snapshot = await asyncio.to_thread(partial(self._config.snapshot, reader=reader))
        payload = _snapshot(snapshot, call.principal)
        payload["appliedConfigHash"] = self.dependencies.applied()
        return payload

    @answers("config.schema", NoParams)
    async def _schema(self, call: Call, params: NoParams) -> object:
        return dict(await asyncio.to_thread(self._config.schema))

    @answers("config.schema.lookup", LookupParams)
    async def _lookup(self, call: Call, params: LookupParams) -> object:
        return looked_up(await asyncio.to_thread(self._config.schema), params.path)

    @answers("config.set", SetParams)
    async def _set(self, call: Call, params: SetParams) -> object:
        async with self._edit_lock:
            after = await self._edited(self._config.replace, params)
        return _edited(after, call.principal)

    @answers("config.apply", ApplyParams)
    async def _apply(self, call: Call, params: ApplyParams) -> object:
        return await self._applying(call, params, self._config.replace)

    @answers("config.patch", ApplyParams)
    async def _patch(self, call: Call, params: ApplyParams) -> object:
        return await self._applying(call, params, self._config.patch)

    async def _applying(self, call: Call, params: ApplyParams, edit: Edit) -> object:
        """Edit the file and wait until the Gateway has applied it; the response names the settings
        that require a restart."""
        async with self._edit_lock:
            before = await asyncio.to_thread(self._config.snapshot)
            after = await self._edited(edit, params)
            schema = await asyncio.to_thread(self._config.schema)
            if reload_mode(before) not in HELD_BACK:
                await wait_applied(lambda: self.dependencies.applied() == after.hash)
        return {**_edited(after, call.principal), "restart": _restart(before, after, schema)}

    async def _edited(self, edit: Edit, params: SetParams) -> ConfigSnapshot:
        """Raises AnswerFailed with all issues."""
        try:
            return await asyncio.to_thread(edit, params.raw, params.base_hash)
        except ConfigRefused as rejection:
            details = {"code": rejection.code, "issues": [_issue(one) for one in rejection.issues]}
            error = ErrorShape(code=INVALID_REQUEST, message=rejection.message, details=details)
            raise AnswerFailed(error, None) from rejection


def _restart(
    before: ConfigSnapshot, after: ConfigSnapshot, schema: Mapping[str, Any]
) -> dict[str, Any]:
    mode = reload_mode(before)
    if mode in HELD_BACK:
        reason = f"gateway.reload.mode is {mode}: restart the Gateway to apply the file"
        return {"ok": False, "reason": reason, "mode": mode}
    paths = (
        requiring_restart(before.config, after.config, schema.get("schema", {}))
        if before.valid
        else []
    )
    if paths:
        reason = f"applied, except for settings that require a restart: {', '.join(paths)}"
        return {"ok": False, "reason": reason, "mode": mode, "paths": paths}
    return {"ok": False, "reason": "applied without a restart", "mode": mode}


def _snapshot(snapshot: ConfigSnapshot, principal: Principal) -> dict[str, Any]:
    return {
        **_path(snapshot, principal),
        "exists": snapshot.exists,
        "raw": snapshot.raw,
        "parsed": snapshot.parsed,
        "valid": snapshot.valid,
        "config": snapshot.config,
        "hash": snapshot.hash,
        "configRevisionHash": snapshot.hash,
        "issues": [_shown(one, principal) for one in snapshot.issues],
        "warnings": [_shown(one, principal) for one in snapshot.warnings],
        "legacyIssues": [],
    }


def _edited(snapshot: ConfigSnapshot, principal: Principal) -> dict[str, Any]:
    content = {"config": snapshot.config, "hash": snapshot.hash}
    return {"ok": True, **_path(snapshot, principal), **content}


def _path(snapshot: ConfigSnapshot, principal: Principal) -> dict[str, Any]:
    return {"path": snapshot.path if principal.may(Scope.ADMIN) else "[redacted]"}


def _shown(issue: ConfigIssue, principal: Principal) -> dict[str, Any]:
    """Like `_issue`; paths of files are redacted unless the principal is an administrator."""
    payload = _issue(issue)
    if not principal.may(Scope.ADMIN):
        payload["message"] = _FILE.sub("[redacted]", issue.message)
    return payload


def _issue(issue: ConfigIssue) -> dict[str, Any]:
    payload: dict[str, Any] = {"path": issue.path, "message": issue.message}
    return payload if issue.line is None else {**payload, "line": issue.line}
