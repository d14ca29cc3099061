"""Which framework an agent is of, found without importing any framework."""

from __future__ import annotations

import functools
import inspect
import logging
from collections.abc import AsyncGenerator, Callable, Iterable, Mapping
from importlib.metadata import EntryPoint
from typing import Protocol

from .errors import TargetInvalid
from .runs import AgentEvents, AgentRun

logger = logging.getLogger(__name__)

GROUP = "opensoul.python_agents"
"""The group of entry points that name frameworks."""
PLAIN = "plain"
"""The framework of plain functions, which no entry point has."""
Find = Callable[[str], Iterable[EntryPoint]]


class Framework(Protocol):
    """Calls the agents of one framework. An entry point is a callable without arguments that makes
    one; it is called when the first Python agent is loaded, and imports no framework."""

    types: frozenset[str]
    """The qualified names of the classes whose instances are agents, such as
    `pydantic_ai.agent.abstract.AbstractAgent`."""

    def describe(self, target: object) -> str:
        """What the agent is, in a few words for its operator. Raises TargetInvalid with what to
        change where it cannot be served."""
        ...

    def run(self, target: object, run: AgentRun) -> AsyncGenerator[AgentEvents]:
        """Answer. The last event is Answered, or ApprovalsAsked; Answered has all new messages, the
        calls of tools and their results included. Closing it stops the work.

        Behind ToolStarted it goes on once that is stored, and the tool must not run before: where
        the framework runs tools in other tasks, a hook that it calls before each tool waits."""
        ...


def type_names(target: object) -> frozenset[str]:
    """The qualified names of the classes that the object is an instance of."""
    return frozenset(f"{c.__module__}.{c.__qualname__}" for c in type(target).__mro__)


class Frameworks:
    """The installed frameworks by the names of their entry points, loaded when they are needed."""

    def __init__(self, find: Find) -> None:
        self._find = find
        self._loaded: Mapping[str, Framework] | None = None

    def of(self, target: object) -> tuple[str, Framework] | None:
        """The framework of an agent; None where the object is of none."""
        names = type_names(target)
        for name, framework in self._all().items():
            if not framework.types.isdisjoint(names):
                return name, framework
        return None

    def _all(self) -> Mapping[str, Framework]:
        if self._loaded is None:
            points = sorted(self._find(GROUP), key=lambda point: point.name)
            loaded = ((point.name, _adapter(point)) for point in points)
            self._loaded = {name: one for name, one in loaded if one is not None}
        return self._loaded


def _adapter(point: EntryPoint) -> Framework | None:
    """None where it cannot be loaded: the agents of other frameworks do not need it."""
    try:
        made: Framework = point.load()()
    except Exception:
        extra = {"framework": point.name, "adapter": point.value}
        logger.exception("the adapter of a framework cannot be loaded", extra=extra)
        return None
    return made


def described(target: object, frameworks: Frameworks) -> str:
    """What the target is, for its operator. Raises TargetInvalid."""
    if (found := frameworks.of(target)) is not None:
        name, framework = found
        return f"{name}: {framework.describe(target)}"
    if not callable(target) or isinstance(target, type):
        kind = "class" if isinstance(target, type) else type(target).__qualname__
        raise TargetInvalid(
            f"The target is a {kind}, which is no agent. It must be a function of one argument, "
            "the run, that yields or returns text, or that returns an agent; or an agent of a "
            "framework whose extra is installed; see docs/your-agent.md."
        )
    check_signature(target)
    function = unwrapped(target)
    if inspect.isasyncgenfunction(function):
        return "an async generator function"
    if inspect.iscoroutinefunction(function):
        return "an async function"
    if inspect.isgeneratorfunction(function):
        return "a generator function"
    return "a function"


def check_signature(target: Callable[..., object]) -> None:
    """Raises TargetInvalid where the function cannot be called with one argument."""
    try:
        signature = inspect.signature(target)
    except (TypeError, ValueError):
        return  # Some callables written in C have none.
    try:
        signature.bind(None)
    except TypeError:
        name = getattr(target, "__qualname__", type(target).__qualname__)
        raise TargetInvalid(
            f"`{name}{signature}` cannot be called with one argument, the run."
        ) from None


def unwrapped(target: Callable[..., object]) -> object:
    """The function behind partial functions, decorators and callable objects."""
    function: object = target
    while isinstance(function, functools.partial):
        function = function.func
    if not inspect.isroutine(function) and callable(function):
        function = type(function).__call__
    return inspect.unwrap(function) if callable(function) else function
