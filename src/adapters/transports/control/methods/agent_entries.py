"""Patches that add, change and remove agents in the configuration file.

A file lists its agents in `agents.entries`, by id, or in `agents.list`; the patch keeps that form.
Each function returns a function from the file's present content to a patch; errors are raised when
that function is called.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from .....domain.agents import DEFAULT_AGENT_ID
from .....domain.errors import InvalidRequest
from .....domain.ports.configuration import MakePatch
from .....domain.text import Kind, literal

_NOT_IN_IDS = re.compile(r"[^a-z0-9_-]+")
_LONGEST_ID = 64
_KINDS = {"name": Kind.TEXT, "workspace": Kind.SETTING, "model": Kind.SETTING}
"""The kinds of the texts in which variables would be substituted."""


def agent_id_of(name: str) -> str:
    """The id of a new agent with this name. Raises InvalidRequest."""
    agent_id = _NOT_IN_IDS.sub("-", name.strip().lower()).lstrip("-_")[:_LONGEST_ID].rstrip("-")
    if not agent_id:
        raise InvalidRequest(
            f'the name "{name}" has no letter or digit to make an id from', param="name"
        )
    if agent_id == DEFAULT_AGENT_ID:
        raise InvalidRequest(f'"{DEFAULT_AGENT_ID}" is reserved', param="name")
    return agent_id


def has_entries(config: object) -> bool:
    """Whether the applied configuration has its agents in `agents.entries`."""
    return bool(_object(_object(config).get("agents")).get("entries"))


def added(agent_id: str, fields: Mapping[str, Any], keyed: bool) -> MakePatch:
    """Append an agent. If no agent is listed, the implicit agent `main` is listed too.

    `keyed`: the applied configuration has agents by id, possibly in an included file.
    """

    def patch(config: Mapping[str, object]) -> Mapping[str, object]:
        agents = _FileAgents.of(config, keyed)
        if agents.find(agent_id) is not None:
            raise InvalidRequest(f'agent "{agent_id}" already exists', param="name")
        new = {agent_id: _merged({}, fields)}
        return agents.patch(new if agents.entries else {DEFAULT_AGENT_ID: {}, **new})

    return patch


def changed(agent_id: str, fields: Mapping[str, Any], known: bool, keyed: bool) -> MakePatch:
    """Change an agent. `known`: the applied configuration has it, possibly in an included file.

    `keyed`: see `added`.
    """

    def patch(config: Mapping[str, object]) -> Mapping[str, object]:
        agents = _FileAgents.of(config, keyed)
        entry = agents.find(agent_id)
        if entry is None and not known:
            raise InvalidRequest(f'agent "{agent_id}" not found', param="agentId")
        return agents.patch({agent_id: _merged(entry or {}, fields)})

    return patch


class Removal:
    """Remove an agent and its bindings. `bindings`: the number of removed bindings, after the call.
    `known`, `keyed`: see `changed`."""

    def __init__(self, agent_id: str, known: bool, keyed: bool) -> None:
        self._agent_id = agent_id
        self._known = known
        self._keyed = keyed
        self.bindings = 0

    def __call__(self, config: Mapping[str, object]) -> Mapping[str, object]:
        agents = _FileAgents.of(config, self._keyed)
        if agents.find(self._agent_id) is None and not self._known:
            raise InvalidRequest(f'agent "{self._agent_id}" not found', param="agentId")
        # This includes the implicit agent, if none is listed.
        if self._agent_id == agents.default:
            raise InvalidRequest(
                f'default agent "{self._agent_id}" cannot be deleted', param="agentId"
            )
        patch = agents.patch({self._agent_id: None})
        bindings = config.get("bindings")
        if isinstance(bindings, list):
            kept = [one for one in bindings if not self._is_bound(one)]
            self.bindings = len(bindings) - len(kept)
            if self.bindings:
                patch["bindings"] = kept
        return patch

    def _is_bound(self, binding: object) -> bool:
        named = binding.get("agentId") if isinstance(binding, Mapping) else None
        return str(named).lower() == self._agent_id


@dataclass(frozen=True, slots=True)
class _FileAgents:
    """The agents in the main file. `keyed`: by id in `agents.entries`.

    `entries`: pairs of the id as written and the entry.
    """

    entries: list[tuple[str, dict[str, Any]]]
    keyed: bool
    system_agent: str | None

    @classmethod
    def of(cls, config: Mapping[str, object], keyed: bool) -> _FileAgents:
        agents = _object(config.get("agents"))
        system = _object(_object(agents.get("defaults")).get("systemAgent")).get("agentId")
        named = system.lower() if isinstance(system, str) else None
        by_id, listed = _object(agents.get("entries")), agents.get("list")
        if keyed or ("entries" in agents and not listed):
            found = [
                (name, dict(_object(one))) for name, one in by_id.items() if name != "$include"
            ]
            return cls(found, True, named)
        rows = [dict(one) for one in _list(listed) if isinstance(one, Mapping)]
        return cls([(str(one.get("id", "")), one) for one in rows], False, named)

    @property
    def default(self) -> str:
        """The id of the default agent."""
        marked = [name for name, one in self.entries if one.get("default") is True]
        chosen = [] if self.system_agent is None else [self.system_agent]
        every = [name for name, _ in self.entries]
        return next(iter((*marked, *chosen, *every, DEFAULT_AGENT_ID))).lower()

    def find(self, agent_id: str) -> dict[str, Any] | None:
        return next((one for name, one in self.entries if name.lower() == agent_id), None)

    def patch(self, new: Mapping[str, dict[str, Any] | None]) -> dict[str, object]:
        """The merge patch that sets these agents, by id; None removes one."""
        spelled = {name.lower(): name for name, _ in self.entries}
        if self.keyed:
            return {"agents": {"entries": {spelled.get(id_, id_): one for id_, one in new.items()}}}
        kept = [new.get(name.lower(), entry) for name, entry in self.entries]
        fresh = [
            {"id": id_, **one} for id_, one in new.items() if one is not None and id_ not in spelled
        ]
        return {"agents": {"list": [*(one for one in kept if one is not None), *fresh]}}


def _object(value: object) -> Mapping[str, Any]:
    return value if isinstance(value, Mapping) else {}


def _list(value: object) -> list[Any]:
    return value if isinstance(value, list) else []


def _merged(entry: Mapping[str, Any], fields: Mapping[str, Any]) -> dict[str, Any]:
    """The entry with the new fields; a new model keeps the configured fallbacks.

    The texts are escaped: a reference to a variable would be substituted, and `agents.list` would
    show the variable's value.
    """
    fields = {
        name: literal(str(text), _KINDS[name]) if name in _KINDS else text
        for name, text in fields.items()
    }
    merged = dict(entry)
    for name in ("name", "workspace"):
        if name in fields:
            merged[name] = fields[name]
    if "model" in fields:
        previous = entry.get("model")
        model = fields["model"]
        merged["model"] = {**previous, "primary": model} if isinstance(previous, Mapping) else model
    identity = {name: fields[name] for name in ("emoji", "avatar") if name in fields}
    if identity:
        written = entry.get("identity")
        merged["identity"] = {**(written if isinstance(written, Mapping) else {}), **identity}
    return merged
