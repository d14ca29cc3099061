"""Tasks that wait for an approval."""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio
from a2a.types import (
    CancelTaskRequest,
    GetTaskRequest,
    InvalidParamsError,
    SubscribeToTaskRequest,
    Task,
    TaskNotFoundError,
    UnsupportedOperationError,
)

from tests.app.serving import config
from tests.approvals.office import ARGUMENTS, Office, calls, open_office
from tests.approvals.test_conversation import DELEGATING, pending, spawns
from tests.fakes.behaviours import answer
from tests.fakes.provider import FakeProvider

from .agents import Caller, calling, name, sent, states, streamed_text, switched_on, text_of


@pytest_asyncio.fixture
async def office(tmp_path: Path) -> AsyncIterator[Office]:
    async with FakeProvider() as provider:
        gateway: dict[str, Any] = switched_on(config())["gateway"]
        async with open_office(tmp_path, provider, sections={"gateway": gateway}) as office:
            yield office


@pytest_asyncio.fixture(params=["1.0", "0.3"])
async def caller(office: Office, request: pytest.FixtureRequest) -> AsyncIterator[Caller]:
    async with calling(office.served, version=request.param) as caller:
        yield caller


def code_in(task: Task) -> str:
    assert name(task.status.state) == "input_required"
    found = re.search("^approve (.+)$", task.status.message.parts[0].text, re.MULTILINE)
    assert found is not None
    return found[1]


async def waiting(office: Office, caller: Caller) -> Task:
    office.provider.will(calls(), answer("It is sent."))
    return await caller.task(sent("Send it."))


async def test_a_message_with_the_code_decides(office: Office, caller: Caller) -> None:
    task = await waiting(office, caller)
    code = code_in(task)
    client = await caller.client()
    assert code_in(await client.get_task(GetTaskRequest(id=task.id))) == code
    with pytest.raises(InvalidParamsError, match="approve CODE"):
        await caller.task(sent("Yes.", task_id=task.id))

    done = await caller.task(sent(f"approve {code}", task_id=task.id))
    assert done.id == task.id
    assert done.context_id == task.context_id
    assert name(done.status.state) == "completed"
    assert text_of(done) == "I send it. \n\nIt is sent."
    assert office.courier.sent == [ARGUMENTS]


async def test_a_denied_call_is_not_made(office: Office, caller: Caller) -> None:
    task = await waiting(office, caller)
    done = await caller.task(sent(f"deny {code_in(task)}", context_id=task.context_id))
    assert done.id == task.id
    assert name(done.status.state) == "completed"
    assert not office.courier.sent


async def test_a_stream_ends_where_the_task_waits_and_goes_on_by_the_decision(
    office: Office, caller: Caller
) -> None:
    office.provider.will(calls(), answer("It is sent."))
    events = await caller.stream(sent("Send it."))
    assert list(states(events)) == ["submitted", "working", "input_required"]
    assert streamed_text(events) == "I send it. \n\n"
    task = await (await caller.client()).get_task(GetTaskRequest(id=events[0].task.id))
    client = await caller.client(streaming=True)
    again = [event async for event in client.subscribe(SubscribeToTaskRequest(id=task.id))]
    assert list(states(again))[-1] == "input_required"

    events = await caller.stream(sent(f"approve {code_in(task)}", task_id=task.id))
    assert events[0].task.id == task.id
    assert list(states(events))[-1] == "completed"
    assert streamed_text(events) == "I send it. \n\nIt is sent."


@pytest.mark.parametrize(("version", "streaming"), [("1.0", False), ("1.0", True), ("0.3", True)])
async def test_a_task_waits_for_the_approval_of_a_sub_agent(
    tmp_path: Path, version: str, streaming: bool
) -> None:
    sections = DELEGATING | {"gateway": switched_on(config())["gateway"]}
    async with (
        FakeProvider() as provider,
        open_office(tmp_path, provider, sections=sections) as office,
        calling(office.served, version=version) as caller,
    ):
        provider.will(spawns("Send it."), calls(), answer("The helper sent it."), answer("Done."))
        if streaming:
            events = await caller.stream(sent("Have it sent."))
            assert list(states(events))[-1] == "input_required"
            assert "approve" not in streamed_text(events)
            asked = GetTaskRequest(id=events[0].task.id)
            task = await (await caller.client()).get_task(asked)
        else:
            task = await caller.task(sent("Have it sent."))
        assert "of a sub-agent" in task.status.message.parts[0].text
        done = await caller.task(sent(f"approve {code_in(task)}", task_id=task.id))
        assert text_of(done).endswith("Done.")
        assert office.courier.sent == [ARGUMENTS]


async def test_a_task_that_waits_is_cancelled(office: Office, caller: Caller) -> None:
    task = await waiting(office, caller)
    client = await caller.client()
    cancelled = await client.cancel_task(CancelTaskRequest(id=task.id))
    assert name(cancelled.status.state) == "canceled"
    with pytest.raises(UnsupportedOperationError):
        await caller.task(sent(f"approve {code_in(task)}", task_id=task.id))
    assert not office.courier.sent


@pytest.mark.parametrize("streaming", [False, True])
async def test_with_the_header_the_answer_stays_open(
    office: Office, caller: Caller, streaming: bool
) -> None:
    requested = asyncio.Event()
    office.served.container.approvals().on_requested(lambda _: requested.set())
    caller.http.headers["x-opensoul-approval"] = "wait"
    office.provider.will(calls(), answer("It is sent."))
    answering = asyncio.create_task(collected(caller, streaming))
    await requested.wait()
    (approval,) = await pending(office)
    await office.http("POST", f"/{approval['id']}", decision="allow-once")
    assert await answering == "I send it. \n\nIt is sent."


async def collected(caller: Caller, streaming: bool) -> str:
    if streaming:
        return streamed_text(await caller.stream(sent("Send it.")))
    return text_of(await caller.task(sent("Send it.")))


async def test_a_code_decides_on_its_own_task_alone(office: Office, caller: Caller) -> None:
    office.provider.will(calls())
    task = await caller.task(sent("Send it."))
    office.provider.will(calls())
    other = await caller.task(sent("Send it."))
    decision = f"approve {code_in(task)}"
    for message in (sent(decision, task_id=other.id), sent(decision, context_id=other.context_id)):
        with pytest.raises(InvalidParamsError):
            await caller.task(message)
    with pytest.raises(InvalidParamsError):
        await caller.task(sent("approve AAAA-AAAA-AAAA", task_id=task.id))
    assert not office.courier.sent


async def test_the_task_of_another_principal_is_unknown(office: Office, caller: Caller) -> None:
    task = await waiting(office, caller)
    caller.http.headers.update(office.headers("grace"))
    del caller.http.headers["Authorization"]
    caller.agent = "guide"
    client = await caller.client()
    with pytest.raises(TaskNotFoundError) as foreign:
        await client.get_task(GetTaskRequest(id=task.id))
    with pytest.raises(TaskNotFoundError) as unknown:
        await client.get_task(GetTaskRequest(id="0" * len(task.id)))
    assert str(foreign.value).replace(task.id, "") == str(unknown.value).replace("0" * 36, "")
    with pytest.raises(TaskNotFoundError):
        await caller.task(sent(f"approve {code_in(task)}", task_id=task.id))
