"""Every consumer of run events declares what it does with each kind of event."""

from __future__ import annotations

import ast
import importlib
import inspect
import textwrap
from collections.abc import Iterator
from functools import cache
from operator import attrgetter

from opensoul.domain.models import TextDelta
from opensoul.domain.runs import (
    CONTEXT_EVENTS,
    DELTAS,
    KINDS,
    TERMINAL,
    TOOL_EVENTS,
    Resumed,
    RunEvent,
    Started,
    Waiting,
    consumed_by,
    consumes,
)
from tests.test_architecture import SRC, imports

TYPES = frozenset(kind.type for kind in KINDS)
NAMED: dict[str, frozenset[type]] = {
    **{kind.__name__: frozenset({kind}) for kind in TYPES},
    "CONTEXT_EVENTS": frozenset(CONTEXT_EVENTS),
    "DELTAS": frozenset(DELTAS),
    "TERMINAL": frozenset(TERMINAL),
    "TOOL_EVENTS": frozenset(TOOL_EVENTS),
}
NO_RUN_EVENTS = {
    "opensoul.domain.execution.executor": "what runners yield",
    "opensoul.adapters.python_agents.frameworks.langgraph_stream._text_of": "its own events",
    "opensoul.adapters.python_agents.frameworks.openai_agents._events": "the same",
    "opensoul.adapters.python_agents.portions": "what agents yield",
    "opensoul.adapters.persistence.postgres.runs.endings": "what ends an attempt",
    "opensoul.domain.execution.last_answer": "what the router yields",
    "opensoul.domain.execution.recovery.recover": "what is decided about a run",
    "opensoul.domain.execution.router": "what model clients yield",
}
"""The modules and functions that compare types of the same names, of something else."""


def compared(function: ast.AST) -> frozenset[type]:
    """The types of events that a function compares with, by isinstance or match."""
    found: set[type] = set()
    for node in ast.walk(function):
        match node:
            case ast.Call(func=ast.Name(id="isinstance"), args=[_, kinds]):
                names = [each.id for each in ast.walk(kinds) if isinstance(each, ast.Name)]
            case ast.MatchClass(cls=ast.Name(id=name)):
                names = [name]
            case _:
                continue
        for name in names:
            found |= NAMED.get(name, frozenset())
    return frozenset(found)


@cache
def consumers() -> tuple[tuple[str, str, frozenset[type]], ...]:
    """The module, the qualified name and the compared types of each function that reads run events.
    One that compares endings only gets an ending, not the events of a run."""
    return tuple(_consumers())


def _consumers() -> Iterator[tuple[str, str, frozenset[type]]]:
    for path in sorted(SRC.rglob("*.py")):
        source = path.read_text("utf-8")
        place = path.relative_to(SRC).with_suffix("").parts
        module = ".".join(("opensoul", *place))
        if module in NO_RUN_EVENTS or "runs" not in source + module:
            continue
        imported = imports(source, package=module.rpartition(".")[0])
        if not any(".domain.runs." in name for name in imported):
            continue
        for name, function in functions(ast.parse(source)):
            kinds = compared(function)
            if kinds - set(TERMINAL) and f"{module}.{name}" not in NO_RUN_EVENTS:
                yield module, name, kinds


def functions(tree: ast.AST, prefix: str = "") -> Iterator[tuple[str, ast.AST]]:
    """The functions and methods of a module, by their qualified names."""
    for node in ast.iter_child_nodes(tree):
        match node:
            case ast.FunctionDef(name=name) | ast.AsyncFunctionDef(name=name):
                yield prefix + name, node
            case ast.ClassDef(name=name):
                yield from functions(node, f"{prefix}{name}.")
            case _:
                pass


def undeclared(module: str, name: str, kinds: frozenset[type]) -> str | None:
    """What a consumer has not declared."""
    declared = consumed_by(attrgetter(name)(importlib.import_module(module)))
    if declared is None:
        return "which kinds of events it ignores"
    if declared.handles & declared.ignores:
        return "whether it ignores a kind that it handles"
    missing = (TYPES - declared.handles - declared.ignores) | (kinds - declared.handles)
    return ", ".join(sorted(kind.__name__ for kind in missing)) or None


def test_each_consumer_declares_every_kind() -> None:
    found = {
        f"{module}.{name}": missing
        for module, name, kinds in consumers()
        if (missing := undeclared(module, name, kinds)) is not None
    }
    assert found == {}


def test_the_consumers_are_found() -> None:
    found = {module.removeprefix("opensoul.") for module, _, _ in consumers()}

    assert found >= {
        "adapters.persistence.common.live_logs",
        "adapters.transports.control.broadcast.broadcaster",
        "adapters.transports.control.broadcast.payloads",
        "adapters.transports.control.methods.outcomes",
        "adapters.transports.http.context",
        "adapters.transports.openai.chat.answers",
        "adapters.transports.answering.runs",
        "app.cli.remote.local_turns",
        "domain.execution.recovery",
        "domain.runs.records",
    }


def test_a_comparison_is_found_in_both_forms() -> None:
    def consumer(event: RunEvent) -> None:
        match event:
            case Started():
                pass
        assert not isinstance(event, TextDelta | Waiting) or isinstance(event, TERMINAL)

    source = textwrap.dedent(inspect.getsource(consumer))

    assert compared(ast.parse(source)) == {Started, TextDelta, Waiting, *TERMINAL}


def test_a_declaration_leaves_the_function_as_it_is() -> None:
    def function() -> None:
        """Does nothing."""

    assert consumed_by(function) is None
    assert consumes(TextDelta, ignores=[Resumed])(function) is function
    declared = consumed_by(function)
    assert declared is not None
    assert declared.handles == frozenset({TextDelta})
    assert declared.ignores == frozenset({Resumed})
