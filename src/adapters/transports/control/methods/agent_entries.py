"""Entries of `agents.list` in the configuration file: adding, changing and removing one.

Each function returns a patch to be made on the file as it is at that moment; what it refuses it
refuses then.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from .....domain.agents import DEFAULT_AGENT_ID
from .....domain.configuration import MakePatch
from .....domain.errors import InvalidRequest

_NOT_IN_IDS = re.compile(r"[^a-z0-9_-]+")
_LONGEST_ID = 64
_VARIABLE = re.compile(r"\$(\{[A-Z_][A-Z0-9_]*\})")


def agent_id_of(name: str) -> str:
    """The id that an agent of that name gets. Raises InvalidRequest."""
    agent_id = _NOT_IN_IDS.sub("-", name.strip().lower()).lstrip("-_")[:_LONGEST_ID].rstrip("-")
    if not agent_id:
        raise InvalidRequest(f'no id can be made from the name "{name}"', param="name")
    if agent_id == DEFAULT_AGENT_ID:
        raise InvalidRequest(f'"{DEFAULT_AGENT_ID}" is reserved', param="name")
    return agent_id


def added(agent_id: str, given: Mapping[str, Any]) -> MakePatch:
    """The agent comes last; `main`, where it was not listed because it was the only one, stays."""

    def patch(held: Mapping[str, object]) -> Mapping[str, object]:
        listed = _listed(held) or [{"id": DEFAULT_AGENT_ID}]
        if _index(listed, agent_id) is not None:
            raise InvalidRequest(f'agent "{agent_id}" already exists', param="name")
        return _with_list([*listed, _merged({"id": agent_id}, given)])

    return patch


def changed(agent_id: str, given: Mapping[str, Any], known: bool) -> MakePatch:
    """`known`: the agent is in force, so it is listed, be it in an included file."""

    def patch(held: Mapping[str, object]) -> Mapping[str, object]:
        listed = _listed(held)
        index = _index(listed, agent_id)
        if index is None:
            if not known:
                raise InvalidRequest(f'agent "{agent_id}" not found', param="agentId")
            return _with_list([*listed, _merged({"id": agent_id}, given)])
        listed[index] = _merged(listed[index], given)
        return _with_list(listed)

    return patch


class Removal:
    """A patch without the agent and without what is bound to it. `bindings`: how many these were,
    once it was made. `known` as above."""

    def __init__(self, agent_id: str, known: bool) -> None:
        self._agent_id = agent_id
        self._known = known
        self.bindings = 0

    def __call__(self, held: Mapping[str, object]) -> Mapping[str, object]:
        listed = _listed(held)
        index = _index(listed, self._agent_id)
        if index is None and not self._known:
            raise InvalidRequest(f'agent "{self._agent_id}" not found', param="agentId")
        # The only one there is where none is listed.
        if self._agent_id == (_default(listed) if listed else DEFAULT_AGENT_ID):
            raise InvalidRequest(
                f'default agent "{self._agent_id}" cannot be deleted', param="agentId"
            )
        patch = _with_list([one for i, one in enumerate(listed) if i != index])
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


def _default(listed: list[dict[str, Any]]) -> str:
    marked = (one for one in listed if one.get("default") is True)
    return str(next(marked, listed[0]).get("id", "")).lower()


def _listed(held: Mapping[str, object]) -> list[dict[str, Any]]:
    """The entries as the main file has them."""
    agents = held.get("agents")
    listed = agents.get("list") if isinstance(agents, Mapping) else None
    entries = listed if isinstance(listed, list) else []
    return [dict(one) for one in entries if isinstance(one, Mapping)]


def _index(listed: list[dict[str, Any]], agent_id: str) -> int | None:
    ids = [str(one.get("id", "")).lower() for one in listed]
    return ids.index(agent_id) if agent_id in ids else None


def _with_list(listed: list[dict[str, Any]]) -> dict[str, object]:
    return {"agents": {"list": listed}}


def _merged(entry: Mapping[str, Any], given: Mapping[str, Any]) -> dict[str, Any]:
    """An entry with what was given; a new model keeps the fallbacks that are written.

    What is given is a text: it names no variable, whose value a list of agents would then show.
    """
    given = {name: _VARIABLE.sub(r"$$\1", str(text)) for name, text in given.items()}
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
