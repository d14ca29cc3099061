"""`tools.catalog`, `tools.effective` and `tools.invoke` on the control plane."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from dependency_injector.providers import Object

from tests.approvals.office import Clock
from tests.control.client import Peer, Refused

from .workshop import open_workshop

READ = ["operator.read"]


def named(groups: Any) -> dict[str, list[str]]:
    return {group["id"]: [tool["id"] for tool in group["tools"]] for group in groups}


async def refused(peer: Peer, method: str, **params: Any) -> Any:
    """The details of the error of that request."""
    with pytest.raises(Refused) as caught:
        await peer.call(method, params)
    return caught.value.error["details"]


async def test_the_catalog_has_every_tool_with_the_rule_that_decided(tmp_path: Path) -> None:
    tools = {"profile": "coding", "alsoAllow": ["say", "careful"], "deny": ["exec"]}
    async with (
        open_workshop(tmp_path, sections={"tools": tools}) as workshop,
        workshop.connected(scopes=READ) as peer,
    ):
        catalog = await peer.call("tools.catalog", {})
        own = await peer.call("tools.catalog", {"agentId": "guide", "includePlugins": False})

    assert (catalog["agentId"], own["agentId"]) == ("main", "guide")
    assert [one["id"] for one in catalog["profiles"]] == ["minimal", "coding", "messaging", "full"]
    files = ["read", "write", "edit", "list", "search"]
    assert named(catalog["groups"])["fs"] == files
    assert named(catalog["groups"])["courier"][0] == "say"
    assert "courier" not in named(own["groups"])
    groups = {group["id"]: group for group in catalog["groups"]}
    assert (groups["fs"]["label"], groups["fs"]["source"]) == ("Files", "core")
    assert groups["courier"]["source"] == "plugin"
    ruled = {
        tool["id"]: (tool["verdict"], tool["rule"], tool["defaultProfiles"])
        for group in catalog["groups"]
        for tool in group["tools"]
    }
    assert ruled["read"] == ("allowed", "tools.profile: coding", ["coding", "full"])
    # The connection has the scope operator.read alone.
    assert ruled["write"] == ("denied", "missing scope: operator.write", ["coding", "full"])
    assert ruled["exec"] == ("denied", "tools.deny: exec", ["coding", "full"])
    assert ruled["say"] == ("allowed", "tools.alsoAllow: say", ["full"])
    assert ruled["careful"] == ("ask", "the tool itself requires approval", ["full"])


async def test_the_tools_of_a_session_are_those_that_it_may_use(tmp_path: Path) -> None:
    tools = {"profile": "minimal", "alsoAllow": ["say", "write_it", "careful"]}
    subagents = {"subagents": {"tools": {"deny": ["say"]}}}
    async with (
        open_workshop(tmp_path, sections={"tools": tools | subagents}) as workshop,
        workshop.connected() as peer,
        workshop.connected(scopes=READ) as reader,
    ):
        effective = await peer.call("tools.effective", {"sessionKey": "main"})
        read = await reader.call("tools.effective", {"sessionKey": "agent:main:main"})
        sub = await peer.call("tools.effective", {"sessionKey": "agent:main:subagent:x"})

    assert (effective["agentId"], effective["profile"]) == ("main", "minimal")
    assert named(effective["groups"])["courier"] == ["say", "careful", "write_it"]
    assert "fs" not in named(effective["groups"])
    say, careful, _ = effective["groups"][-1]["tools"]
    assert say == {
        "id": "say",
        "label": "say",
        "description": "Says the arguments.",
        "rawDescription": "Says the arguments.",
        "source": "plugin",
        "requiresApproval": False,
    }
    assert careful["requiresApproval"]
    assert named(read["groups"])["courier"] == ["say", "careful"]
    assert named(sub["groups"])["courier"] == ["careful", "write_it"]


async def test_without_rules_no_tool_is_in_effect(tmp_path: Path) -> None:
    async with (
        open_workshop(tmp_path, "*", sections={"tools": {}}) as workshop,
        workshop.connected() as peer,
    ):
        effective = await peer.call("tools.effective", {"sessionKey": "main"})

    assert effective == {"agentId": "main", "profile": "none", "groups": []}


NEEDS_APPROVAL = "A call of careful needs an approval, which only a run can wait for."


@pytest.mark.parametrize(
    ("tool", "params", "answered"),
    [
        (
            "say",
            {"args": {"text": "x"}},
            {"ok": True, "output": {"content": [{"type": "text", "text": 'say {"text": "x"}'}]}},
        ),
        ("fail", {}, {"error": {"code": "tool_error", "message": "there is no such thing"}}),
        (
            "careful",
            {"confirm": True},
            {
                "requiresApproval": True,
                "error": {"code": "approval_required", "message": NEEDS_APPROVAL},
            },
        ),
        ("plain", {}, {"error": {"code": "not_found", "message": "Tool not available: plain"}}),
        ("none", {}, {"error": {"code": "not_found", "message": "Tool not available: none"}}),
    ],
)
async def test_a_call_answers_as_over_http(
    tmp_path: Path, tool: str, params: dict[str, Any], answered: dict[str, Any]
) -> None:
    async with (
        open_workshop(tmp_path, "say", "fail", "careful") as workshop,
        workshop.connected(scopes=["operator.write"]) as peer,
    ):
        payload = await peer.call("tools.invoke", {"name": tool, **params})

    assert payload == {"ok": False, "toolName": tool} | answered


async def test_a_call_needs_the_scope_to_write(tmp_path: Path) -> None:
    async with open_workshop(tmp_path, "*") as workshop, workshop.connected(scopes=READ) as peer:
        details = await refused(peer, "tools.invoke", name="say")

    assert details["missingScope"] == "operator.write"
    assert workshop.tools.calls == []


async def test_the_tool_is_stopped_when_the_connection_ends(tmp_path: Path) -> None:
    async with open_workshop(tmp_path, "*") as workshop:
        async with workshop.connected() as peer:
            peer.send("tools.invoke", {"name": "hang"})
            await workshop.tools.hanging.wait()
        await workshop.tools.stopped.wait()


async def test_a_restricted_client_sees_its_own_agents(tmp_path: Path) -> None:
    async with open_workshop(tmp_path, "*") as workshop, workshop.connected("grace") as grace:
        catalog = await grace.call("tools.catalog", {})
        details = await refused(grace, "tools.catalog", agentId="main")
        called = await grace.call("tools.invoke", {"name": "say"})

    assert (catalog["agentId"], called["ok"]) == ("guide", True)
    assert details["code"] == "UNKNOWN_AGENT_ID"


async def test_a_repeated_call_gets_the_result_of_the_first(tmp_path: Path) -> None:
    once = {"name": "say", "args": {"text": "x"}, "idempotencyKey": "k"}
    async with open_workshop(tmp_path, "*") as workshop, workshop.connected() as peer:
        first = await peer.call("tools.invoke", once)
        assert await peer.call("tools.invoke", once) == first
        assert len(workshop.tools.calls) == 1
        details = await refused(peer, "tools.invoke", **once | {"args": {"text": "y"}})
        assert details["code"] == "idempotency_key_reused"
        async with workshop.connected("ada") as ada:
            await ada.call("tools.invoke", once)
        await peer.call("tools.invoke", {"name": "say"})

    assert len(workshop.tools.calls) == 3
    assert workshop.tools.keys[:2] == ["operator:k", "ada:k"]


async def test_a_key_is_forgotten_after_five_minutes(tmp_path: Path) -> None:
    once, clock = {"name": "say", "idempotencyKey": "k"}, Clock()
    monotonic = Object(clock)
    async with (
        open_workshop(tmp_path, "*", monotonic=monotonic) as workshop,
        workshop.connected() as peer,
    ):
        made = []
        for ahead in (0.0, 299.0, 302.0):
            clock.ahead = ahead
            await peer.call("tools.invoke", once)
            made.append(len(workshop.tools.calls))

    assert made == [1, 1, 2]


async def test_a_call_that_was_stopped_is_not_made_again_under_its_key(tmp_path: Path) -> None:
    once = {"name": "hang", "idempotencyKey": "k"}
    async with open_workshop(tmp_path, "*") as workshop, workshop.connected() as other:
        async with workshop.connected() as peer:
            peer.send("tools.invoke", once)
            await workshop.tools.hanging.wait()
            waiting = other.send("tools.invoke", once)
        await workshop.tools.stopped.wait()
        answers = [await other.answer(waiting), await other.call("tools.invoke", once)]

    assert len(workshop.tools.calls) == 1
    for answer in answers:
        assert answer["error"]["code"] == "tool_error"
        assert "it is not known what took effect" in answer["error"]["message"]


async def test_a_refused_call_does_not_use_up_its_key(tmp_path: Path) -> None:
    once = {"name": "say", "idempotencyKey": "k"}
    async with open_workshop(tmp_path) as workshop, workshop.connected() as peer:
        assert not (await peer.call("tools.invoke", once))["ok"]
        whole = json.loads(workshop.served.config_path.read_text())
        whole["gateway"]["tools"]["invoke"]["allow"] = ["say"]
        workshop.served.configure(whole)
        answered = {"ok": False}
        while not answered["ok"]:
            answered = await peer.call("tools.invoke", once)

    assert len(workshop.tools.calls) == 1
