"""Agents in the configuration file: adding, changing and removing one.

A file has them in `agents.entries`, by their ids, or in `agents.list`, and keeps its form.

Each function returns a patch to be made on the file as it is at that moment; what it refuses it
refuses then.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from ......domain.agents import DEFAULT_AGENT_ID
from ......domain.errors import InvalidRequest
from ......domain.ports.configuration import MakePatch
from ......domain.text import Kind, literal

_NOT_IN_IDS = re.compile(r"[^a-z0-9_-]+")
_LONGEST_ID = 64
_KINDS = {"name": Kind.TEXT, "workspace": Kind.SETTING, "model": Kind.SETTING}
"""What the texts are that have an effect; in others no variable is ever put in."""


def agent_id_of(name: str) -> str:
    """The id that an agent of that name gets. Raises InvalidRequest."""
    agent_id = _NOT_IN_IDS.sub("-", name.strip().lower()).lstrip("-_")[:_LONGEST_ID].rstrip("-")
    if not agent_id:
        raise InvalidRequest(f'no id can be made from the name "{name}"', param="name")
    if agent_id == DEFAULT_AGENT_ID:
        raise InvalidRequest(f'"{DEFAULT_AGENT_ID}" is reserved', param="name")
    return agent_id


def has_entries(config: object) -> bool:
    """Whether a configuration in force has its agents in `agents.entries`."""
    return bool(_object(_object(config).get("agents")).get("entries"))


def added(agent_id: str, given: Mapping[str, Any], keyed: bool) -> MakePatch:
    """The agent comes last; `main`, where it was not listed because it was the only one, stays.

    `keyed`: agents are in force by their ids, be it in an included file.
    """

    def patch(held: Mapping[str, object]) -> Mapping[str, object]:
        agents = _Written.of(held, keyed)
        if agents.find(agent_id) is not None:
            raise InvalidRequest(f'agent "{agent_id}" already exists', param="name")
        new = {agent_id: _merged({}, given)}
        return agents.patch(new if agents.entries else {DEFAULT_AGENT_ID: {}, **new})

    return patch


def changed(agent_id: str, given: Mapping[str, Any], known: bool, keyed: bool) -> MakePatch:
    """`known`: the agent is in force, so it is written, be it in an included file.

    `keyed` as above.
    """

    def patch(held: Mapping[str, object]) -> Mapping[str, object]:
        agents = _Written.of(held, keyed)
        entry = agents.find(agent_id)
        if entry is None and not known:
            raise InvalidRequest(f'agent "{agent_id}" not found', param="agentId")
        return agents.patch({agent_id: _merged(entry or {}, given)})

    return patch


class Removal:
    """A patch without the agent and without what is bound to it. `bindings`: how many these were,
    once it was made. `known` and `keyed` as above."""

    def __init__(self, agent_id: str, known: bool, keyed: bool) -> None:
        self._agent_id = agent_id
        self._known = known
        self._keyed = keyed
        self.bindings = 0

    def __call__(self, held: Mapping[str, object]) -> Mapping[str, object]:
        agents = _Written.of(held, self._keyed)
        if agents.find(self._agent_id) is None and not self._known:
            raise InvalidRequest(f'agent "{self._agent_id}" not found', param="agentId")
        # The only one there is where none is listed.
        if self._agent_id == agents.default:
            raise InvalidRequest(
                f'default agent "{self._agent_id}" cannot be deleted', param="agentId"
            )
        patch = agents.patch({self._agent_id: None})
        bindings = held.get("bindings")
        if isinstance(bindings, list):
            kept = [one for one in bindings if not self._bound(one)]
            self.bindings = len(bindings) - len(kept)
            if self.bindings:
                patch["bindings"] = kept
        return patch

    def _bound(self, binding: object) -> bool:
        named = binding.get("agentId") if isinstance(binding, Mapping) else None
        return str(named).lower() == self._agent_id


@dataclass(frozen=True, slots=True)
class _Written:
    """The agents as the main file has them. `keyed`: by id in `agents.entries`.

    `entries`: the id as it is written, and the entry.
    """

    entries: list[tuple[str, dict[str, Any]]]
    keyed: bool
    system_agent: str | None

    @classmethod
    def of(cls, held: Mapping[str, object], keyed: bool) -> _Written:
        agents = _object(held.get("agents"))
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
        """Who answers requests that name no agent."""
        marked = [name for name, one in self.entries if one.get("default") is True]
        chosen = [] if self.system_agent is None else [self.system_agent]
        every = [name for name, _ in self.entries]
        return next(iter((*marked, *chosen, *every, DEFAULT_AGENT_ID))).lower()

    def find(self, agent_id: str) -> dict[str, Any] | None:
        return next((one for name, one in self.entries if name.lower() == agent_id), None)

    def patch(self, new: Mapping[str, dict[str, Any] | None]) -> dict[str, object]:
        """The merge patch that puts in these agents, by their ids; None takes one out."""
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


def _merged(entry: Mapping[str, Any], given: Mapping[str, Any]) -> dict[str, Any]:
    """An entry with what was given; a new model keeps the fallbacks that are written.

    What is given is a text: it names no variable, whose value a list of agents would then show.
    """
    given = {
        name: literal(str(text), _KINDS[name]) if name in _KINDS else text
        for name, text in given.items()
    }
    merged = dict(entry)
    for name in ("name", "workspace"):
        if name in given:
            merged[name] = given[name]
    if "model" in given:
        held = entry.get("model")
        model = given["model"]
        merged["model"] = {**held, "primary": model} if isinstance(held, Mapping) else model
    identity = {name: given[name] for name in ("emoji", "avatar") if name in given}
    if identity:
        written = entry.get("identity")
        merged["identity"] = {**(written if isinstance(written, Mapping) else {}), **identity}
    return merged
