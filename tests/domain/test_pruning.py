"""Old results of tools are shortened or left out in what a model gets, and nowhere else."""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator, Sequence
from contextlib import aclosing
from dataclasses import dataclass, replace
from itertools import pairwise
from pathlib import Path
from time import monotonic

import pytest
import pytest_asyncio
from hypothesis import given
from hypothesis import strategies as st

from opensoul.adapters.persistence.memory import MemoryApprovals, MemoryStore
from opensoul.adapters.persistence.sqlite.sessions import SqliteStore
from opensoul.domain.agents import PruningSettings
from opensoul.domain.execution import ModelRouter, TurnLoop
from opensoul.domain.messages import Image, Message, Role, Text, ToolCall
from opensoul.domain.models import (
    Cooldowns,
    ModelEvent,
    ModelFinished,
    ModelRequest,
    StopReason,
    ToolCallDelta,
    Usage,
)
from opensoul.domain.ports import RunContext, ToolContext, Turn
from opensoul.domain.runs import Answered, Pruned
from opensoul.domain.sessions import estimate_all, pruned, relieved
from opensoul.domain.tools import ToolOutput, ToolResult, ToolSpec
from tests.domain.test_compaction import MAIN, TALK, MakeStore, World
from tests.domain.test_cut_points import calls, conversations, result
from tests.fakes.domain import agent, assistant, target, user
from tests.fakes.domain import run as a_run
from tests.fakes.strict import StrictModel

SETTINGS = PruningSettings(ttl=300.0, min_prunable_chars=2_000)
CLEARED = SETTINGS.placeholder
WINDOW = 10_000


def turn(n: int, chars: int, name: str = "look") -> tuple[Message, ...]:
    """A question, one call, its result and the answer."""
    seen = replace(result(f"c{n}", f"{n} " + "r" * chars), name=name)
    return (user(f"q{n}"), calls(f"c{n}"), seen, assistant(f"a{n}"))


def results(messages: tuple[Message, ...]) -> list[str]:
    """`whole`, `short` or `gone`, for each result."""
    texts = [message.text for message in messages if message.role is Role.TOOL]
    marks = {True: "gone", False: "whole"}
    return ["short" if "are left out ..." in text else marks[text == CLEARED] for text in texts]


def talk(*sizes: int) -> tuple[Message, ...]:
    return tuple(message for n, size in enumerate(sizes) for message in turn(n, size))


@pytest.mark.parametrize(
    ("sizes", "changes", "expected"),
    [
        # Little of the window is used.
        ((5_000, 100), {}, ["whole", "whole"]),
        # The last three answers and what is between them stay whole.
        ((6_000, 6_000, 100), {}, ["short", "short", "whole"]),
        ((6_000, 6_000, 5_000), {"keep_last_assistants": 0}, ["short", "short", "short"]),
        ((6_000, 6_000, 100), {"keep_last_assistants": 9}, ["whole", "whole", "whole"]),
        # A result that is short enough stays.
        ((3_900, 3_900, 3_900, 100), {}, ["whole", "whole", "whole", "whole"]),
        # Half of the window is used, also by short ones: the oldest go first.
        ((3_900,) * 6, {}, ["gone", "gone", "gone", "whole", "whole", "whole"]),
        ((3_900,) * 6, {"hard_clear": False}, ["whole"] * 6),
        ((3_900,) * 6, {"min_prunable_chars": 50_000}, ["whole"] * 6),
        ((9_000,) * 6, {}, ["gone", "gone", "gone", "gone", "short", "whole"]),
        ((9_000,) * 6, {"deny": ("lo*",)}, ["whole"] * 6),
        ((9_000,) * 6, {"allow": ("read",)}, ["whole"] * 6),
        ((8_000,) * 3, {"allow": ("LOOK",)}, ["short", "short", "whole"]),
    ],
)
def test_old_results_are_pruned(
    sizes: tuple[int, ...], changes: dict[str, object], expected: list[str]
) -> None:
    chosen = replace(SETTINGS, **changes)  # type: ignore[arg-type]
    messages = talk(*sizes)

    assert results(pruned(messages, len(messages), chosen, WINDOW)) == expected


def test_a_shortened_result_keeps_its_beginning_and_its_end() -> None:
    messages: tuple[Message, ...] = (
        user("q"),
        calls("c"),
        result("c", "b" * 2_000 + "m" * 9_000 + "e" * 2_000),
    )
    messages += talk(9_000, 100)

    kept = pruned(messages, len(messages), SETTINGS, WINDOW)

    text = kept[2].text
    assert text.startswith("b" * 1_500 + "\n[... 10000 characters")
    assert text.endswith("]\n" + "e" * 1_500)
    assert (kept[2].tool_call_id, kept[2].name) == ("c", "look")


def test_images_stay() -> None:
    shown = Message(Role.TOOL, (Text("r" * 9_000), Image("AA", "image/png")), tool_call_id="c")
    messages = (user("q"), calls("c"), shown, *talk(9_000, 100))

    assert pruned(messages, len(messages), SETTINGS, WINDOW)[2] is shown


sizes = st.lists(st.integers(0, 9_000), min_size=1, max_size=8)


@given(sizes, sizes)
def test_the_beginning_stays_the_same_until_the_cache_expires(
    before: list[int], after: list[int]
) -> None:
    first, whole = talk(*before), talk(*before, *after)
    cold = len(first)

    old = pruned(first, cold, SETTINGS, WINDOW)

    for end in range(cold, len(whole) + 1):
        assert pruned(whole[:end], cold, SETTINGS, WINDOW) == (*old, *whole[cold:end])


@given(conversations, st.integers(0, 100))
def test_only_results_change(said: list[tuple[Message, ...]], cold: int) -> None:
    messages = tuple(message for one in said for message in one)
    eager = replace(SETTINGS, soft_max_chars=50, soft_head_chars=9, soft_tail_chars=9)

    kept = pruned(messages, cold, replace(eager, min_prunable_chars=0), 300)

    assert len(kept) == len(messages)
    for new, was in zip(kept, messages, strict=True):
        if was.role is Role.TOOL:
            assert (new.tool_call_id, new.name) == (was.tool_call_id, was.name)
            assert len(new.text) <= len(was.text)
        else:
            assert new is was


@pytest.fixture(params=["memory", "sqlite"])
def make_store(request: pytest.FixtureRequest, tmp_path: Path) -> MakeStore:
    if request.param == "memory":
        return MemoryStore
    return lambda: SqliteStore(tmp_path / "sessions.sqlite3")


@pytest_asyncio.fixture
async def world(make_store: MakeStore) -> AsyncIterator[World]:
    models = (target("acme/one", context_window=WINDOW, max_tokens=300),)
    world = World(kept=make_store(), main=replace(MAIN, models=models, pruning=SETTINGS))
    await world.kept.open()
    yield world
    await world.kept.close()


async def store(world: World, *numbered: int, size: int) -> None:
    for n in numbered:
        await world.kept.append(Turn(TALK, "first", f"t{n}", world.clock(), turn(n, size)))


def sent(world: World) -> list[str]:
    return results(world.model.requests[-1].messages)


async def test_nothing_is_pruned_while_the_cache_is_of_use(world: World) -> None:
    await store(world, 1, 2, 3, 4, size=5_000)
    world.clock.advance(299)

    await world.say("r1")

    assert sent(world) == ["whole"] * 4
    assert not any(isinstance(event, Pruned) for event in world.log.events["r1"])


async def test_after_a_pause_old_results_are_pruned_and_stay_so(world: World) -> None:
    await store(world, 1, 2, 3, 4, size=5_000)
    world.clock.advance(300)

    await world.say("r1")
    assert sent(world) == ["short", "short", "short", "whole"]
    (event,) = [event for event in world.log.events["r1"] if isinstance(event, Pruned)]
    assert event.results == 3
    assert event.tokens > 1_000
    first = world.model.requests[-1].messages
    world.clock.advance(10)
    await world.say("r2")

    assert world.model.requests[-1].messages[: len(first)] == first
    stored = await world.kept.messages(TALK, limit=100)
    assert results(tuple(kept.message for kept in stored)) == ["whole"] * 4


async def test_pruning_is_off_by_default(world: World) -> None:
    world.use(pruning=None)
    await store(world, 1, 2, 3, 4, size=5_000)
    world.clock.advance(9_999)

    await world.say("r1")

    assert sent(world) == ["whole"] * 4


async def test_the_last_pause_is_found(world: World) -> None:
    for n, pause in enumerate((0, 400, 10, 500, 20, 30)):
        world.clock.advance(pause)
        await store(world, n, size=10)

    async def since(seconds: float) -> int:
        return await world.kept.messages_since_pause(TALK, seconds)

    assert [await since(seconds) for seconds in (30, 31, 450, 501)] == [4, 12, 12, 24]
    await world.kept.branch(TALK, 16, at=world.clock(), new_id="second")
    assert [await since(seconds) for seconds in (11, 450, 501)] == [4, 4, 16]
    await world.kept.reset(TALK, at=world.clock(), new_id="third")
    assert await since(1) == 0


async def test_pruned_results_count_as_they_are_sent(world: World) -> None:
    """A history that is pruned enough needs no summary."""
    await store(world, *range(1, 8), size=5_000)
    world.clock.advance(300)

    await world.say("r1")

    assert world.compactions("r1") == []
    assert sent(world)[0] == "gone"
    assert world.model.summaries == []


def steps(count: int, chars: int) -> tuple[Message, ...]:
    """The question and the steps of a run."""
    said: tuple[Message, ...] = (user("q"),)
    for n in range(count):
        said += (calls(f"a{n}", f"b{n}"), result(f"a{n}", "r" * chars), result(f"b{n}", "s" * 60))
    return said


def test_the_oldest_results_of_a_run_make_room_for_new_ones() -> None:
    """A result of 3,000 characters has a thousand tokens; of 60, less than the mark."""
    messages = steps(9, 3_000)

    assert relieved(steps(4, 3_000), 5_000) == steps(4, 3_000)
    shown = [message.text for message in relieved(messages, 5_000) if message.role is Role.TOOL]

    kinds = ["left" if "was left out" in text else text[0] for text in shown]
    # At the fifth step there are too many tokens, and three results go; at the eighth, four.
    assert kinds == ["left", "s"] * 7 + ["r", "s"] * 2
    assert estimate_all(relieved(messages, 5_000)) <= 5_000


@given(st.integers(1, 12), st.integers(0, 4_000), st.integers(200, 6_000))
def test_what_was_left_out_of_a_run_stays_left_out(count: int, chars: int, limit: int) -> None:
    before = relieved(steps(1, chars), limit)
    for n in range(2, count + 1):
        whole, now = steps(n, chars), relieved(steps(n, chars), limit)
        for old, new in zip(before, now, strict=False):
            assert new == old or "was left out" in new.text
        assert now[-3:] == whole[-3:]  # The newest step stays whole.
        before = now


def test_the_beginning_of_a_run_changes_seldom() -> None:
    """Ten of forty steps fill half of the room, so that it changes every ten steps at most."""
    requests = [relieved(steps(n, 3_000), 20_000) for n in range(1, 41)]

    changes = [now[: len(before)] != before for before, now in pairwise(requests)]
    assert 2 <= sum(changes) <= 4


async def test_a_run_whose_steps_fill_the_window_goes_on() -> None:
    small = target("acme/one", context_window=4_000, max_tokens=300)
    model = StrictModel(window=3_600)
    router = ModelRouter(clients={"fake": Calling(model, steps=12)}, cooldowns=Cooldowns(monotonic))
    loop = TurnLoop(router, Reader(), MemoryApprovals(), clock=monotonic)
    events: list[object] = []
    async with aclosing(loop.run(RunContext(a_run(), agent("main", small)))) as batches:
        async for batch in batches:
            events += batch

    end = events[-1]
    assert isinstance(end, Answered)
    assert end.messages[-1].text == "I have read all."
    # What is stored is whole.
    assert {len(one.text) for one in end.messages if one.role is Role.TOOL} == {1_500}
    results = [event.results for event in events if isinstance(event, Pruned)]
    assert results == sorted(set(results))
    assert results[-1] > 6


@dataclass
class Calling:
    """A ModelClient that calls a tool in so many steps, and refuses what a strict model does."""

    strict: StrictModel
    steps: int

    async def stream(self, request: ModelRequest) -> AsyncGenerator[Sequence[ModelEvent]]:
        done = sum(message.role is Role.ASSISTANT for message in request.messages)
        self.strict.answer = lambda _: "I have read all."
        async with aclosing(self.strict.stream(request)) as answer:
            async for events in answer:
                if done == self.steps:
                    yield events
        if done < self.steps:
            yield [ToolCallDelta(0, f"c{done}", "read", f'{{"page": {done}}}')]
            yield [ModelFinished(StopReason.TOOL_CALLS, Usage(10, 5))]

    async def close(self) -> None:
        """There is nothing to release."""


class Reader:
    """A Toolbox of one tool, whose results are long."""

    async def tools(self, context: ToolContext) -> Sequence[ToolSpec]:
        return (ToolSpec("read", "Reads.", {"type": "object"}),)

    async def run(
        self, context: ToolContext, call: ToolCall, *, key: str
    ) -> AsyncGenerator[ToolOutput | ToolResult]:
        yield ToolResult(call.id.ljust(1_500, "."))

    async def close(self) -> None:
        """There is nothing to release."""
