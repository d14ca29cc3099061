"""The Python agents of the configuration: each loaded once, where its code shall run."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncGenerator, Iterable
from contextlib import aclosing, suppress
from dataclasses import dataclass, field
from enum import StrEnum
from functools import partial
from typing import Protocol

from ...domain.agents import Agent, Isolation, PythonTarget
from ...domain.errors import AgentFailed
from .errors import TargetInvalid, own_frames
from .functions import stream
from .loading import load
from .models import ModelAccess, provided
from .modules import Modules
from .processes import ProcessHost
from .recognition import Find, Frameworks, described
from .runs import AgentEvent, AgentRun
from .threads import AgentThread, LoopBlocked, Pump

logger = logging.getLogger(__name__)


class Status(StrEnum):
    LOADING = "loading"
    READY = "ready"
    FAILED = "failed"


@dataclass(frozen=True, slots=True)
class PythonAgentState:
    """What is known of one Python agent. `what` describes it, or says why it cannot be used."""

    agent_id: str
    target: str
    isolation: Isolation
    status: Status
    what: str = ""

    def described(self) -> dict[str, object]:
        """The state as JSON data; `problem` may quote what the agent's module has raised."""
        failed = self.status is Status.FAILED
        what = {"problem" if failed else "description": self.what} if self.what else {}
        return {
            "agentId": self.agent_id,
            "target": self.target,
            "isolation": self.isolation.value,
            "state": self.status.value,
            **what,
        }


class Host(Protocol):
    """Where the code of one agent runs."""

    async def load(self) -> str:
        """Import the agent and describe it. Raises TargetInvalid."""
        ...

    def stream(self, run: AgentRun) -> AsyncGenerator[list[AgentEvent]]:
        """The events of one run. Raises what the agent raises."""
        ...

    async def close(self) -> None:
        """End what the host has started."""
        ...


def _load(target: PythonTarget, frameworks: Frameworks, modules: Modules) -> tuple[object, str]:
    """The agent and its description. Raises TargetInvalid."""
    modules.add(target)
    loaded = load(target)
    return loaded, described(loaded, frameworks)


class InlineHost:
    """On the Gateway's own event loop."""

    def __init__(self, target: PythonTarget, frameworks: Frameworks, modules: Modules) -> None:
        self._target = target
        self._frameworks = frameworks
        self._modules = modules
        self._loaded: object = None
        self._thread: AgentThread | None = None

    async def load(self) -> str:
        # In a thread that the end of the process does not wait for: an import may never end.
        self._thread = AgentThread(f"import {self._target.target}")
        loading = partial(_load, self._target, self._frameworks, self._modules)
        self._loaded, what = await self._thread.call(loading)
        return what

    async def stream(self, run: AgentRun) -> AsyncGenerator[list[AgentEvent]]:
        make = partial(stream, self._loaded, run, self._frameworks)
        pump = Pump(make, None)
        async with aclosing(pump.read()) as batches:
            async for batch in batches:
                yield batch

    async def close(self) -> None:
        if self._thread is not None:
            await self._thread.close()


_Package = tuple[str, str]
"""A directory, and the name of the package in it."""


class Threads:
    """A thread with an event loop for each package with agents. The clients that agents open belong
    to the loop on which they are first used, and are often shared by the agents of a package, so
    that it has one loop while the Gateway runs. While code blocks that loop, runs get another."""

    def __init__(self) -> None:
        self._current: dict[_Package, AgentThread] = {}
        self._spare: dict[_Package, AgentThread] = {}
        self._blocked: list[AgentThread] = []

    def of(self, target: PythonTarget) -> AgentThread:
        key = _package(target)
        if key not in self._current:
            spare = self._spare.pop(key, None)
            self._current[key] = spare or AgentThread(f"agents of {key[1]}")
        return self._current[key]

    def replace(self, target: PythonTarget, thread: AgentThread) -> None:
        """Give runs another thread, until the loop of this one is no longer blocked."""
        key = _package(target)
        if self._current.get(key) is not thread:
            return
        del self._current[key]
        self._blocked.append(thread)
        here = asyncio.get_running_loop()

        def released() -> None:  # Called on the loop that was blocked.
            with suppress(RuntimeError):  # The Gateway has ended.
                here.call_soon_threadsafe(self._restore, key, thread)

        thread.loop.call_soon_threadsafe(released)

    def _restore(self, key: _Package, thread: AgentThread) -> None:
        if thread not in self._blocked:
            return
        self._blocked.remove(thread)
        if (substitute := self._current.get(key)) is not None:
            if key in self._spare:
                self._blocked.append(self._spare[key])
            self._spare[key] = substitute
        self._current[key] = thread

    async def close(self) -> None:
        threads = [*self._blocked, *self._current.values(), *self._spare.values()]
        self._blocked.clear()
        self._current.clear()
        self._spare.clear()
        await asyncio.gather(*(thread.close() for thread in threads))


def _package(target: PythonTarget) -> _Package:
    return target.path, target.target.partition(":")[0].partition(".")[0]


class ThreadHost:
    """In the thread of the agent's package."""

    def __init__(
        self, target: PythonTarget, frameworks: Frameworks, modules: Modules, threads: Threads
    ) -> None:
        self._target = target
        self._frameworks = frameworks
        self._modules = modules
        self._threads = threads
        self._loaded: object = None

    async def load(self) -> str:
        loading = partial(_load, self._target, self._frameworks, self._modules)
        self._loaded, what = await self._threads.of(self._target).call(loading)
        return what

    async def stream(self, run: AgentRun) -> AsyncGenerator[list[AgentEvent]]:
        thread = self._threads.of(self._target)
        try:
            async with aclosing(self._read(run, thread)) as batches:
                async for batch in batches:
                    yield batch
        except LoopBlocked:
            self._replace(run, thread)
        else:
            return
        thread = self._threads.of(self._target)
        async with aclosing(self._read(run, thread)) as batches:
            async for batch in batches:
                yield batch

    def _replace(self, run: AgentRun, thread: AgentThread) -> None:
        logger.error(
            "the code of an agent blocks its event loop; runs get another thread meanwhile",
            extra={"agent": run.agent_id, "run": run.run_id, "target": self._target.target},
        )
        self._threads.replace(self._target, thread)

    def _read(self, run: AgentRun, thread: AgentThread) -> AsyncGenerator[list[AgentEvent]]:
        make = partial(stream, self._loaded, run, self._frameworks)
        return Pump(make, thread.loop).read()

    async def close(self) -> None:
        """Its thread is that of other agents, too."""


@dataclass(slots=True, eq=False)
class _Entry:
    agent_id: str
    target: PythonTarget
    host: Host
    loading: asyncio.Task[str] | None = None
    running: int = 0
    retired: bool = False
    described: str = ""
    access: tuple[str, str] | None = None
    """The URL of the Gateway's models, and the agent's key for them."""
    problem: TargetInvalid | None = field(default=None)

    @property
    def state(self) -> PythonAgentState:
        status = Status.FAILED if self.problem else Status.READY
        if self.loading is None or not self.loading.done():
            status = Status.LOADING
        what = self.described if self.problem is None else self.problem.message
        return PythonAgentState(
            self.agent_id, self.target.target, self.target.isolation, status, what
        )


class PythonAgents:
    """Loads agents in the background and streams their runs."""

    def __init__(self, find: Find, models: ModelAccess | None = None) -> None:
        self._frameworks = Frameworks(find)
        self._models = models
        self._threads = Threads()
        self._modules = Modules()
        self._entries: dict[str, _Entry] = {}
        self._closing: set[asyncio.Task[None]] = set()

    def configure(self, agents: Iterable[Agent]) -> None:
        """Begin to load the Python agents that are new, and let go of those that are gone."""
        wanted = {agent.id: agent.python for agent in agents if agent.python is not None}
        for agent_id, entry in list(self._entries.items()):
            if wanted.get(agent_id) != entry.target:
                del self._entries[agent_id]
                self._retire(entry)
        for agent_id, target in wanted.items():
            if agent_id not in self._entries:
                self._entries[agent_id] = self._begin(agent_id, target)

    def states(self) -> tuple[PythonAgentState, ...]:
        """All agents, in the order of their ids."""
        return tuple(entry.state for _, entry in sorted(self._entries.items()))

    def unavailable(self) -> dict[str, str]:
        """The agents that are not ready, with a sentence for everybody."""
        return {
            f"agent {state.agent_id}": (
                f"The agent `{state.agent_id}` is being loaded."
                if state.status is Status.LOADING
                else f"The agent `{state.agent_id}` cannot be loaded."
            )
            for state in self.states()
            if state.status is not Status.READY
        }

    async def loaded(self, agent_id: str) -> PythonAgentState:
        """The state of an agent once it is loaded, or cannot be."""
        entry = self._entries[agent_id]
        if entry.loading is not None:
            await asyncio.wait({entry.loading})
        return entry.state

    async def stream(self, agent: Agent, run: AgentRun) -> AsyncGenerator[list[AgentEvent]]:
        """The events of a run. Raises AgentFailed where the agent cannot be loaded, and what it
        raises itself."""
        entry = self._entry_of(agent)
        entry.running += 1
        try:
            if entry.loading is not None:
                # The loading goes on when this run is stopped: others wait for it, too.
                await asyncio.wait({entry.loading})
            if entry.problem is not None:
                raise AgentFailed(
                    f"The agent `{agent.id}` cannot be loaded; the Gateway's log says why."
                )
            # The tasks and threads of the run begin with its first event.
            with provided(entry.access):
                batches = entry.host.stream(run)
                first = await anext(batches, None)
            async with aclosing(batches):
                if first is not None:
                    yield first
                async for batch in batches:
                    yield batch
        finally:
            entry.running -= 1
            if entry.retired and not entry.running:
                self._close(entry)

    async def close(self) -> None:
        """End all threads and processes."""
        for entry in self._entries.values():
            self._retire(entry)
        self._entries.clear()
        while self._closing:
            await asyncio.wait(self._closing)
        await self._threads.close()

    def _entry_of(self, agent: Agent) -> _Entry:
        """The entry of an agent; one of an earlier configuration is loaded for its last runs."""
        target = agent.python
        if target is None:
            raise AgentFailed(f"The agent `{agent.id}` has no target.")
        entry = self._entries.get(agent.id)
        if entry is None or entry.target != target:
            entry = self._begin(agent.id, target)
            entry.retired = True
        return entry

    def _begin(self, agent_id: str, target: PythonTarget) -> _Entry:
        entry = _Entry(agent_id, target, self._host(target))
        entry.loading = asyncio.create_task(self._load(entry), name=f"load agent {agent_id}")
        return entry

    def _host(self, target: PythonTarget) -> Host:
        if target.isolation is Isolation.INLINE:
            return InlineHost(target, self._frameworks, self._modules)
        if target.isolation is Isolation.PROCESS:
            return ProcessHost(target)
        return ThreadHost(target, self._frameworks, self._modules, self._threads)

    async def _load(self, entry: _Entry) -> str:
        extra = {"agent": entry.agent_id, "target": entry.target.target}
        try:
            if self._models is not None:
                entry.access = await self._models.start(), self._models.key_of(entry.agent_id)
            with provided(entry.access):
                entry.described = await entry.host.load()
        except TargetInvalid as error:
            entry.problem, cause = error, error.__cause__
        except Exception as error:  # The outermost handler of the task: runs would wait for ever.
            what = f"The agent cannot be loaded: {type(error).__name__}: {error}"
            entry.problem, cause = TargetInvalid(what), error
        if entry.problem is not None:
            shown = None if cause is None else own_frames(cause)
            message = "an agent cannot be loaded: %s"
            logger.error(message, entry.problem.message, exc_info=shown, extra=extra)
            return ""
        logger.info("an agent is loaded: %s", entry.described, extra=extra)
        return entry.described

    def _retire(self, entry: _Entry) -> None:
        entry.retired = True
        if not entry.running:
            self._close(entry)

    def _close(self, entry: _Entry) -> None:
        if entry.loading is not None and not entry.loading.done():
            entry.loading.cancel()
        task = asyncio.create_task(entry.host.close())
        self._closing.add(task)
        task.add_done_callback(self._closing.discard)
