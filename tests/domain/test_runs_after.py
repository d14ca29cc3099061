"""Runs that follow the turn of another Run, in an executor with real stores."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from opensoul.domain.messages import Message, Role, Text, ToolCall
from opensoul.domain.models import StopReason, Usage
from opensoul.domain.runs.events import Answered, Failed, Finished
from opensoul.domain.sessions import BoundBy
from opensoul.domain.sessions.keys import SessionKey
from tests.domain.rig import Rig
from tests.fakes.domain import run, user
from tests.persistence.run_logs import HandClock
from tests.persistence.test_store_contract import STORES

KEY = SessionKey("main", "openai:a")
CALL = ToolCall("call_1", "weather", "{}")


@pytest.fixture(params=STORES)
async def rig(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Rig]:
    store: Any = STORES[request.param](request, HandClock())
    await store.open()
    yield Rig(store=store, catalog=store)
    await store.close()


async def say(rig: Rig, run_id: str, after: str = "", *messages: Message) -> Finished | Failed:
    """A run of a one-off session; without messages it says its own name."""
    spec = run(
        run_id,
        session_key=KEY,
        messages=messages or (user(run_id),),
        one_off=True,
        bound_by=BoundBy.KEY if after else BoundBy.REQUEST,
        after_run=after,
    )
    ending = await rig.end_of(spec)
    assert isinstance(ending, Finished | Failed)
    return ending


def history(rig: Rig, run_id: str) -> list[str]:
    (found,) = (one for one in rig.runner.contexts if one.spec.id == run_id)
    return [message.text for message in found.transcript.messages]


async def transcript_of(rig: Rig, run_id: str) -> list[str]:
    catalog: Any = rig.catalog
    turn = await catalog.turn(run_id)
    kept = await catalog.messages(KEY, limit=100, session_id=turn.session_id)
    return [one.message.text for one in kept]


async def test_a_run_goes_on_behind_another_one(rig: Rig) -> None:
    await say(rig, "a")
    await say(rig, "b", "a")
    await say(rig, "c", "b")

    assert history(rig, "c") == ["a", "hi", "b", "hi"]
    assert await transcript_of(rig, "c") == ["a", "hi", "b", "hi", "c", "hi"]
    assert len(await rig.catalog.transcripts(KEY, 9)) == 1


async def test_it_branches_where_that_is_not_the_newest(rig: Rig) -> None:
    for name, after in [("a", ""), ("b", "a"), ("c", "b"), ("d", "a"), ("e", "d")]:
        await say(rig, name, after)
    # The transcript of `b` is not the current one any more, and `b` not its newest turn.
    await say(rig, "f", "b")
    await say(rig, "g", "c")

    assert history(rig, "d") == ["a", "hi"]
    assert history(rig, "e") == ["a", "hi", "d", "hi"]
    assert history(rig, "f") == ["a", "hi", "b", "hi"]
    assert history(rig, "g") == ["a", "hi", "b", "hi", "c", "hi"]
    assert await transcript_of(rig, "c") == ["a", "hi", "b", "hi", "c", "hi"]
    assert await transcript_of(rig, "f") == ["a", "hi", "b", "hi", "f", "hi"]


async def test_its_session_stays_one_of_stateless_requests(rig: Rig) -> None:
    await say(rig, "a")
    await say(rig, "b", "a")
    await say(rig, "c", "a")

    info = await rig.catalog.find(KEY)
    assert info is not None
    assert info.one_off


async def test_results_follow_the_calls_of_exactly_that_turn(rig: Rig) -> None:
    called = Message(Role.ASSISTANT, (Text("I call."), CALL))
    rig.runner.script("a", Answered((called,), StopReason.TOOL_CALLS, Usage(5, 2), "acme/one"))
    await say(rig, "a")
    await say(rig, "b", "a")
    result = Message(Role.TOOL, (Text("sunny"),), tool_call_id="call_1")
    await say(rig, "c", "a", result)

    assert history(rig, "c") == ["a", "I call."]
    assert await transcript_of(rig, "c") == ["a", "I call.", "sunny", "hi"]


async def test_a_run_without_a_stored_turn_cannot_be_followed(rig: Rig) -> None:
    ending = await say(rig, "b", "gone")

    assert isinstance(ending, Failed)
    assert ending.code == "no_stored_turn"
    assert await rig.catalog.turn("b") is None
