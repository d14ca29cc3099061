"""The agents as tools of an MCP server, over real sockets, with the client that others publish."""

from __future__ import annotations

import asyncio
import contextlib
import io
import logging
import re
import subprocess
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio
from mcp import MCPError
from mcp_types import ElicitResult, ErrorData

from tests.app.keyed import administer, created
from tests.app.mcp_clients import (
    AGENTS,
    HANDSHAKE,
    INITIALIZE,
    SESSION,
    STATELESS,
    call,
    connected,
    content,
    event,
    heads,
    opened,
    post,
    text_of,
)
from tests.app.serving import SECRET, Served, config, serving
from tests.app.test_tool_policy import calling, results
from tests.approvals.office import ARGUMENTS, Office, calls, open_office
from tests.fakes.behaviours import answer, fail
from tests.fakes.provider import FakeProvider

HI = {"message": "hi"}
PING = {"jsonrpc": "2.0", "id": 9, "method": "ping"}
BOTH = pytest.mark.parametrize("mode", [HANDSHAKE, STATELESS])


@pytest_asyncio.fixture
async def provider() -> AsyncIterator[FakeProvider]:
    async with FakeProvider(answer("Hel", "lo!")) as provider:
        yield provider


@pytest_asyncio.fixture
async def served(tmp_path: Path, provider: FakeProvider) -> AsyncIterator[Served]:
    async with serving(tmp_path, content(provider)) as served:
        yield served


def said(request: Any) -> list[str]:
    """The texts of users and assistants that a provider was sent."""
    found = [one for one in request.json["messages"] if one["role"] != "system"]
    return [one["content"] for one in found]


@BOTH
async def test_each_agent_is_a_tool(served: Served, mode: str) -> None:
    async with connected(served, mode) as client:
        tools = (await client.list_tools()).tools
        result = await client.call_tool("ask_guide", HI)

        assert client.protocol_version == ("2025-11-25" if mode == HANDSHAKE else "2026-07-28")
        assert client.server_capabilities.tools is not None
        assert client.server_capabilities.tools.list_changed
    assert [tool.name for tool in tools] == ["ask_main", "ask_guide", "ask_cook"]
    assert tools[1].title == "The Guide"
    assert "The Guide" in (tools[1].description or "")
    assert tools[1].input_schema["required"] == ["message"]
    assert (text_of(result), result.is_error) == ("Hello!", False)
    structured = result.structured_content or {}
    assert structured["text"] == "Hello!"
    assert structured["agent_id"] == "guide"
    assert structured["stop_reason"] == "stop"
    async with served.client.get(
        f"/v1/runs/{structured['run_id']}", headers=served.authorization
    ) as response:
        run = await response.json()
    assert (run["status"], run["session_key"]) == ("finished", structured["session_key"])


async def test_a_session_is_one_conversation(served: Served, provider: FakeProvider) -> None:
    async with connected(served) as client:
        first = await client.call_tool("ask_main", HI)
        second = await client.call_tool("ask_main", {"message": "again"})
    async with connected(served) as other:
        third = await other.call_tool("ask_main", {"message": "anew"})

    keys = [(one.structured_content or {})["session_key"] for one in (first, second, third)]
    assert keys[0] == keys[1] != keys[2]
    assert [said(request) for request in provider.requests] == [
        ["hi"],
        ["hi", "Hello!", "again"],
        ["anew"],
    ]


async def test_without_sessions_each_call_is_a_conversation_of_its_own(
    served: Served, provider: FakeProvider
) -> None:
    async with connected(served, STATELESS) as client:
        await client.call_tool("ask_main", HI)
        await client.call_tool("ask_main", HI)

    assert [said(request) for request in provider.requests] == [["hi"], ["hi"]]


@BOTH
async def test_a_session_key_names_the_conversation(
    served: Served, provider: FakeProvider, mode: str
) -> None:
    async with connected(served, mode) as client:
        result = await client.call_tool("ask_main", {**HI, "session_key": "notes"})
        key = (result.structured_content or {})["session_key"]
        assert key == "agent:main:notes"
        await client.call_tool("ask_main", {"message": "again", "session_key": key})
        header = {"x-opensoul-session-key": "notes"}
        async with connected(served, mode, headers=header) as by_header:
            await by_header.call_tool("ask_main", {"message": "more"})
        refused = await client.call_tool("ask_cook", {**HI, "session_key": key})

    assert len(said(provider.requests[1])) == 3
    assert len(said(provider.requests[2])) == 5
    assert refused.is_error
    assert "Call ask_main" in text_of(refused)


@BOTH
async def test_progress_has_the_text_so_far(
    served: Served, provider: FakeProvider, mode: str
) -> None:
    gate, reported = asyncio.Event(), asyncio.Event()
    provider.will(answer("Hel", "lo!", gate=gate))
    seen: list[tuple[float, str | None]] = []

    async def progress(progress: float, total: float | None, message: str | None) -> None:
        seen.append((progress, message))
        reported.set()

    async with connected(served, mode) as client:
        call_task = asyncio.create_task(
            client.call_tool("ask_main", HI, progress_callback=progress)
        )
        await reported.wait()
        assert seen[0][1] == "Hel"
        gate.set()
        assert text_of(await call_task) == "Hello!"
    numbers = [number for number, _ in seen]
    assert numbers == sorted(set(numbers))


@BOTH
async def test_a_call_that_is_cancelled_aborts_the_run(
    served: Served, provider: FakeProvider, mode: str
) -> None:
    provider.will(answer("Hel", "lo!", gate=asyncio.Event()))
    async with connected(served, mode) as client:
        call_task = asyncio.create_task(client.call_tool("ask_main", HI))
        request = await provider.arrival()
        call_task.cancel()
        async with asyncio.timeout(10):
            await request.disconnected.wait()
        assert text_of(await client.call_tool("ask_main", HI)) == "Hello!"


async def test_a_client_that_leaves_aborts_the_run_and_not_its_session(
    served: Served, provider: FakeProvider
) -> None:
    provider.will(answer("Hel", "lo!", gate=asyncio.Event()))
    session = await opened(served)
    async with post(served, call("ask_main", HI), session) as response:
        assert response.status == 200
        request = await provider.arrival()
        response.close()
    async with asyncio.timeout(10):
        await request.disconnected.wait()
    async with post(served, call("ask_main", HI), session) as response:
        assert (await event(response))["result"]["structuredContent"]["text"] == "Hello!"


async def test_the_runs_of_a_session_end_with_it(served: Served, provider: FakeProvider) -> None:
    provider.will(answer("Hel", "lo!", gate=asyncio.Event()))
    session = await opened(served)
    async with post(served, call("ask_main", HI), session):
        request = await provider.arrival()
        async with served.client.delete("/mcp", headers=heads(session)) as response:
            assert response.status == 200
        async with asyncio.timeout(10):
            await request.disconnected.wait()


async def test_a_run_may_go_on_without_its_client(served: Served, provider: FakeProvider) -> None:
    gate = asyncio.Event()
    provider.will(answer("Hel", "lo!", gate=gate))
    session = await opened(served)
    goes_on = {"x-opensoul-on-disconnect": "continue"}
    arguments = {**HI, "session_key": "notes"}
    async with post(served, call("ask_main", arguments), session, headers=goes_on) as response:
        request = await provider.arrival()
        response.close()
    gate.set()
    async with asyncio.timeout(10):
        await request.ended.wait()
    assert not request.disconnected.is_set()


@BOTH
async def test_a_key_has_the_tools_of_its_agents_alone(served: Served, mode: str) -> None:
    guides = await created(served, "guides", agents=["guide"])
    cooks = await created(served, "cooks", agents=["cook"])

    for secret, mine, other in ((guides, "guide", "cook"), (cooks, "cook", "guide")):
        async with connected(served, mode, secret=secret) as client:
            assert [tool.name for tool in (await client.list_tools()).tools] == [f"ask_{mine}"]
            result = await client.call_tool(f"ask_{mine}", HI)
            assert (result.structured_content or {})["agent_id"] == mine
            messages = []
            for name in (f"ask_{other}", "ask_nobody"):
                with pytest.raises(MCPError) as refused:
                    await client.call_tool(name, HI)
                messages.append(str(refused.value).replace(name, "NAME"))
            assert messages[0] == messages[1]


async def test_the_limits_of_a_key_hold_for_calls(served: Served) -> None:
    secret = await created(served, "small", agents=["guide"], requestsPerMinute=1)
    async with connected(served, secret=secret) as client:
        assert not (await client.call_tool("ask_guide", HI)).is_error
        refused = await client.call_tool("ask_guide", HI)
    assert refused.is_error
    failure = (refused.structured_content or {})["error"]
    assert failure["code"] == "rate_limit_exceeded"
    assert failure["retry_after"] > 0


async def test_a_session_belongs_to_the_principal_that_opened_it(served: Served) -> None:
    mine = await created(served, "mine", agents=["guide"])
    session = await opened(served, secret=mine)
    foreign = await created(served, "foreign", agents=["guide"])

    found = []
    for secret, of in ((foreign, session), (mine, "no-such-session")):
        async with post(served, call("ask_guide", HI), of, secret=secret) as response:
            found.append((response.status, await response.text()))
        for method in ("GET", "DELETE"):
            async with served.client.request(method, "/mcp", headers=heads(of, secret)) as response:
                found.append((response.status, await response.text()))
    assert {status for status, _ in found} == {404}
    assert len({text for _, text in found}) == 1
    async with post(served, call("ask_guide", HI), session, secret=mine) as response:
        assert (await event(response))["result"]["structuredContent"]["text"] == "Hello!"


async def test_a_session_that_was_ended_is_unknown(served: Served) -> None:
    session = await opened(served)
    for status in (200, 404):
        async with served.client.delete("/mcp", headers=heads(session)) as response:
            assert response.status == status
    async with post(served, call("ask_main", HI), session) as response:
        assert response.status == 404


async def test_a_session_of_an_earlier_process_is_unknown(
    tmp_path: Path, provider: FakeProvider
) -> None:
    async with serving(tmp_path, content(provider)) as served:
        session = await opened(served)
    async with serving(tmp_path, content(provider)) as served:
        async with post(served, call("ask_main", HI), session) as response:
            assert response.status == 404
        again = await opened(served)
        async with post(served, call("ask_main", HI), again) as response:
            assert (await event(response))["result"]["isError"] is False


@BOTH
@pytest.mark.parametrize(
    ("arguments", "code", "named"),
    [
        ({}, "invalid_request", "message"),
        ({"message": 1}, "invalid_request", "message"),
        ({"message": " "}, "invalid_request", "message"),
        ({**HI, "text": "?"}, "invalid_request", "text"),
        ({**HI, "session_key": "agent:nobody:x"}, "", "nobody"),
    ],
)
async def test_arguments_at_fault_are_named(
    served: Served, provider: FakeProvider, mode: str, arguments: Any, code: str, named: str
) -> None:
    async with connected(served, mode) as client:
        await client.list_tools()
        result = await client.call_tool("ask_main", arguments)
    assert result.is_error
    assert named in text_of(result)
    assert code in (result.structured_content or {})["error"]["code"]
    assert provider.requests == []


@BOTH
async def test_a_repeated_idempotency_key_gets_the_same_run(
    served: Served, provider: FakeProvider, mode: str
) -> None:
    runs = []
    async with connected(served, mode, headers={"Idempotency-Key": "k1"}) as client:
        for _ in range(2):
            result = await client.call_tool("ask_main", {**HI, "session_key": "notes"})
            assert text_of(result) == "Hello!"
            runs.append((result.structured_content or {})["run_id"])
        other = await client.call_tool("ask_main", {"message": "else", "session_key": "notes"})
    assert runs[0] == runs[1]
    assert len(provider.requests) == 1
    assert (other.structured_content or {})["error"]["code"] == "idempotency_key_reused"


async def test_headers_that_no_call_can_follow_are_named(served: Served) -> None:
    headers = {"x-opensoul-agent-id": "cook", "x-opensoul-colour": "red"}
    async with connected(served, headers=headers) as client:
        assert not (await client.call_tool("ask_cook", HI)).is_error
        refused = await client.call_tool("ask_main", HI)
    assert "x-opensoul-agent-id" in text_of(refused)
    async with post(served, INITIALIZE, headers=headers) as response:
        assert response.headers["x-opensoul-ignored"] == "x-opensoul-colour"


async def test_a_message_is_no_command_of_a_person(served: Served, provider: FakeProvider) -> None:
    async with connected(served) as client:
        assert text_of(await client.call_tool("ask_main", {"message": "/status"})) == "Hello!"
    assert said(provider.requests[0]) == ["/status"]


@BOTH
async def test_a_failure_of_the_model_is_a_result(
    served: Served, provider: FakeProvider, mode: str
) -> None:
    provider.default = fail(400)
    async with connected(served, mode) as client:
        result = await client.call_tool("ask_main", HI)
    assert result.is_error
    structured = result.structured_content or {}
    assert structured["error"]["code"].startswith("provider_")
    assert structured["run_id"]
    assert text_of(result) == structured["text"] != ""


def office_with_mcp(
    home: Path, provider: FakeProvider
) -> contextlib.AbstractAsyncContextManager[Office]:
    endpoints = {"chatCompletions": {"enabled": True}, "mcp": {"enabled": True}}
    gateway = config(provider.base_url)["gateway"] | {"http": {"endpoints": endpoints}}
    return open_office(home, provider, sections={"gateway": gateway})


@BOTH
async def test_an_answer_asks_for_an_approval_and_the_next_message_decides(
    tmp_path: Path, provider: FakeProvider, mode: str
) -> None:
    provider.will(calls(), answer("It is sent."))
    seen: list[str | None] = []

    async def progress(progress: float, total: float | None, message: str | None) -> None:
        seen.append(message)

    async with office_with_mcp(tmp_path, provider) as office:
        async with connected(office.served, mode) as client:
            asked = await client.call_tool("ask_guide", {"message": "Send it."})
            assert not asked.is_error
            assert office.courier.sent == []
            code = text_of(asked).rpartition("approve ")[2].split()[0]
            decided = await client.call_tool(
                "ask_guide", {"message": f"approve {code}"}, progress_callback=progress
            )
        assert office.courier.sent == [ARGUMENTS]
    assert text_of(decided) == "It is sent."
    runs = [(one.structured_content or {})["run_id"] for one in (asked, decided)]
    assert runs[0] == runs[1]
    assert "The tool send has finished." in "\n".join(filter(None, seen))


@pytest.mark.parametrize(
    ("action", "decision", "sent"),
    [
        ("accept", "approve", [ARGUMENTS]),
        ("accept", "deny", []),
        ("decline", None, []),
        ("cancel", None, None),
        ("fail", None, None),
    ],
)
async def test_a_person_at_the_client_decides_while_the_call_goes_on(
    tmp_path: Path, provider: FakeProvider, action: Any, decision: str | None, sent: Any
) -> None:
    provider.will(calls(), answer("It is over."))
    forms: list[Any] = []

    async def elicit(context: Any, params: Any) -> ElicitResult | ErrorData:
        forms.append(params)
        if action == "fail":
            return ErrorData(code=-1, message="No person is here.")
        return ElicitResult(action=action, content={"decision": decision} if decision else None)

    async with office_with_mcp(tmp_path, provider) as office:
        async with connected(office.served, elicitation_callback=elicit) as client:
            result = await client.call_tool("ask_guide", {"message": "Send it."})
        assert office.courier.sent == (sent or [])
    (form,) = forms
    assert "The tool send waits for your approval." in form.message
    assert "approve " not in form.message
    if sent is None:  # Nobody has decided: the answer asks.
        assert "approve " in text_of(result)
    else:
        assert text_of(result) == "I send it. \n\nIt is over."


async def test_a_form_that_is_open_does_not_matter_once_another_client_decides(
    tmp_path: Path, provider: FakeProvider
) -> None:
    provider.will(calls(), answer("It is over."))
    shown = asyncio.Event()

    async def elicit(context: Any, params: Any) -> ElicitResult:
        shown.set()
        await asyncio.Event().wait()
        raise AssertionError

    async with office_with_mcp(tmp_path, provider) as office:
        async with connected(office.served, elicitation_callback=elicit) as client:
            call_task = asyncio.create_task(client.call_tool("ask_guide", {"message": "Send it."}))
            await shown.wait()
            _, listed = await office.http("GET")
            (approval,) = listed["data"]
            status, _ = await office.http("POST", f"/{approval['id']}", decision="allow-once")
            assert status == 200
            assert text_of(await call_task).endswith("It is over.")
        assert office.courier.sent == [ARGUMENTS]


async def test_a_page_of_another_origin_is_refused(served: Served) -> None:
    for origin, status in (
        ("https://evil.example", 403),
        ("null", 403),
        (served.url, 200),
        ("vscode-file://vscode-app", 200),
    ):
        async with post(served, INITIALIZE, headers={"Origin": origin}) as response:
            assert response.status == status, origin
            if status == 403:
                assert (await response.json())["error"]["code"] == "origin_not_allowed"


async def test_an_origin_that_is_listed_is_served(tmp_path: Path, provider: FakeProvider) -> None:
    whole = content(provider)
    whole["gateway"]["http"]["cors"] = {"origins": ["https://page.example"]}
    async with serving(tmp_path, whole) as served:
        sent = {"Origin": "https://page.example"}
        async with post(served, INITIALIZE, headers=sent) as response:
            assert response.status == 200
            assert SESSION in response.headers["access-control-expose-headers"]


async def test_the_methods_that_are_allowed_are_the_ones_that_are_answered(
    served: Served,
) -> None:
    session = await opened(served)
    for method, status, allowed in (
        ("OPTIONS", 204, "DELETE, GET, POST, OPTIONS"),
        ("HEAD", 405, "DELETE, GET, POST"),
        ("PUT", 405, "DELETE, GET, POST"),
    ):
        async with served.client.request(method, "/mcp", headers=heads(session)) as response:
            assert (response.status, response.headers["allow"]) == (status, allowed)


async def test_without_a_credential_nothing_is_served(served: Served) -> None:
    for method in ("POST", "GET", "DELETE"):
        async with served.client.request(method, "/mcp", json=INITIALIZE) as response:
            assert response.status == 401
            assert response.headers["www-authenticate"] == "Bearer"


async def test_a_key_that_may_only_read_is_refused(served: Served) -> None:
    sent = {"x-opensoul-scopes": "operator.read"}
    async with post(served, INITIALIZE, headers=sent) as response:
        assert response.status == 403


async def test_it_is_off_by_default(tmp_path: Path, provider: FakeProvider) -> None:
    off = config(provider.base_url)
    async with serving(tmp_path, off) as served, post(served, INITIALIZE) as response:
        assert response.status == 404
        message = (await response.json())["error"]["message"]
    assert "gateway.http.endpoints.mcp.enabled" in message
    assert "/v1/chat/completions" in message


def test_the_package_is_not_imported_at_the_start() -> None:
    program = (
        "import sys, opensoul.app.container, opensoul.app.server.factory\n"
        "sys.exit('mcp' in sys.modules or 'mcp_types' in sys.modules)"
    )
    subprocess.run([sys.executable, "-c", program], check=True)


async def test_clients_are_notified_of_agents_that_come_and_go(
    tmp_path: Path, provider: FakeProvider
) -> None:
    async with serving(tmp_path, content(provider)) as served:
        session = await opened(served)
        async with (
            served.client.get("/mcp", headers=heads(session)) as stream,
            connected(served, STATELESS) as client,
            client.listen(tools_list_changed=True) as changes,
        ):
            more = AGENTS | {"list": [*AGENTS["list"], {"id": "new"}]}
            served.configure(content(provider, agents=more))
            async with asyncio.timeout(30):
                assert (await event(stream))["method"] == "notifications/tools/list_changed"
                await anext(aiter(changes))
            names = [tool.name for tool in (await client.list_tools()).tools]
    assert names == ["ask_main", "ask_guide", "ask_cook", "ask_new"]


async def test_a_stream_ends_with_its_key(served: Served) -> None:
    secret = await created(served, "soon", agents=["guide"])
    session = await opened(served, secret=secret)
    async with served.client.get("/mcp", headers=heads(session, secret)) as stream:
        assert stream.status == 200

        await administer(served, "keys.revoke", key="soon")
        async with asyncio.timeout(30):
            assert await event(stream) == {}


async def test_sessions_end_when_the_gateway_stops(served: Served) -> None:
    session = await opened(served)
    async with served.client.get("/mcp", headers=heads(session)) as stream:
        await served.container.lifecycle().stop()
        async with asyncio.timeout(30):
            assert await event(stream) == {}
        async with post(served, INITIALIZE) as response:
            assert response.status == 503


@BOTH
async def test_a_call_gets_its_result_while_the_gateway_stops(
    served: Served, provider: FakeProvider, mode: str
) -> None:
    gate = asyncio.Event()
    provider.will(answer("Hel", "lo!", gate=gate))
    async with connected(served, mode) as client:
        await client.list_tools()  # It checks results against the schemas.
        call_task = asyncio.create_task(client.call_tool("ask_main", HI))
        await provider.arrival()
        stopping = asyncio.create_task(served.container.lifecycle().stop())
        async with post(served, INITIALIZE) as response:
            await response.read()  # A whole exchange later, the drain has begun.
        gate.set()
        assert text_of(await call_task) == "Hello!"
        await stopping


async def test_a_session_has_one_stream(served: Served) -> None:
    session = await opened(served)
    async with served.client.get("/mcp", headers=heads(session)) as stream:
        assert stream.status == 200
        async with served.client.get("/mcp", headers=heads(session)) as second:
            assert second.status == 409


async def test_one_session_too_many_ends_the_principals_least_recently_used_one(
    served: Served,
) -> None:
    mine = await created(served, "mine", agents=["guide"])
    others = await opened(served)
    sessions = [await opened(served, secret=mine) for _ in range(200)]
    async with post(served, PING, sessions[0], secret=mine) as response:
        assert response.status == 200
    await opened(served, secret=mine)

    found = {}
    for session in sessions[:3]:
        async with post(served, PING, session, secret=mine) as response:
            found[session] = response.status
    assert list(found.values()) == [200, 404, 200]
    async with post(served, PING, others) as response:
        assert response.status == 200


async def test_a_body_that_is_too_large_is_refused(tmp_path: Path, provider: FakeProvider) -> None:
    large = call("ask_main", {"message": "x" * 2_000})
    small = content(provider, maxBodyBytes=2_000)
    async with serving(tmp_path, small) as served, post(served, large) as response:
        assert response.status == 413


async def test_the_access_log_names_the_run(
    served: Served, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.INFO, "opensoul.access"):
        async with connected(served, STATELESS) as client:
            result = await client.call_tool("ask_guide", HI)
    structured = result.structured_content or {}
    lines = [vars(one) for one in caplog.records if one.name == "opensoul.access"]
    (line,) = [line for line in lines if "run" in line]
    assert (line["run"], line["session"]) == (structured["run_id"], structured["session_key"])
    assert (line["agent"], line["outcome"]) == ("guide", "answered")
    assert not any(SECRET in str(line) for line in lines)


async def test_an_agent_of_another_gateway_asks_an_agent_of_this_one(
    served: Served, provider: FakeProvider, tmp_path: Path
) -> None:
    home = tmp_path / "other"
    home.mkdir()
    office = {"url": f"{served.url}/mcp", "headers": served.authorization}
    tools = {"allow": ["office__ask_guide"]}
    other = config(provider.base_url, mcp={"servers": {"office": office}}, tools=tools)
    provider.will(
        calling(("office__ask_guide", {"message": "Which way?"})),
        answer("To the left."),
        answer("The guide says: left."),
    )
    async with serving(home, other) as asker:
        await asker.container.mcp().probe("office")
        assert await asker.text() == "The guide says: left."
    assert said(provider.requests[1]) == ["Which way?"]
    assert "To the left." in results(provider.requests[2])[0]


async def test_the_program_in_the_documentation(
    served: Served, monkeypatch: pytest.MonkeyPatch
) -> None:
    page = Path(__file__).parents[2].joinpath("docs", "mcp-server.md").read_text("utf-8")
    (program,) = re.findall(r"^```python\n(.*?)^```$", page, re.MULTILINE | re.DOTALL)
    program = program.replace("http://127.0.0.1:18789", served.url)
    monkeypatch.setenv("OPENSOUL_GATEWAY_TOKEN", SECRET)
    output = io.StringIO()
    with contextlib.redirect_stdout(output):
        await asyncio.to_thread(exec, program, {})
    assert output.getvalue().splitlines() == [
        "ask_main - main",
        "ask_guide - The Guide",
        "ask_cook - cook",
        "Hello!",
    ]
