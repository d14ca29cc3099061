"""Conversations, tasks and streams of the SDK's clients, over real sockets."""

from __future__ import annotations

import asyncio
from contextlib import aclosing
from typing import Any

import pytest
from a2a.types import (
    CancelTaskRequest,
    GetTaskRequest,
    InvalidParamsError,
    ListTasksRequest,
    Message,
    Part,
    Role,
    SendMessageRequest,
    SubscribeToTaskRequest,
    TaskNotCancelableError,
    TaskNotFoundError,
    TaskState,
    UnsupportedOperationError,
)
from google.protobuf.struct_pb2 import Struct, Value

from opensoul.domain.runs import RunStatus
from tests.app.delegating import OPERATOR
from tests.app.serving import Served
from tests.app.test_tool_policy import calling as calling_tools
from tests.app.test_tool_policy import results
from tests.fakes.behaviours import answer, fail
from tests.fakes.provider import FakeProvider

from .agents import Caller, name, sent, states, streamed_text, text_of


async def test_a_message_begins_a_task_that_has_the_answer(caller: Caller, served: Served) -> None:
    task = await caller.task(sent())

    assert name(task.status.state) == "completed"
    assert text_of(task) == "Hello!"
    assert [(m.role, m.parts[0].text) for m in task.history] == [
        (Role.ROLE_USER, "hello"),
        (Role.ROLE_AGENT, "Hello!"),
    ]
    assert task.history[0].message_id == "m1"
    assert task.metadata["finishReason"] == "stop"
    assert task.metadata["usage"]["totalTokens"] == 10
    run = await served.container.gateway().run(OPERATOR, task.id)
    assert run.status is RunStatus.FINISHED
    assert str(run.session_key) == f"agent:main:a2a-chat:context:{task.context_id}"


async def test_the_answer_is_streamed_in_pieces_of_one_artifact(
    caller: Caller, provider: FakeProvider
) -> None:
    gate = asyncio.Event()
    provider.will(answer("Hel", "lo!", gate=gate))
    client = await caller.client(streaming=True)
    events = []
    async for event in client.send_message(sent()):
        events.append(event)
        if event.HasField("artifact_update"):
            gate.set()

    assert list(states(events)) == ["submitted", "working", "completed"]
    updates = [one.artifact_update for one in events if one.HasField("artifact_update")]
    assert [update.append for update in updates][:2] == [False, True]
    assert [update.last_chunk for update in updates].count(True) == 1
    assert updates[-1].last_chunk
    assert len({update.artifact.artifact_id for update in updates}) == 1
    assert streamed_text(events) == "Hello!"


async def test_the_agent_calls_its_own_tools(caller: Caller, provider: FakeProvider) -> None:
    provider.will(
        calling_tools(("write", {"path": "a.txt", "content": "x"})), answer("It is written.")
    )
    events = await caller.stream(sent("Write a.txt."))

    assert streamed_text(events) == "It is written."
    assert list(states(events))[-1] == "completed"
    assert len(results(provider.requests[1])) == 1
    assert "Error" not in results(provider.requests[1])[0]


async def test_a_context_is_a_session(caller: Caller, provider: FakeProvider) -> None:
    first = await caller.task(sent("I am Ada."))
    await caller.task(sent("Who am I?", context_id=first.context_id))
    other = await caller.task(sent("Who am I?"))

    assert other.context_id != first.context_id
    _, second, third = [request.json["messages"] for request in provider.requests]
    assert [message["content"] for message in second[-3:]] == ["I am Ada.", "Hello!", "Who am I?"]
    assert "I am Ada." not in [message["content"] for message in third]


async def test_a_session_of_another_endpoint_is_a_context(
    current: Caller, served: Served, provider: FakeProvider
) -> None:
    task = await current.task(sent("I am Ada.", context_id="agent:main:desk"))
    assert task.context_id == "agent:main:desk"
    run = await served.container.gateway().run(OPERATOR, task.id)
    assert str(run.session_key) == "agent:main:desk"


async def test_an_agent_has_an_endpoint(caller: Caller, served: Served) -> None:
    caller.agent = "guide"
    task = await caller.task(sent())
    run = await served.container.gateway().run(OPERATOR, task.id)
    assert run.agent_id == "guide"

    caller.agent = "cook"
    with pytest.raises(TaskNotFoundError):
        await (await caller.client()).get_task(GetTaskRequest(id=task.id))
    caller.agent = "nobody"
    with pytest.raises(InvalidParamsError, match="No agent 'nobody'"):
        await caller.task(sent())


async def test_a_client_that_does_not_wait_asks_for_the_task_later(
    caller: Caller, served: Served, provider: FakeProvider
) -> None:
    gate = asyncio.Event()
    provider.will(answer("Hel", "lo!", gate=gate))
    client = await caller.client()
    task = await caller.task(sent(blocking=False))
    assert name(task.status.state) in ("submitted", "working")
    assert [message.parts[0].text for message in task.history] == ["hello"]
    gate.set()
    await served.container.gateway().wait(OPERATOR, task.id, 30)

    task = await client.get_task(GetTaskRequest(id=task.id))
    assert name(task.status.state) == "completed"
    assert text_of(task) == "Hello!"


@pytest.mark.parametrize(("length", "texts"), [(1, ["Hello!"]), (9, ["hello", "Hello!"])])
async def test_the_history_has_the_length_that_the_client_wants(
    caller: Caller, length: int, texts: list[str]
) -> None:
    request = sent()
    request.configuration.history_length = length
    task = await caller.task(request)
    assert [message.parts[0].text for message in task.history] == texts
    asked = GetTaskRequest(id=task.id, history_length=length)
    task = await (await caller.client()).get_task(asked)
    assert [message.parts[0].text for message in task.history] == texts


async def test_no_history_is_a_length_of_zero(current: Caller) -> None:
    request = sent()
    request.configuration.history_length = 0
    assert not (await current.task(request)).history


async def test_a_task_is_cancelled_once(
    caller: Caller, served: Served, provider: FakeProvider
) -> None:
    provider.will(answer("Hel", "lo!", gate=asyncio.Event()))
    client = await caller.client()
    task = await caller.task(sent(blocking=False))
    await provider.arrival()

    cancelled = await client.cancel_task(CancelTaskRequest(id=task.id))
    assert name(cancelled.status.state) == "canceled"
    assert "Cancelled by" in cancelled.status.message.parts[0].text
    with pytest.raises(TaskNotCancelableError):
        await client.cancel_task(CancelTaskRequest(id=task.id))
    run = await served.container.gateway().run(OPERATOR, task.id)
    assert run.status is RunStatus.ABORTED


async def test_the_stream_of_a_cancelled_task_ends_with_that_state(
    caller: Caller, provider: FakeProvider
) -> None:
    provider.will(answer("Hel", "lo!", gate=asyncio.Event()))
    client = await caller.client(streaming=True)
    events = []
    async for event in client.send_message(sent()):
        events.append(event)
        if event.HasField("artifact_update"):
            await client.cancel_task(CancelTaskRequest(id=event.artifact_update.task_id))
    assert list(states(events))[-1] == "canceled"


async def test_a_stream_is_taken_up_again_after_a_break(
    caller: Caller, provider: FakeProvider
) -> None:
    gate = asyncio.Event()
    provider.will(answer("Hel", "lo!", gate=gate))
    client = await caller.client(streaming=True)
    sending: Any = client.send_message(sent())
    async with aclosing(sending) as stream:
        async for event in stream:
            if event.HasField("artifact_update"):
                task_id = event.artifact_update.task_id
                break

    events = []
    async for event in client.subscribe(SubscribeToTaskRequest(id=task_id)):
        events.append(event)
        gate.set()
    assert events[0].task.id == task_id
    assert streamed_text(events) == "Hello!"
    assert list(states(events))[-1] == "completed"
    with pytest.raises(UnsupportedOperationError):
        await anext(aiter(client.subscribe(SubscribeToTaskRequest(id=task_id))))


@pytest.mark.parametrize("streaming", [False, True])
async def test_a_run_that_fails_is_a_task_that_failed(
    caller: Caller, provider: FakeProvider, streaming: bool
) -> None:
    provider.default = fail(400)
    if streaming:
        events = await caller.stream(sent())
        status = events[-1].status_update.status
        task_id = events[0].task.id
    else:
        task = await caller.task(sent())
        status, task_id = task.status, task.id
    assert name(status.state) == "failed"
    (message,) = status.message.parts
    assert "400" in message.text

    again = await (await caller.client()).get_task(GetTaskRequest(id=task_id))
    assert again.status.message.parts[0].text == message.text


async def test_a_task_that_has_ended_takes_no_message(caller: Caller) -> None:
    task = await caller.task(sent())
    with pytest.raises(UnsupportedOperationError, match="contextId"):
        await caller.task(sent("More?", task_id=task.id))


async def test_a_task_that_works_takes_no_message(caller: Caller, provider: FakeProvider) -> None:
    gate = asyncio.Event()
    provider.will(answer("Hel", "lo!", gate=gate))
    task = await caller.task(sent(blocking=False))
    with pytest.raises(InvalidParamsError, match="approve CODE"):
        await caller.task(sent("More?", task_id=task.id))
    with pytest.raises(InvalidParamsError, match="contextId"):
        await caller.task(sent("More?", task_id=task.id, context_id="another"))
    gate.set()


async def test_data_is_sent_as_json_and_files_as_texts(
    caller: Caller, provider: FakeProvider
) -> None:
    value = Struct()
    value.update({"city": "Zürich"})
    message = Message(
        message_id="m1",
        role=Role.ROLE_USER,
        parts=[
            Part(data=Value(struct_value=value)),
            Part(raw="schön".encode(), media_type="text/plain", filename="a.txt"),
        ],
    )
    await caller.task(SendMessageRequest(message=message))
    content = str(provider.requests[0].json["messages"][-1]["content"])
    assert '{"city": "Zürich"}' in content
    assert "schön" in content
    assert "a.txt" in content


@pytest.mark.parametrize(
    ("part", "message"),
    [
        (Part(raw=b"x", media_type="image/png"), "the picture cannot be decoded"),
        (Part(raw=b"x", media_type="application/zip"), "files of the type application/zip"),
        (Part(url="https://example.org/a.png", media_type="image/png"), "are not fetched"),
        (Part(url="https://example.org/a.txt", media_type="text/plain"), "only pictures"),
        (Part(raw=b"x", media_type="a b,c"), "no media type"),
    ],
)
async def test_a_file_is_refused_by_its_place(caller: Caller, part: Part, message: str) -> None:
    sent_message = Message(message_id="m1", role=Role.ROLE_USER, parts=[part])
    with pytest.raises(InvalidParamsError, match=message) as refused:
        await caller.task(SendMessageRequest(message=sent_message))
    assert "message.parts[0]." in str(refused.value)


async def test_tasks_are_listed_by_page_state_and_context(
    current: Caller, provider: FakeProvider
) -> None:
    first = await current.task(sent())
    second = await current.task(sent(context_id=first.context_id))
    provider.will(fail(400))
    third = await current.task(sent())
    client = await current.client()

    page = await client.list_tasks(ListTasksRequest(page_size=2))
    assert [task.id for task in page.tasks] == [third.id, second.id]
    assert not page.tasks[1].artifacts
    token = page.next_page_token
    page = await client.list_tasks(ListTasksRequest(page_size=2, page_token=token))
    assert [task.id for task in page.tasks] == [first.id]
    assert not page.next_page_token
    asked = ListTasksRequest(context_id=first.context_id, include_artifacts=True)
    page = await client.list_tasks(asked)
    assert [text_of(task) for task in page.tasks] == ["Hello!", "Hello!"]
    failed = await client.list_tasks(ListTasksRequest(status=TaskState.TASK_STATE_FAILED))
    assert [task.id for task in failed.tasks] == [third.id]
    after = ListTasksRequest()
    after.status_timestamp_after.FromJsonString("2999-01-01T00:00:00Z")
    assert not (await client.list_tasks(after)).tasks
    for wrong in (ListTasksRequest(page_size=101), ListTasksRequest(page_token="none")):
        with pytest.raises(InvalidParamsError):
            await client.list_tasks(wrong)
