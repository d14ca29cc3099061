"""Aliases and parameters of models, from `agents.defaults.models`."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from ..errors import guess, listing
from ..read import Building

_LISTED = ("agents", "defaults", "models")
_WELL_KNOWN = {
    "anthropic/claude-opus-4-6": "opus",
    "anthropic/claude-sonnet-4-5": "sonnet",
    "google/gemini-3-flash-preview": "gemini-flash",
    "google/gemini-3-pro-preview": "gemini",
    "openai/gpt-5-mini": "gpt-mini",
    "openai/gpt-5.2": "gpt",
}
"""The default aliases of listed models."""


class NoSuchModel(Exception):
    """There is no usable model of that name; the message has the reason and the known ones."""


@dataclass(slots=True)
class Aliases:
    """`agents.defaults.models`; its errors are reported on construction."""

    building: Building
    _meaning: dict[str, str] = field(default_factory=dict)
    _params: dict[str, dict[str, Any]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        listed = self.building.config.agents.defaults.models
        for reference, model in listed.items():
            if model.alias is not None:
                self._add(model.alias, reference)
        for reference in listed:
            if reference in _WELL_KNOWN and listed[reference].alias is None:
                self._meaning.setdefault(_WELL_KNOWN[reference], reference)
        for name, model in listed.items():
            try:
                meant = self._follow(name)
            except NoSuchModel as error:
                self.building.report(str(error), *_LISTED, name)
            else:
                self._params.setdefault(meant, {}).update(model.params)

    def resolve(self, name: str) -> str | None:
        """The `provider/model` of a name. None if the list of models itself has errors.

        Raises NoSuchModel.
        """
        try:
            return self._follow(name)
        except NoSuchModel:
            if self.building.broken(*_LISTED):
                return None
            raise

    @property
    def names(self) -> Mapping[str, str]:
        """The `provider/model` of each alias, in lower case."""
        found = {name: self.resolve(name) for name in self._meaning}
        return {name: reference for name, reference in found.items() if reference is not None}

    def params(self, reference: str) -> Mapping[str, Any]:
        """The parameters of a listed model."""
        return self._params.get(reference, {})

    def _add(self, alias: str, reference: str) -> None:
        key = alias.strip().lower()
        where = (*_LISTED, reference, "alias")
        if "/" in key:
            self.building.report("an alias must not contain a slash", *where)
        elif key in self._meaning:
            self.building.report(f"`{self._meaning[key]}` has the same alias", *where)
        else:
            self._meaning[key] = reference

    def _follow(self, name: str) -> str:
        way = [name.strip()]
        while "/" not in way[-1]:
            meant = self._meaning.get(way[-1].lower())
            if meant is None:
                raise NoSuchModel(self._unknown(way[-1]))
            if meant in way:
                raise NoSuchModel(f"the alias is part of a cycle: {' -> '.join((*way, meant))}")
            way.append(meant)
        return way[-1]

    def _unknown(self, name: str) -> str:
        return (
            f"`{name}` is neither `provider/model` nor an alias{guess(name, self._meaning)} "
            f"Aliases: {listing(sorted(self._meaning))}"
        )
