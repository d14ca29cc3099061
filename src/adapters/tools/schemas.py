"""Checks the arguments of tool calls, and answers, against JSON Schemas."""

from __future__ import annotations

import logging
import re
from collections import deque
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Protocol

from ...domain.runs import CheckValue
from ...domain.tools import ToolSpec

logger = logging.getLogger(__name__)

_MOST_KEPT = 1_000
_MOST_SHOWN = 500
_MOST_REFERENCES = 30_000
_REFERENCES = ("$ref", "$dynamicRef", "$recursiveRef")


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
        from referencing.exceptions import Unresolvable

        try:
            return _problem(validator, arguments, "arguments")
        except (Unresolvable, RecursionError, re.error) as problem:
            self._give_up(tool, problem)
            return None

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
        try:
            return _validator(tool.parameters)
        except ValueError as problem:
            self._give_up(tool, problem)
            return None

    def _give_up(self, tool: ToolSpec, problem: Exception) -> None:
        """Do not check the arguments of this tool any more."""
        self._known[tool.source, tool.name] = _Checked(tool.parameters, None)
        extra = {"tool": tool.name, "source": tool.source, "problem": str(problem)[:_MOST_SHOWN]}
        logger.warning(
            "the arguments of a tool are not checked: its schema is unusable", extra=extra
        )


def schema_check(schema: Mapping[str, object]) -> CheckValue:
    """A CompileSchema for answers. A client writes these schemas: patterns run in linear time, and
    those that need more than that, such as a lookahead, are left to the provider; references are
    followed so many times in one check."""
    budget = _Budget()
    validator = _validator(schema, budget)
    for contents in _subschemas(schema):
        if "patternProperties" in contents:
            raise ValueError("'patternProperties' is not supported in strict mode")
        if "$schema" in contents and contents is not schema:
            raise ValueError("'$schema' is supported at the top only")

    def check(value: object) -> str | None:
        budget.left = _MOST_REFERENCES
        try:
            return _problem(validator, value, "the whole value")
        except _BudgetSpent:
            return "the check against the schema takes too many steps"

    return check


class _BudgetSpent(Exception):
    pass


@dataclass(slots=True)
class _Budget:
    """How many references one check may still follow. A few that each refer twice to the next one
    would take longer than anybody waits."""

    left: int = 0

    def keywords(self, known: Mapping[str, Any]) -> Mapping[str, Any]:
        """The keywords of references, counted."""
        return {name: self._counted(known[name]) for name in _REFERENCES if name in known}

    def _counted(self, follow: Any) -> Any:
        def counted(*arguments: Any) -> Any:
            if self.left <= 0:
                raise _BudgetSpent
            self.left -= 1
            return follow(*arguments)

        return counted


def _subschemas(schema: Mapping[str, object]) -> Iterator[Mapping[str, object]]:
    """The schema, those within it, and those that it refers to. Raises ValueError: one of them
    refers to something else."""
    from referencing import Registry
    from referencing.exceptions import Unresolvable
    from referencing.jsonschema import DRAFT202012, UnknownDialect, specification_with

    try:
        draft = specification_with(str(schema.get("$schema")))
    except UnknownDialect:
        draft = DRAFT202012
    root = draft.create_resource(schema)
    registry: Registry[Any] = Registry()
    found = deque([(root, registry.resolver_with_root(root))])
    seen: set[int] = set()
    while found:
        resource, resolver = found.popleft()
        contents = resource.contents
        if not isinstance(contents, Mapping) or id(contents) in seen:
            continue
        seen.add(id(contents))
        yield contents
        for keyword in _REFERENCES:
            if isinstance(reference := contents.get(keyword), str):
                try:
                    target = resolver.lookup(reference)
                except (Unresolvable, LookupError, TypeError, ValueError):
                    shown = reference[:_MOST_SHOWN]
                    raise ValueError(f"{shown!r} refers to nothing in this schema") from None
                found.append((draft.create_resource(target.contents), target.resolver))
        found += ((one, resolver.in_subresource(one)) for one in resource.subresources())


def _validator(schema: Mapping[str, object], budget: _Budget | None = None) -> _Validator:
    """Raises ValueError for an invalid schema."""
    # Loaded with the first schema: it takes as long as much of the Gateway's start.
    from jsonschema import Draft202012Validator, SchemaError
    from jsonschema.validators import extend, validator_for
    from referencing import Registry
    from referencing.jsonschema import EMPTY_REGISTRY

    kind = Draft202012Validator
    if isinstance(schema.get("$schema"), str):
        kind = validator_for(schema, default=kind)
    try:
        # The format checker would compile patterns, as Python's.
        kind.check_schema(schema, format_checker=None)
    except SchemaError as error:
        place, message = error.json_path[2:], str(error.message)[:_MOST_SHOWN]
        raise ValueError(f"{place}: {message}" if place else message) from None
    except RecursionError:
        raise ValueError("it is nested too deeply") from None
    registry: Registry[Any] = EMPTY_REGISTRY
    keywords = {} if budget is None else budget.keywords(kind.VALIDATORS)
    extended = extend(kind, {"pattern": _pattern, **keywords})
    # A reference to a schema with `$schema` would lead to the validator without these keywords.
    contents = {name: value for name, value in schema.items() if name != "$schema"}
    validator: _Validator = extended(contents, registry=registry)
    return validator


def _pattern(validator: Any, pattern: str, value: object, schema: object) -> Iterator[Exception]:
    """The keyword `pattern`, with the regular expressions of Rust: no pattern takes long."""
    from jsonschema import ValidationError

    if not isinstance(value, str):
        return
    matcher = _matcher(pattern)
    if matcher is None:
        return
    try:
        matcher.validate_python(value)
    except ValueError:
        yield ValidationError(f"{value!r} does not match {pattern!r}")


@lru_cache(maxsize=_MOST_KEPT)
def _matcher(pattern: str) -> Any:
    """None for a pattern that takes more than a regular language."""
    from pydantic_core import SchemaError, SchemaValidator, core_schema

    try:
        return SchemaValidator(core_schema.str_schema(pattern=pattern, regex_engine="rust-regex"))
    except SchemaError:
        return None


def _problem(validator: _Validator, value: object, whole: str) -> str | None:
    from jsonschema.exceptions import best_match

    error = best_match(validator.iter_errors(value))
    if error is None:
        return None
    message = str(error.message)
    if len(message) > _MOST_SHOWN:  # It repeats the value.
        message = f"{message[:_MOST_SHOWN]}\u2026"
    return f"{error.json_path[2:] or whole}: {message}"
