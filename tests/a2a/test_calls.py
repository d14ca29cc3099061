"""JSON-RPC: what is malformed, what is not served, keys and their limits."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import httpx
import pytest
from a2a.client.errors import A2AClientError
from a2a.types import (
    CancelTaskRequest,
    ContentTypeNotSupportedError,
    GetTaskRequest,
    ListTasksRequest,
    PushNotificationNotSupportedError,
    TaskNotFoundError,
    TaskPushNotificationConfig,
)
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from jsonschema import Draft202012Validator

from opensoul.adapters.transports.a2a.rpc import METHODS
from tests.app.keyed import content, created
from tests.app.serving import SECRET, Served, serving
from tests.fakes.provider import FakeProvider

from .agents import Caller, calling, name, rpc, sent, switched_on, text_of

MESSAGE = {"messageId": "m1", "role": "ROLE_USER", "parts": [{"text": "hello"}]}
LEGACY = {"messageId": "m1", "role": "user", "parts": [{"kind": "text", "text": "hello"}]}


def without(field: str, message: dict[str, Any] = MESSAGE) -> dict[str, Any]:
    return {"message": {key: value for key, value in message.items() if key != field}}


def changed(**fields: Any) -> dict[str, Any]:
    return {"message": MESSAGE | fields}


def configured(**fields: Any) -> dict[str, Any]:
    return {"message": MESSAGE, "configuration": fields}


@pytest.mark.parametrize(
    ("body", "code", "call_id"),
    [
        (b"{", -32700, None),
        (b"", -32700, None),
        (b'{"jsonrpc": "2.0", "method": NaN}', -32700, None),
        ([rpc("GetTask")], -32600, None),
        ("text", -32600, None),
        (rpc("GetTask", id=True), -32600, None),
        (rpc("GetTask", id=[1]), -32600, None),
        (rpc("GetTask", jsonrpc="1.0"), -32600, 7),
        ({"jsonrpc": "2.0", "id": 7, "method": 1}, -32600, 7),
        ({"jsonrpc": "2.0", "id": "a"}, -32600, "a"),
        (rpc("tasks/none"), -32601, 7),
        (rpc("GetTask"), -32602, 7),
        (rpc("GetTask", []), -32602, 7),
        (rpc("GetTask", {"id": 1}), -32602, 7),
        (rpc("GetTask", {}), -32001, 7),
        (rpc("GetTask", {"id": "x", "historyLength": -1}), -32001, 7),
        (rpc("GetTask", {"id": "\ud800"}), -32001, 7),
        (rpc("tasks/get", {"id": "x"}, id=None), -32001, None),
        (rpc("tasks/get", {}), -32602, 7),
        (rpc("CancelTask", {"id": "x"}), -32001, 7),
        (rpc("tasks/resubscribe", {"id": "x"}), -32001, 7),
        (rpc("SendMessage", {}), -32602, 7),
        (rpc("SendMessage", {"message": 1}), -32602, 7),
        (rpc("SendMessage", without("messageId")), -32602, 7),
        (rpc("SendMessage", without("role")), -32602, 7),
        (rpc("SendMessage", without("parts")), -32602, 7),
        (rpc("SendMessage", changed(role="ROLE_AGENT")), -32602, 7),
        (rpc("SendMessage", changed(role="ROLE_NONE")), -32602, 7),
        (rpc("SendMessage", changed(parts=[{}])), -32602, 7),
        (rpc("SendMessage", changed(parts=[{"text": "a"}] * 2_001)), -32602, 7),
        (rpc("SendMessage", changed(parts=[{"raw": "!"}])), -32602, 7),
        (rpc("SendMessage", changed(parts=[{"text": ""}])), None, 7),
        (rpc("SendMessage", changed(contextId="a b")), -32602, 7),
        (rpc("SendMessage", changed(contextId="agent:")), -32602, 7),
        (rpc("SendMessage", changed(contextId="é")), -32602, 7),
        (rpc("SendMessage", changed(taskId="x")), -32001, 7),
        (rpc("SendMessage", configured(historyLength=-1)), -32602, 7),
        (rpc("SendMessage", configured(acceptedOutputModes=["image/png"])), -32005, 7),
        (rpc("SendMessage", configured(taskPushNotificationConfig={"url": "x"})), -32003, 7),
        (rpc("message/send", without("parts", LEGACY)), -32602, 7),
        (rpc("message/send", {"message": LEGACY | {"parts": [{"kind": "none"}]}}), -32602, 7),
        (rpc("message/stream", without("messageId", LEGACY)), -32602, 7),
        (rpc("CreateTaskPushNotificationConfig", {}), -32003, 7),
        (rpc("tasks/pushNotificationConfig/list", {}), -32003, 7),
    ],
)
async def test_a_wrong_call_has_a_code(
    current: Caller, body: Any, code: int | None, call_id: Any
) -> None:
    response = await current.raw(body)
    answered = response.json()
    assert response.status_code == 200
    assert answered["jsonrpc"] == "2.0"
    assert answered["id"] == call_id
    assert answered.get("error", {}).get("code") == code
    if code is not None:
        assert answered["error"]["message"]


async def test_params_nested_too_deep_are_refused(current: Caller) -> None:
    data: Any = 1
    for _ in range(200):
        data = [data]
    response = await current.raw(rpc("SendMessage", changed(parts=[{"data": data}])))
    assert response.json()["error"]["code"] == -32602


_VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)
_NAMES = st.sampled_from(
    ["messageId", "role", "parts", "contextId", "taskId", "text", "file", "data", "kind", "raw"]
)
_METHODS = st.sampled_from(
    ["SendMessage", "message/send", "GetTask", "tasks/get", "ListTasks", "tasks/cancel"]
)


@settings(deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.data())
async def test_no_params_are_a_failure_of_the_gateway(current: Caller, data: st.DataObject) -> None:
    message = data.draw(st.dictionaries(_NAMES, _VALUES, max_size=4)) | data.draw(
        st.sampled_from([{}, MESSAGE, LEGACY])
    )
    message |= {"parts": [data.draw(st.dictionaries(_NAMES, _VALUES, max_size=3))]}
    params = data.draw(_VALUES | st.just({"message": message, "configuration": data.draw(_VALUES)}))
    response = await current.raw(rpc(data.draw(_METHODS), params))
    assert response.status_code == 200
    assert {"result", "error"} & response.json().keys()


async def test_fields_without_an_effect_are_named(current: Caller) -> None:
    params = {
        "message": MESSAGE
        | {"metadata": {"a": 1}, "reference_task_ids": ["x"], "parts": [{"text": "a", "b": 1}]},
        "tenant": "x",
    }
    response = await current.raw(rpc("SendMessage", params))
    assert response.json()["result"]["task"]["status"]["state"] == "TASK_STATE_COMPLETED"
    assert response.headers["x-opensoul-ignored"] == (
        "message.metadata, message.parts.b, message.referenceTaskIds, tenant"
    )


@pytest.mark.parametrize(("version", "code"), [("1.0", None), ("0.3.0", None), ("2.0", -32009)])
async def test_another_version_of_the_protocol_is_refused(
    current: Caller, version: str, code: int | None
) -> None:
    headers = {"A2A-Version": version}
    body = rpc("SendMessage", {"message": MESSAGE})
    response = await current.http.post(f"{current.url}/a2a", json=body, headers=headers)
    assert response.json().get("error", {}).get("code") == code


async def test_push_notifications_are_refused(caller: Caller) -> None:
    client = await caller.client()
    config = TaskPushNotificationConfig(task_id="x", url="https://example.org")
    with pytest.raises(PushNotificationNotSupportedError):
        await client.create_task_push_notification_config(config)
    request = sent()
    request.configuration.task_push_notification_config.CopyFrom(config)
    with pytest.raises(PushNotificationNotSupportedError):
        await caller.task(request)
    request = sent()
    request.configuration.accepted_output_modes.append("audio/wav")
    with pytest.raises(ContentTypeNotSupportedError):
        await caller.task(request)


async def test_a_stranger_is_refused(served: Served) -> None:
    async with calling(served, "wrong") as caller:
        with pytest.raises(A2AClientError, match="401"):
            await caller.task(sent())


async def test_a_key_that_only_reads_sends_nothing(served: Served) -> None:
    secret = await created(served, "reader", scopes=["operator.read"])
    async with calling(served) as caller:
        task = await caller.task(sent())
    async with calling(served, secret) as caller:
        client = await caller.client()
        assert not (await client.list_tasks(ListTasksRequest())).tasks
        with pytest.raises(TaskNotFoundError):
            await client.get_task(GetTaskRequest(id=task.id))
        with pytest.raises(A2AClientError, match="403"):
            await caller.task(sent())
        response = await caller.raw(rpc("SendMessage", {"message": MESSAGE}))
        assert response.json()["error"]["data"][0]["reason"] == "MISSING_SCOPE"
        assert response.json()["id"] == 7


async def test_the_tasks_of_a_key_are_its_own(served: Served, provider: FakeProvider) -> None:
    one, other = await created(served, "one"), await created(served, "other")
    async with calling(served, one) as caller:
        first = await caller.task(sent("I am Ada.", context_id="c1"))
        assert first.context_id == "c1"
    async with calling(served, other) as caller:
        second = await caller.task(sent("Who am I?", context_id="c1"))
        client = await caller.client()
        assert second.context_id == "c1"
        with pytest.raises(TaskNotFoundError):
            await client.get_task(GetTaskRequest(id=first.id))
        with pytest.raises(TaskNotFoundError):
            await client.cancel_task(CancelTaskRequest(id=first.id))
        listed = await client.list_tasks(ListTasksRequest(context_id="c1"))
        assert [task.id for task in listed.tasks] == [second.id]
    assert "I am Ada." not in str(provider.requests[1].json)


async def test_a_key_has_its_limits_here_too(served: Served) -> None:
    secret = await created(served, "slow", requestsPerMinute=1)
    async with calling(served, secret) as caller:
        await caller.task(sent())
        response = await caller.raw(rpc("SendMessage", {"message": MESSAGE}))
        assert response.status_code == 429
        assert int(response.headers["retry-after"]) > 0
        assert response.json()["error"]["code"] == -32000
        with pytest.raises(A2AClientError, match="429"):
            await caller.task(sent())


async def test_a_repeated_request_gets_the_same_task(
    current: Caller, provider: FakeProvider
) -> None:
    current.http.headers["Idempotency-Key"] = "k1"
    first, again = await current.task(sent()), await current.task(sent())
    assert (again.id, again.context_id, text_of(again)) == (first.id, first.context_id, "Hello!")
    assert name(again.status.state) == "completed"
    assert len(provider.requests) == 1
    (event,) = await current.stream(sent())
    assert (event.task.id, text_of(event.task)) == (first.id, "Hello!")


async def test_a_body_that_is_too_large_is_refused(served: Served) -> None:
    body = b" " * (21 * 1024 * 1024)
    async with httpx.AsyncClient(headers={"Authorization": f"Bearer {SECRET}"}) as client:
        response = await client.post(f"{served.url}/a2a", content=body)
    assert response.status_code == 413


async def test_headers_bind_a_message_as_on_other_endpoints(
    current: Caller, served: Served
) -> None:
    current.http.headers["x-opensoul-session-key"] = "agent:guide:desk"
    task = await current.task(sent())
    assert task.context_id == "agent:guide:desk"
    body = rpc("SendMessage", changed(contextId="c1"))
    assert (await current.raw(body)).json()["error"]["code"] == -32602
    del current.http.headers["x-opensoul-session-key"]
    current.http.headers["x-opensoul-agent-id"] = "cook"
    current.agent = "guide"
    with pytest.raises(Exception, match="x-opensoul-agent-id"):
        await current.task(sent())


async def test_the_examples_of_the_document_are_answered_as_it_says(current: Caller) -> None:
    document = (await current.http.get(f"{current.url}/openapi.json")).json()
    operation = document["paths"]["/a2a"]["post"]
    media = operation["requestBody"]["content"]["application/json"]
    schema = operation["responses"]["200"]["content"]["application/json"]["schema"]
    validator = Draft202012Validator({**schema, "components": document["components"]})
    for example in media["examples"].values():
        answered = (await current.raw(example["value"])).json()
        validator.validate(answered)
        assert "result" in answered
    assert set(METHODS) == set(
        document["components"]["schemas"]["A2aRequest"]["properties"]["method"]["enum"]
    )
    card = document["paths"]["/.well-known/agent-card.json"]["get"]["responses"]["200"]
    schema = card["content"]["application/json"]["schema"]
    validator = Draft202012Validator({**schema, "components": document["components"]})
    validator.validate(
        (await current.http.get(f"{current.url}/.well-known/agent-card.json")).json()
    )


async def test_the_task_of_an_earlier_process_is_still_there(
    tmp_path: Path, provider: FakeProvider
) -> None:
    whole = switched_on(content(provider))
    async with serving(tmp_path, whole) as served, calling(served) as caller:
        task = await caller.task(sent())
    async with serving(tmp_path, whole) as served, calling(served) as caller:
        client = await caller.client()
        found = await client.get_task(GetTaskRequest(id=task.id))
        assert (found.context_id, text_of(found)) == (task.context_id, "Hello!")
        await caller.task(sent("And now?", context_id=task.context_id))
    assert "Hello!" in str(provider.requests[-1].json)


async def test_integers_are_not_written_as_floats(current: Caller, provider: FakeProvider) -> None:
    data = {"numbers": [3, 0.5, 1e300]}
    response = await current.raw(rpc("SendMessage", changed(parts=[{"data": data}])))

    said = provider.requests[0].json["messages"][-1]["content"]
    assert said == '{"numbers": [3, 0.5, 1e+300]}'
    assert b'"totalTokens":10' in response.content
    assert b'"totalTokens":10.0' not in response.content
