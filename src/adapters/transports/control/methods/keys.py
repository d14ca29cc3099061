"""`keys.*` and `usage.keys`: the API keys of clients."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import UTC, datetime
from typing import Annotated, Any

from pydantic import Field

from .....domain.access import Principal
from .....domain.api_keys import (
    DEFAULT_SCOPES,
    ApiKey,
    KeyLimits,
    KeyUsage,
    day_of,
    scopes_of_names,
)
from .....domain.ports import Clock
from .....domain.services import Keys, NewKey
from .....domain.sessions import NAMESPACE
from ..connection import Call, Params
from ..protocol import Name
from .service import ControlService, answers

_DAY = 86_400.0
_Limit = Annotated[int, Field(ge=1, le=2**53 - 1)] | None


class ListKeysParams(Params):
    """`revoked`: list the revoked keys as well."""

    revoked: bool = False


class KeyParams(Params):
    """`key`: the name or the id of a key."""

    key: Name


class CreateKeyParams(Params):
    """`agents` left out: all agents. `expires_at_ms`: Unix time. `cost_per_month`: US dollars."""

    name: Name
    agents: Annotated[list[Name], Field(max_length=256)] | None = None
    scopes: Annotated[list[Name], Field(max_length=64)] | None = None
    requests_per_minute: _Limit = None
    runs_at_once: _Limit = None
    tokens_per_day: _Limit = None
    tokens_per_month: _Limit = None
    cost_per_month: Annotated[float, Field(gt=0, allow_inf_nan=False)] | None = None
    expires_at_ms: Annotated[int, Field(ge=0, le=2**53 - 1)] | None = None


class KeyUsageParams(Params):
    """`days`: up to today, in UTC. `key`: only this one, by name or id."""

    days: Annotated[int, Field(ge=1, le=3_650)] = 30
    key: Name | None = None


class KeyAdmin:
    """The methods, as functions of their parameters: for the control plane and, without a running
    Gateway, for the command line."""

    def __init__(self, keys: Keys, clock: Clock) -> None:
        self._keys = keys
        self._clock = clock

    async def list_keys(self, principal: Principal, params: ListKeysParams) -> dict[str, Any]:
        keys = await self._keys.list(principal, revoked=params.revoked)
        return {"keys": [self._row(key) for key in keys]}

    async def get(self, principal: Principal, params: KeyParams) -> dict[str, Any]:
        return self._row(await self._keys.show(principal, params.key))

    async def create(self, principal: Principal, params: CreateKeyParams) -> dict[str, Any]:
        """Only this answer and that of `rotate` show a key."""
        expires = params.expires_at_ms
        new = NewKey(
            name=params.name,
            agents=None if params.agents is None else frozenset(map(str.lower, params.agents)),
            scopes=DEFAULT_SCOPES if params.scopes is None else scopes_of_names(params.scopes),
            limits=KeyLimits(
                params.requests_per_minute,
                params.runs_at_once,
                params.tokens_per_day,
                params.tokens_per_month,
                params.cost_per_month,
            ),
            expires_at=None if expires is None else expires / 1_000,
        )
        return _secret(*await self._keys.create(principal, new))

    async def rotate(self, principal: Principal, params: KeyParams) -> dict[str, Any]:
        return _secret(*await self._keys.rotate(principal, params.key))

    async def revoke(self, principal: Principal, params: KeyParams) -> dict[str, Any]:
        return self._row(await self._keys.revoke(principal, params.key))

    async def usage(self, principal: Principal, params: KeyUsageParams) -> dict[str, Any]:
        """The days and the sums of each key, also of revoked ones."""
        now = self._clock()
        since = day_of(now - (params.days - 1) * _DAY)
        rows = await self._keys.usage(principal, since)
        if params.key is not None:
            chosen = await self._keys.show(principal, params.key)
            rows = tuple(row for row in rows if row.key_id == chosen.id)
        by_key: dict[str, list[KeyUsage]] = {}
        for row in rows:
            by_key.setdefault(row.key_id, []).append(row)
        return {
            "startDate": since,
            "endDate": day_of(now),
            "keys": [self._usage(key_id, of_key) for key_id, of_key in by_key.items()],
        }

    def _usage(self, key_id: str, rows: list[KeyUsage]) -> dict[str, Any]:
        key = self._keys.find(key_id)
        return {
            "id": key_id,
            "name": None if key is None else key.name,
            "totals": _totals(rows),
            "daily": [{"date": row.day, **_totals((row,))} for row in rows],
        }

    def _row(self, key: ApiKey) -> dict[str, Any]:
        """The key without its secret; limits that are null do not exist."""
        limits, now = key.limits, self._clock()
        return {
            "id": key.id,
            "name": key.name,
            "status": key.status(now),
            "source": "config" if key.configured else "store",
            "agents": None if key.agents is None else sorted(key.agents),
            "scopes": sorted(key.scopes),
            "sessionNamespace": f"{NAMESPACE}{key.id}:",
            "limits": {
                "requestsPerMinute": limits.requests_per_minute,
                "runsAtOnce": limits.runs_at_once,
                "tokensPerDay": limits.tokens_per_day,
                "tokensPerMonth": limits.tokens_per_month,
                "costPerMonth": limits.cost_per_month,
            },
            "createdAt": _date(key.created_at or None),
            "expiresAt": _date(key.expires_at),
            "rotatedAt": _date(key.rotated_at),
            "revokedAt": _date(key.revoked_at),
        }


class KeyMethods(ControlService):
    @property
    def _admin(self) -> KeyAdmin:
        return KeyAdmin(self.dependencies.keys, self.clock)

    @answers("keys.list", ListKeysParams)
    async def _list(self, call: Call, params: ListKeysParams) -> object:
        return await self._admin.list_keys(call.principal, params)

    @answers("keys.get", KeyParams)
    async def _get(self, call: Call, params: KeyParams) -> object:
        return await self._admin.get(call.principal, params)

    @answers("keys.create", CreateKeyParams)
    async def _create(self, call: Call, params: CreateKeyParams) -> object:
        return await self._admin.create(call.principal, params)

    @answers("keys.rotate", KeyParams)
    async def _rotate(self, call: Call, params: KeyParams) -> object:
        return await self._admin.rotate(call.principal, params)

    @answers("keys.revoke", KeyParams)
    async def _revoke(self, call: Call, params: KeyParams) -> object:
        return await self._admin.revoke(call.principal, params)

    @answers("usage.keys", KeyUsageParams)
    async def _usage(self, call: Call, params: KeyUsageParams) -> object:
        await self.gateway.flush_usage()
        return await self._admin.usage(call.principal, params)


def _secret(key: ApiKey, secret: str) -> dict[str, Any]:
    return {"id": key.id, "name": key.name, "key": secret}


def _totals(rows: Iterable[KeyUsage]) -> dict[str, Any]:
    rows = tuple(rows)
    return {
        "requests": sum(row.requests for row in rows),
        "runs": sum(row.runs for row in rows),
        "input": sum(row.input for row in rows),
        "output": sum(row.output for row in rows),
        "cached": sum(row.cached for row in rows),
        "totalTokens": sum(row.tokens for row in rows),
        "totalCost": round(sum(row.cost for row in rows), 6),
        "missingCostEntries": sum(row.unpriced for row in rows),
    }


def _date(at: float | None) -> str | None:
    return None if at is None else datetime.fromtimestamp(at, UTC).isoformat(timespec="seconds")
