"""What a key can do with the approvals and tool calls of another key: nothing."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio

from tests.app.keyed import ask, bearer, content, created, entered, provider
from tests.app.serving import SECRET, Served, serving
from tests.approvals.office import ARGUMENTS, Courier, Said, calls, installed
from tests.control.client import Refused
from tests.fakes.behaviours import answer
from tests.fakes.provider import FakeProvider

__all__ = ["provider"]

DECIDES = ["operator.read", "operator.write", "operator.approvals"]
FUNCTION = {"name": "weather", "arguments": "{}"}
CALL = {"index": 0, "id": "c", "type": "function", "function": FUNCTION}
TOOLS = [{"type": "function", "function": {"name": "weather"}}]
SECRET_TEXT = "what the owner was told"


@pytest.fixture
def courier() -> Courier:
    return Courier()


@pytest_asyncio.fixture
async def served(tmp_path: Path, provider: FakeProvider, courier: Courier) -> AsyncIterator[Served]:
    whole = content(provider) | {"tools": {"allow": ["send"]}}
    async with serving(tmp_path, whole, find_plugins=installed(courier=courier)) as served:
        yield served


async def said(served: Served, key: str, text: str, **headers: str) -> Said:
    body = {"messages": [{"role": "user", "content": text}]}
    async with ask(served, key, headers, **body) as response:
        run_id = response.headers.get("x-opensoul-run-id", "")
        answered = await response.json()
        if response.status != 200:
            return Said(response.status, run_id, error=answered["error"]["code"])
        return Said(200, run_id, answered["choices"][0]["message"]["content"])


async def test_the_approval_of_another_key_is_unknown(
    served: Served, provider: FakeProvider, courier: Courier
) -> None:
    owner = await created(served, "owner", scopes=DECIDES)
    thief = await created(served, "thief", scopes=DECIDES)
    provider.will(calls(), answer("It is sent."))
    asked = await said(served, owner, "Send it.")
    async with served.client.get("/v1/approvals", headers=bearer(owner)) as response:
        ((approval,),) = [(await response.json())["data"]]
    path = f"/v1/approvals/{approval['id']}"

    async with served.client.get("/v1/approvals", headers=bearer(thief)) as response:
        assert (await response.json())["data"] == []
    async with served.client.get(path, headers=bearer(thief)) as response:
        assert response.status == 404
    decision = {"decision": "allow-once"}
    async with served.client.post(path, json=decision, headers=bearer(thief)) as response:
        assert response.status == 404
    refused = await said(served, thief, f"approve {asked.code}")
    assert (refused.status, refused.error) == (404, "approval_not_found")
    async with entered(served, thief, DECIDES) as peer:
        assert await peer.call("exec.approval.list") == []
        for method, more in (("get", {}), ("resolve", decision)):
            with pytest.raises(Refused, match="There is no approval"):
                await peer.call(f"exec.approval.{method}", {"id": approval["id"], **more})
    assert courier.sent == []

    provider.will(answer("It is sent."))
    assert (await said(served, owner, f"approve {asked.code}")).status == 200
    assert courier.sent == [ARGUMENTS]


async def test_a_key_without_the_scope_decides_on_nothing(
    served: Served, provider: FakeProvider, courier: Courier
) -> None:
    key = await created(served, "plain")
    provider.will(calls(), answer("It is sent."))
    asked = await said(served, key, "Send it.")
    async with served.client.get("/v1/approvals", headers=bearer(key)) as response:
        assert response.status == 403
    assert (await said(served, key, f"approve {asked.code}")).status == 403
    assert courier.sent == []


@pytest.mark.parametrize(("by", "sees"), [("owner", True), ("operator", True), ("thief", False)])
async def test_the_call_id_of_another_key_discloses_nothing(
    served: Served, provider: FakeProvider, by: str, sees: bool
) -> None:
    keys = {name: await created(served, name) for name in ("owner", "thief")}
    keys["operator"] = SECRET
    body: dict[str, Any] = {"tools": TOOLS}
    question = {"role": "user", "content": "How is it?"}
    provider.will(answer(SECRET_TEXT, tool_calls=[CALL], finish_reason="tool_calls"))
    async with ask(served, keys["owner"], **body, messages=[question]) as response:
        (call,) = (await response.json())["choices"][0]["message"]["tool_calls"]

    mine = {"role": "assistant", "content": None, "tool_calls": [call]}
    result = {"role": "tool", "tool_call_id": call["id"], "content": "sunny"}
    async with ask(served, keys[by], **body, messages=[question, mine, result]) as response:
        assert response.status == 200, await response.text()
    assert (SECRET_TEXT in provider.requests[-1].body.decode()) is sees


@pytest.mark.parametrize(("method", "path"), [("GET", ""), ("GET", "/events"), ("POST", "/cancel")])
async def test_the_run_of_another_key_is_unknown_over_http(
    served: Served, method: str, path: str
) -> None:
    owner, thief = await created(served, "owner"), await created(served, "thief")
    run_id = (await said(served, owner, "Hello.")).run_id
    for run, key, status in ((run_id, thief, 404), ("nobodys", thief, 404), (run_id, owner, 200)):
        url = f"/v1/runs/{run}{path}"
        async with served.client.request(method, url, headers=bearer(key)) as response:
            assert response.status == status
    async with served.client.get("/v1/runs", headers=bearer(thief)) as response:
        assert run_id not in await response.text()


async def test_equal_idempotency_keys_of_two_keys_are_two_runs(served: Served) -> None:
    one, two = await created(served, "one"), await created(served, "two")
    headers = {"Idempotency-Key": "the same"}
    runs = [(await said(served, key, "Hello.", **headers)).run_id for key in (one, two, one)]
    assert runs[0] == runs[2]
    assert runs[0] != runs[1]
