"""Builds the API keys of the configuration."""

from __future__ import annotations

import hashlib
from collections.abc import Collection
from datetime import UTC, datetime

from ....domain.agents import AgentDirectory
from ....domain.api_keys import (
    DEFAULT_SCOPES,
    ApiKey,
    KeyLimits,
    check_key_name,
    check_scopes,
    key_digest,
    scopes_of_names,
)
from ....domain.errors import InvalidRequest
from ..errors import listing
from ..read import Building
from ..schema.gateway import ApiKeyEntry

_PATH = ("gateway", "auth", "keys")


def build_keys(building: Building, agents: AgentDirectory) -> tuple[ApiKey, ...]:
    """The keys of `gateway.auth.keys`."""
    known = [agent.id for agent in agents]
    keys: list[ApiKey] = []
    for number, entry in enumerate(building.config.gateway.auth.keys):
        name = _name(building, entry, number, [key.name for key in keys])
        allowed = _agents(building, entry, number, known)
        scopes = DEFAULT_SCOPES
        try:
            if entry.scopes is not None:
                scopes = scopes_of_names(entry.scopes)
            check_scopes(scopes, allowed)
        except InvalidRequest as error:
            building.report(error.message, *_PATH, number, "scopes")
        keys.append(
            ApiKey(
                # The same for every start, and for every key of that name.
                id=f"cfg_{hashlib.sha256(name.encode()).hexdigest()[:16]}",
                name=name,
                digest=_digest(building, entry, number, [key.digest for key in keys]),
                scopes=scopes,
                agents=allowed,
                limits=KeyLimits(
                    entry.requests_per_minute,
                    entry.runs_at_once,
                    entry.tokens_per_day,
                    entry.tokens_per_month,
                    entry.cost_per_month,
                ),
                expires_at=_expiry(building, entry, number),
                configured=True,
            )
        )
    return tuple(keys)


def _name(building: Building, entry: ApiKeyEntry, number: int, others: Collection[str]) -> str:
    try:
        name = check_key_name(entry.name)
    except InvalidRequest as error:
        building.report(error.message, *_PATH, number, "name")
        return entry.name
    if name in others:
        building.report("is the name of another key", *_PATH, number, "name")
    return name


def _digest(building: Building, entry: ApiKeyEntry, number: int, others: Collection[str]) -> str:
    if (entry.key is None) == (entry.key_hash is None):
        if not building.broken(*_PATH, number):
            building.report("needs either `key` or `keyHash`", *_PATH, number)
        return ""
    if entry.key is not None:
        digest = key_digest(entry.key.encode("utf-8", "surrogatepass"))
    else:
        digest = (entry.key_hash or "").removeprefix("sha256:")
    if digest in others:
        building.report("is the secret of another key, too", *_PATH, number)
    return digest


def _agents(
    building: Building, entry: ApiKeyEntry, number: int, known: Collection[str]
) -> frozenset[str] | None:
    if entry.agents is None:
        return None
    allowed = frozenset(map(str.lower, entry.agents))
    if not allowed:
        building.report("needs an agent; leave it out for all", *_PATH, number, "agents")
    for agent in sorted(allowed.difference(known)):
        message = f"names the agent {agent!r}, which is not configured; known: {listing(known)}"
        building.report(message, *_PATH, number, "agents")
    return allowed


def _expiry(building: Building, entry: ApiKeyEntry, number: int) -> float | None:
    if entry.expires_at is None:
        return None
    try:
        at = datetime.fromisoformat(entry.expires_at)
    except ValueError:
        message = "must be a date such as 2030-01-31 or 2030-01-31T12:00:00Z"
        building.report(message, *_PATH, number, "expiresAt")
        return None
    return (at if at.tzinfo is not None else at.replace(tzinfo=UTC)).timestamp()
