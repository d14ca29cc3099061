"""A Toolbox of several sources: each name once, and a failure of one source affects no other."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing
from dataclasses import dataclass, field

import pytest

from opensoul.adapters.tools import CombinedToolbox
from opensoul.domain.messages import ToolCall
from opensoul.domain.ports import Toolbox, ToolContext
from opensoul.domain.tools import ToolOutput, ToolResult, ToolSpec
from tests.fakes.domain import agent, run


def asking(agent_id: str) -> ToolContext:
    spec = run()
    return ToolContext(agent(agent_id), spec.id, spec.session_key, spec.principal_id)


MAIN = asking("main")


@dataclass
class Source:
    """A Toolbox of the named tools. `failing` is raised by all its methods."""

    name: str
    names: Sequence[str] = ()
    failing: Exception | None = None
    keys: list[str] = field(default_factory=list)
    open_calls: int = 0
    closed: int = 0

    async def tools(self, context: ToolContext) -> Sequence[ToolSpec]:
        self._fail()
        return [ToolSpec(name, f"{name} of {self.name}") for name in self.names]

    async def run(
        self, context: ToolContext, call: ToolCall, *, key: str
    ) -> AsyncGenerator[ToolOutput | ToolResult]:
        self.keys.append(key)
        self.open_calls += 1
        try:
            yield ToolOutput("working")
            self._fail()
            yield ToolResult(f"done by {self.name}")
        finally:
            self.open_calls -= 1

    async def close(self) -> None:
        self.closed += 1
        self._fail()

    def _fail(self) -> None:
        if self.failing is not None:
            raise self.failing


class Stuck(Source):
    """A source that never lists its tools."""

    async def tools(self, context: ToolContext) -> Sequence[ToolSpec]:
        await asyncio.Event().wait()
        raise AssertionError("unreachable")


class Untyped(Source):
    """A plugin without type checks: its tools are names."""

    async def tools(self, context: ToolContext) -> Sequence[ToolSpec]:
        return list(self.names)  # type: ignore[arg-type]


class ForOneAgent(Source):
    async def tools(self, context: ToolContext) -> Sequence[ToolSpec]:
        return await super().tools(context) if context.agent.id == self.name else ()


def combined(*sources: Source, listing_seconds: float = 60.0) -> CombinedToolbox:
    by_name: dict[str, Toolbox] = {source.name: source for source in sources}
    return CombinedToolbox(by_name, listing_seconds=listing_seconds)


async def offered(toolbox: Toolbox, to: ToolContext = MAIN) -> list[tuple[str, str]]:
    return [(spec.name, spec.source) for spec in await toolbox.tools(to)]


async def call(
    toolbox: Toolbox, name: str, *, by: ToolContext = MAIN
) -> list[ToolOutput | ToolResult]:
    async with aclosing(toolbox.run(by, ToolCall("c1", name, "{}"), key="run:1:c1")) as outputs:
        return [output async for output in outputs]


def logged(caplog: pytest.LogCaptureFixture, level: int) -> list[logging.LogRecord]:
    return [record for record in caplog.records if record.levelno == level]


async def test_the_tools_of_all_sources_are_offered_with_the_names_of_their_sources() -> None:
    toolbox = combined(Source("web", ["fetch"]), Source("files", ["read", "write"]))

    assert await offered(toolbox) == [("fetch", "web"), ("read", "files"), ("write", "files")]


async def test_a_call_is_run_by_the_source_that_offers_the_tool() -> None:
    web, files = Source("web", ["fetch"]), Source("files", ["read"])
    toolbox = combined(web, files)
    await toolbox.tools(MAIN)

    assert await call(toolbox, "read") == [ToolOutput("working"), ToolResult("done by files")]
    assert (web.keys, files.keys) == ([], ["run:1:c1"])


async def test_a_call_needs_no_list_before_it() -> None:
    """A later attempt of a run may be made by another process."""
    assert (await call(combined(Source("web", ["fetch"])), "fetch"))[-1] == ToolResult(
        "done by web"
    )


async def test_a_call_of_a_tool_that_no_source_offers_is_an_error() -> None:
    (result,) = await call(combined(Source("web", ["fetch"])), "read")

    assert result == ToolResult("There is no tool 'read'.", is_error=True)


async def test_a_name_of_two_sources_stays_with_the_first_and_is_logged_once(
    caplog: pytest.LogCaptureFixture,
) -> None:
    web, files = Source("web", ["read"]), Source("files", ["read", "write"])
    toolbox = combined(web, files)

    for _ in range(3):
        assert await offered(toolbox) == [("read", "web"), ("write", "files")]

    assert (await call(toolbox, "read"))[-1] == ToolResult("done by web")
    (warning,) = logged(caplog, logging.WARNING)
    assert (
        warning.__dict__.items()
        >= {
            "tool": "read",
            "offered_by": "web",
            "left_out_of": "files",
        }.items()
    )


async def test_a_source_offers_a_name_once() -> None:
    assert await offered(combined(Source("web", ["fetch", "fetch"]))) == [("fetch", "web")]


@pytest.mark.parametrize(
    "broken",
    [
        pytest.param(Source("broken", failing=ConnectionError("no server")), id="an exception"),
        pytest.param(Untyped("broken", names=["read"]), id="a list of something else"),
        pytest.param(Stuck("broken"), id="no answer"),
    ],
)
async def test_a_source_that_cannot_list_its_tools_is_left_out(
    broken: Source, caplog: pytest.LogCaptureFixture
) -> None:
    patience = 0.001 if isinstance(broken, Stuck) else 60.0
    toolbox = combined(broken, Source("files", ["read"]), listing_seconds=patience)

    assert await offered(toolbox) == [("read", "files")]
    (error,) = logged(caplog, logging.ERROR)
    assert error.__dict__.items() >= {"source": "broken", "agent": "main"}.items()


async def test_a_source_is_back_with_the_next_run_and_kept_its_names_meanwhile() -> None:
    """A call must not reach another tool than the one that was described to the model."""
    web, files = Source("web", ["read"]), Source("files", ["read", "write"])
    toolbox = combined(web, files)
    await toolbox.tools(MAIN)

    web.failing = ConnectionError("no server")
    assert await offered(toolbox) == [("write", "files")]
    web.failing = None
    assert await offered(toolbox) == [("read", "web"), ("write", "files")]


async def test_each_agent_has_its_own_tools_of_a_name() -> None:
    one, two = asking("one"), asking("two")
    toolbox = combined(ForOneAgent("one", ["read"]), ForOneAgent("two", ["read"]))

    assert await offered(toolbox, one) == [("read", "one")]
    assert await offered(toolbox, two) == [("read", "two")]
    assert (await call(toolbox, "read", by=two))[-1] == ToolResult("done by two")


async def test_an_exception_in_a_call_is_a_result_without_its_text(
    caplog: pytest.LogCaptureFixture,
) -> None:
    source = Source("web", ["fetch"])
    toolbox = combined(source)
    await toolbox.tools(MAIN)
    source.failing = ConnectionError("https://token:hunter2@host")

    assert await call(toolbox, "fetch") == [
        ToolOutput("working"),
        ToolResult("The tool 'fetch' failed: ConnectionError.", is_error=True),
    ]
    (error,) = logged(caplog, logging.ERROR)
    assert error.__dict__.items() >= {"source": "web", "tool": "fetch"}.items()


async def test_closing_the_stream_stops_the_call() -> None:
    source = Source("web", ["fetch"])
    stream = combined(source).run(MAIN, ToolCall("c1", "fetch", "{}"), key="k")

    assert await anext(stream) == ToolOutput("working")
    assert source.open_calls == 1
    await stream.aclose()

    assert source.open_calls == 0


async def test_all_sources_are_closed_also_after_a_failure(
    caplog: pytest.LogCaptureFixture,
) -> None:
    sources = [Source("web", failing=ConnectionError("no server")), Source("files")]

    await combined(*sources).close()

    assert [source.closed for source in sources] == [1, 1]
    (error,) = logged(caplog, logging.ERROR)
    assert error.__dict__["source"] == "web"
