"""`POST /tools/invoke`, with a real server."""

from __future__ import annotations

import asyncio
import io
import json
import logging
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from opensoul.domain.messages import ToolCall
from opensoul.domain.scopes import ALL_SCOPES
from opensoul.domain.sessions import OWNER, SessionKey
from opensoul.domain.tools import Approval, Decision
from tests.app.serving import config

from .workshop import open_workshop

UNAVAILABLE = {"ok": False, "error": {"type": "not_found", "message": "Tool not available: say"}}


async def test_a_call_answers_with_the_result_of_the_tool(tmp_path: Path) -> None:
    async with open_workshop(tmp_path, "say") as workshop:
        status, answered = await workshop.invoke("say", args={"text": "hello"})

    assert status == 200
    text = 'say {"text": "hello"}'
    assert answered == {"ok": True, "result": {"content": [{"type": "text", "text": text}]}}
    (context,) = workshop.tools.contexts
    assert str(context.session_key) == "agent:main:main"
    assert (context.principal_id, context.scopes) == ("operator", ALL_SCOPES)


@pytest.mark.parametrize(
    ("allow", "tools"),
    [
        pytest.param([], {"allow": ["*"]}, id="the list is empty by default"),
        pytest.param(["plain", "group:mcp"], {"allow": ["*"]}, id="the list names others"),
        pytest.param(["*"], {}, id="no rule allows it"),
        pytest.param(["*"], {"allow": ["*"], "deny": ["say"]}, id="a rule denies it"),
        pytest.param(["*"], {"profile": "minimal"}, id="the profile does not name it"),
    ],
)
async def test_a_tool_that_may_not_be_called_is_not_found(
    tmp_path: Path, allow: list[str], tools: dict[str, Any]
) -> None:
    async with open_workshop(tmp_path, *allow, sections={"tools": tools}) as workshop:
        assert await workshop.invoke("say") == (404, UNAVAILABLE)
        # Invalid arguments are not told apart either.
        assert await workshop.invoke("say", args={"wrong": 1}) == (404, UNAVAILABLE)
        status, unknown = await workshop.invoke("sya")

    assert (status, json.dumps(unknown)) == (404, json.dumps(UNAVAILABLE).replace("say", "sya"))
    assert workshop.tools.calls == []


@pytest.mark.parametrize(
    ("allow", "found"),
    [(["SA*"], True), (["group:plugins"], True), (["Say"], True), (["s"], False)],
)
async def test_the_list_has_patterns_and_groups(
    tmp_path: Path, allow: list[str], found: bool
) -> None:
    async with open_workshop(tmp_path, *allow) as workshop:
        status, _ = await workshop.invoke("say")

    assert status == (200 if found else 404)


async def test_the_name_of_a_tool_is_exact(tmp_path: Path) -> None:
    async with open_workshop(tmp_path, "*") as workshop:
        assert [(await workshop.invoke(name))[0] for name in ("SAY", "sa", "*", "say ")] == [
            404,
            404,
            404,
            200,
        ]


async def test_an_agents_own_rules_hold_in_its_sessions(tmp_path: Path) -> None:
    agents = {
        "list": [
            {"id": "main", "tools": {"deny": ["say"]}},
            {"id": "ops", "default": True},
        ]
    }
    async with open_workshop(tmp_path, "*", sections={"agents": agents}) as workshop:
        assert (await workshop.invoke("say"))[0] == 200
        assert (await workshop.invoke("say", sessionKey="main"))[0] == 200
        assert (await workshop.invoke("say", sessionKey="agent:ops:talk"))[0] == 200
        assert (await workshop.invoke("say", sessionKey="agent:main:main"))[0] == 404

    assert [str(one.session_key) for one in workshop.tools.contexts] == [
        "agent:ops:main",
        "agent:ops:main",
        "agent:ops:talk",
    ]


async def test_a_sub_agents_session_has_the_tools_of_sub_agents(tmp_path: Path) -> None:
    tools = {"allow": ["*"], "subagents": {"tools": {"deny": ["say"]}}}
    async with open_workshop(tmp_path, "*", sections={"tools": tools}) as workshop:
        status, _ = await workshop.invoke("say", sessionKey="agent:main:subagent:1")
        assert status == 404
        assert (await workshop.invoke("plain", sessionKey="agent:main:subagent:1"))[0] == 200


async def test_the_rules_for_the_model_that_a_session_has_chosen_hold(tmp_path: Path) -> None:
    tools = {"allow": ["*"], "byProvider": {"scripted": {"deny": ["say"]}}}
    scripted = {"api": "scripted", "models": [{"id": "echo"}]}
    own = config("http://127.0.0.1:9")["models"]["providers"]
    sections = {"tools": tools, "models": {"providers": {**own, "scripted": scripted}}}
    async with open_workshop(tmp_path, "*", sections=sections) as workshop:
        assert (await workshop.invoke("say", sessionKey="agent:main:talk"))[0] == 200
        async with workshop.connected() as peer:
            patch = {"key": "agent:main:talk", "model": "scripted/echo"}
            await peer.call("sessions.patch", patch)

        assert (await workshop.invoke("say", sessionKey="agent:main:talk"))[0] == 404
        assert (await workshop.invoke("plain", sessionKey="agent:main:talk"))[0] == 200
        assert (await workshop.invoke("say"))[0] == 200


async def test_sessions_are_read_for_the_client(tmp_path: Path) -> None:
    async with open_workshop(tmp_path, "group:sessions") as workshop:
        catalog = workshop.served.container.catalog()
        for rest, owner in (("hers", "grace"), ("his", "alan"), ("main", "")):
            key = SessionKey("guide", rest)
            await catalog.patch(key, {OWNER: owner} if owner else {}, at=1.0, new_id=rest)
        listed = {
            user: await workshop.invoke("sessions_list", user, sessionKey=key)
            for user, key in (("", "agent:guide:main"), ("grace", "agent:guide:hers"))
        }
        read = await workshop.invoke(
            "sessions_history", args={"sessionKey": "agent:guide:his"}, sessionKey="agent:guide:x"
        )
        spawned = await workshop.invoke("sessions_spawn", args={"task": "x"})

    def keys(answered: tuple[int, Any]) -> list[str]:
        (part,) = answered[1]["result"]["content"]
        return [row["sessionKey"] for row in json.loads(part["text"])["sessions"]]

    assert keys(listed["grace"]) == ["agent:guide:hers"]
    assert keys(listed[""]) == ["agent:guide:main"]
    assert (read[0], read[1]["error"]["type"]) == (400, "tool_error")
    assert spawned == (
        400,
        {
            "ok": False,
            "error": {"type": "tool_error", "message": "Only a run that goes on may do this."},
        },
    )


async def test_a_failure_is_a_tool_error(tmp_path: Path) -> None:
    async with open_workshop(tmp_path, "*") as workshop:
        status, failed = await workshop.invoke("fail")

    message = "there is no such thing"
    assert status == 400
    assert failed == {"ok": False, "error": {"type": "tool_error", "message": message}}


@pytest.mark.parametrize(
    ("arguments", "problem"),
    [({"text": 7}, "text: 7 is not of type 'string'"), ({"wrong": 1}, "'wrong' was unexpected")],
)
async def test_arguments_that_the_schema_refuses_are_not_run(
    tmp_path: Path, arguments: dict[str, Any], problem: str
) -> None:
    async with open_workshop(tmp_path, "*") as workshop:
        status, failed = await workshop.invoke("say", args=arguments)

    assert (status, failed["error"]["type"]) == (400, "tool_error")
    assert problem in failed["error"]["message"]
    assert workshop.tools.calls == []


@pytest.mark.parametrize(
    ("tool", "arguments", "passed"),
    [
        ("say", {}, {"action": "json"}),
        ("say", {"action": "own"}, {"action": "own"}),
        ("plain", {}, {}),
    ],
)
async def test_the_action_is_an_argument_where_the_tool_has_it(
    tmp_path: Path, tool: str, arguments: dict[str, str], passed: dict[str, str]
) -> None:
    async with open_workshop(tmp_path, "*") as workshop:
        await workshop.invoke(tool, action="json", args=arguments)

    assert workshop.tools.calls == [(tool, passed)]


async def test_a_tool_that_asks_is_not_run(tmp_path: Path) -> None:
    sections = {"tools": {"allow": ["*"], "ask": ["plain"]}}
    async with open_workshop(tmp_path, "*", sections=sections) as workshop:
        for tool in ("careful", "plain"):
            status, refused = await workshop.invoke(tool, args={}, confirm=True, approved=True)

            assert (status, refused["ok"], refused["requiresApproval"]) == (403, False, True)
            assert refused["error"]["type"] == "approval_required"
        pending = await workshop.served.container.approvals().book.pending()

    assert pending == ()
    assert workshop.tools.calls == []


async def test_what_was_allowed_for_always_needs_no_other_approval(tmp_path: Path) -> None:
    async with open_workshop(tmp_path, "*") as workshop:
        book = workshop.served.container.approvals().book
        call = ToolCall("c1", "careful", '{"to": "ada", "n": 1}')
        asked = Approval("a1", "run-1", "operator", call, 0.0, 2e10, agent_id="main")
        await book.add(asked)
        await book.decide("a1", Decision.ALLOW_ALWAYS, by="operator", at=1.0)
        same, again, other = [
            await workshop.invoke("careful", args=arguments, sessionKey=f"agent:{agent}:main")
            for arguments, agent in (
                ({"n": 1, "to": "ada"}, "main"),
                ({"n": 2, "to": "ada"}, "main"),
                ({"n": 1, "to": "ada"}, "guide"),
            )
        ]
        pending = await book.pending()
        await book.revoke(asked.subject)
        revoked = await workshop.invoke("careful", args={"n": 1, "to": "ada"})

    assert [one[0] for one in (same, again, other, revoked)] == [200, 403, 403, 403]
    assert workshop.tools.calls == [("careful", {"n": 1, "to": "ada"})]
    assert pending == ()


async def test_a_dry_run_checks_a_call_and_does_not_run_it(tmp_path: Path) -> None:
    async with open_workshop(tmp_path, "say") as workshop:
        answers = [
            await workshop.invoke("say", dryRun=True),
            await workshop.invoke("say", dryRun=True, args={"text": 7}),
            await workshop.invoke("plain", dryRun=True),
        ]

    assert [status for status, _ in answers] == [200, 400, 404]
    assert answers[0][1] == {"ok": True, "result": None, "dryRun": True}
    assert workshop.tools.calls == []


async def test_a_long_result_is_shortened_as_for_a_model(tmp_path: Path) -> None:
    sections = {"tools": {"allow": ["*"], "maxResultChars": 100}}
    async with open_workshop(tmp_path, "*", sections=sections) as workshop:
        _, answered = await workshop.invoke("flood")

    (part,) = answered["result"]["content"]
    assert len(part["text"]) < 200
    assert "99900 characters are left out here" in part["text"]


async def test_the_tool_is_stopped_when_the_client_leaves(tmp_path: Path) -> None:
    async with open_workshop(tmp_path, "*") as workshop:
        call = asyncio.create_task(workshop.invoke("hang"))
        await workshop.tools.hanging.wait()
        call.cancel()
        await workshop.tools.stopped.wait()
        assert (await workshop.invoke("say"))[0] == 200


async def test_the_tool_is_stopped_at_the_time_limit_of_the_agent(tmp_path: Path) -> None:
    agents = {"defaults": {"timeoutSeconds": 1}}
    async with open_workshop(tmp_path, "*", sections={"agents": agents}) as workshop:
        status, failed = await workshop.invoke("hang")
        assert workshop.tools.stopped.is_set()

    assert (status, failed["error"]["type"]) == (400, "tool_error")
    assert "stopped after 1 seconds" in failed["error"]["message"]


async def test_the_tool_is_stopped_when_the_credential_ends(tmp_path: Path) -> None:
    async with open_workshop(tmp_path, "*") as workshop:
        call = asyncio.create_task(workshop.invoke("hang"))
        await workshop.tools.hanging.wait()
        whole = json.loads(workshop.served.config_path.read_text())
        whole["gateway"]["auth"]["token"] = "another secret"
        workshop.served.configure(whole)
        status, refused = await call
        assert workshop.tools.stopped.is_set()

    assert (status, refused["error"]["code"]) == (401, "invalid_api_key")


async def test_calls_beyond_the_most_at_a_time_are_refused(tmp_path: Path) -> None:
    async with open_workshop(tmp_path, "*") as workshop:
        connector = aiohttp.TCPConnector(limit=0)
        async with aiohttp.ClientSession(workshop.served.url, connector=connector) as client:

            async def status() -> int:
                body, headers = {"tool": "hang"}, workshop.headers()
                async with client.post("/tools/invoke", json=body, headers=headers) as response:
                    return response.status

            calls = [asyncio.create_task(status()) for _ in range(17)]
            (refused,), running = await asyncio.wait(calls, return_when=asyncio.FIRST_COMPLETED)
            assert refused.result() == 503
            for call in running:
                call.cancel()
            await asyncio.wait(running)
        await workshop.tools.stopped.wait()
        assert len(workshop.tools.calls) == 16


async def test_the_tool_is_stopped_when_the_gateway_stops(tmp_path: Path) -> None:
    async with open_workshop(tmp_path, "*", grace=0) as workshop:
        call = asyncio.create_task(workshop.invoke("hang"))
        await workshop.tools.hanging.wait()
        workshop.served.container.lifecycle().begin_drain()
        answers = [await call, await workshop.invoke("say")]
        assert workshop.tools.stopped.is_set()

    assert [(status, body["error"]["code"]) for status, body in answers] == [
        (503, "shutting_down"),
        (503, "shutting_down"),
    ]
    assert len(workshop.tools.calls) == 1


@pytest.mark.parametrize(
    ("body", "message"),
    [
        ({}, "tools.invoke requires body.tool"),
        ({"tool": ""}, "tools.invoke requires body.tool"),
        ({"tool": 7}, "tools.invoke requires body.tool"),
        ({"tool": "say", "args": []}, "`args` must be a JSON object."),
        ({"tool": "say", "action": 7}, "`action` must be a string."),
        ({"tool": "say", "sessionKey": {}}, "`sessionKey` must be a string."),
        ({"tool": "say", "dryRun": "yes"}, "`dryRun` must be true or false."),
        ([], "The body must be a JSON object."),
    ],
)
async def test_an_invalid_body_is_refused(tmp_path: Path, body: Any, message: str) -> None:
    async with open_workshop(tmp_path, "*") as workshop:
        status, refused = await workshop.post(body)

    assert (status, refused["error"]["type"]) == (400, "invalid_request_error")
    assert refused["error"]["message"] == message
    assert workshop.tools.calls == []


async def test_a_body_of_more_than_two_mebibytes_is_refused(tmp_path: Path) -> None:
    headers = {"Content-Type": "application/json"}
    async with open_workshop(tmp_path, "*") as workshop:
        headers |= workshop.headers()
        statuses = []
        for size in (2_000_000, 2_100_000):
            body = io.BytesIO(json.dumps({"tool": "say", "args": {"text": "x" * size}}).encode())
            post = workshop.served.client.post("/tools/invoke", data=body, headers=headers)
            async with post as response:
                statuses.append(response.status)

    assert statuses == [200, 413]


async def test_the_method_and_the_credential_are_checked_first(tmp_path: Path) -> None:
    async with open_workshop(tmp_path, "*") as workshop:
        client = workshop.served.client
        async with client.post("/tools/invoke", data=b"{") as response:
            assert response.status == 401
        async with client.get("/tools/invoke", headers=workshop.headers()) as response:
            assert (response.status, response.headers["Allow"]) == (405, "POST")
    assert workshop.tools.calls == []


async def test_a_client_that_may_only_read_calls_nothing(tmp_path: Path) -> None:
    async with open_workshop(tmp_path, "*") as workshop:
        status, refused = await workshop.invoke("say", user="eve")

    assert (status, refused["error"]["code"]) == (403, "missing_scope")
    assert workshop.tools.calls == []


async def test_a_restricted_client_uses_its_own_agents_and_sessions(tmp_path: Path) -> None:
    async with open_workshop(tmp_path, "*") as workshop:
        catalog, hers = workshop.served.container.catalog(), SessionKey("guide", "hers")
        await catalog.patch(hers, {OWNER: "grace"}, at=1.0, new_id="s1")
        keys = ["", "agent:guide:hers", "agent:guide:new", "agent:main:main", "agent:nobody:main"]
        statuses = {
            user: [(await workshop.invoke("say", user, sessionKey=key))[0] for key in keys]
            for user in ("grace", "alan")
        }

    assert statuses == {"grace": [200, 200, 200, 404, 404], "alan": [200, 403, 200, 404, 404]}
    assert {one.agent.id for one in workshop.tools.contexts} == {"guide"}


async def test_calls_are_in_the_log_without_their_content(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "opensoul")
    async with open_workshop(tmp_path, "say", "fail") as workshop:
        await workshop.invoke("say", args={"text": "a secret"})
        await workshop.invoke("fail", user="ada")
        await workshop.invoke("plain")

    records = [one for one in caplog.records if one.name == "opensoul.domain.services.tools"]
    fields = [(vars(one)["tool"], vars(one)["principal"], vars(one)["outcome"]) for one in records]
    assert fields == [
        ("say", "operator", "done"),
        ("fail", "ada", "failed"),
        ("plain", "operator", "tool_not_found"),
    ]
    accesses = [one for one in caplog.records if one.name == "opensoul.access"]
    assert [(vars(one)["tool"], vars(one)["outcome"]) for one in accesses] == [
        ("say", "answered"),
        ("fail", "failed"),
        ("plain", "refused"),
    ]
    assert all("a secret" not in str(vars(one)) for one in caplog.records)


async def test_the_tools_of_the_workspace_can_be_called(tmp_path: Path) -> None:
    agents = {"defaults": {"workspace": str(tmp_path / "workspace")}}
    sections = {"agents": agents, "tools": {"profile": "coding"}}
    async with open_workshop(tmp_path, "write", "read", sections=sections) as workshop:
        written, _ = await workshop.invoke("write", args={"path": "a.txt", "content": "hello"})
        read, answered = await workshop.invoke("read", args={"path": "a.txt"})
        outside, _ = await workshop.invoke("read", args={"path": "../opensoul.json"})

    assert (written, read, outside) == (200, 200, 400)
    assert answered["result"]["content"] == [{"type": "text", "text": "hello"}]
