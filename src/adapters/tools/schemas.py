"""Checks the arguments of tool calls against the JSON Schemas of the tools."""

from __future__ import annotations

import logging
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Protocol

from ...domain.tools import ToolSpec

logger = logging.getLogger(__name__)

_MOST_KEPT = 1_000
_MOST_SHOWN = 500


class _Validator(Protocol):
    def iter_errors(self, instance: object) -> Any: ...


@dataclass(frozen=True, slots=True)
class _Checked:
    """A schema and its validator; None for a schema that cannot be used."""

    schema: Mapping[str, object]
    validator: _Validator | None


class SchemaValidator:
    """A Validate for the Gateway's tools: says what is wrong with the arguments of a call.

    A schema without `$schema` is of draft 2020-12, as in MCP. References lead to the schema itself
    only: nothing is fetched. The arguments are not checked where the schema is invalid or refers to
    another one; that is logged once for each tool.
    """

    def __init__(self) -> None:
        self._known: dict[tuple[str, str], _Checked] = {}

    def __call__(self, tool: ToolSpec, arguments: Mapping[str, object]) -> str | None:
        if not tool.parameters:
            return None
        validator = self._validator(tool)
        if validator is None:
            return None
        from jsonschema.exceptions import best_match
        from referencing.exceptions import Unresolvable

        try:
            error = best_match(validator.iter_errors(arguments))
        except (Unresolvable, RecursionError, re.error) as problem:
            self._give_up(tool, problem)
            return None
        if error is None:
            return None
        message = str(error.message)
        if len(message) > _MOST_SHOWN:  # It repeats the value.
            message = f"{message[:_MOST_SHOWN]}\u2026"
        return f"{error.json_path[2:] or 'arguments'}: {message}"

    def _validator(self, tool: ToolSpec) -> _Validator | None:
        place = (tool.source, tool.name)
        known = self._known.get(place)
        if known is None or (
            known.schema is not tool.parameters and known.schema != tool.parameters
        ):
            if len(self._known) >= _MOST_KEPT:
                self._known.clear()
            known = self._known[place] = _Checked(tool.parameters, self._made(tool))
        return known.validator

    def _made(self, tool: ToolSpec) -> _Validator | None:
        # Loaded with the first call of a tool: it takes as long as much of the Gateway's start.
        from jsonschema import Draft202012Validator, SchemaError
        from jsonschema.validators import validator_for
        from referencing import Registry
        from referencing.jsonschema import EMPTY_REGISTRY

        schema = dict(tool.parameters)
        kind = validator_for(schema, default=Draft202012Validator)
        try:
            kind.check_schema(schema)
        except (SchemaError, RecursionError) as problem:
            self._give_up(tool, problem)
            return None
        registry: Registry[Any] = EMPTY_REGISTRY
        validator: _Validator = kind(schema, registry=registry)
        return validator

    def _give_up(self, tool: ToolSpec, problem: Exception) -> None:
        """Do not check the arguments of this tool any more."""
        self._known[tool.source, tool.name] = _Checked(tool.parameters, None)
        extra = {"tool": tool.name, "source": tool.source, "problem": str(problem)[:_MOST_SHOWN]}
        logger.warning(
            "the arguments of a tool are not checked: its schema is unusable", extra=extra
        )
