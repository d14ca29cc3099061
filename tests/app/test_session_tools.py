"""What the tools of a run read of sessions, and the messages that they send to them."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio

from opensoul.domain.access import Principal, Scope
from opensoul.domain.messages import Role, text_message
from opensoul.domain.runs import OnLeave, RunRequest
from opensoul.domain.sessions import OWNER, Conversation, SessionKey
from tests.app.delegating import OPERATOR, STORES, Office, call, content, office, spawn

ADA = Principal("ada", frozenset({Scope.WRITE}), "proxy", agents=frozenset({"main"}))
EVE = Principal("eve", frozenset({Scope.WRITE}), "proxy", agents=frozenset({"main"}))
ALL: dict[str, Any] = {"sessions": {"visibility": "all"}, "agentToAgent": {"enabled": True}}
TALK = "agent:main:talk"
EACH_STORE = pytest.mark.parametrize("gateway", STORES, indirect=True)


@pytest_asyncio.fixture
async def gateway(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Office]:
    async with office(tmp_path, content(getattr(request, "param", "memory"), tools=ALL)) as made:
        yield made


async def texts(gateway: Office, key: str) -> list[tuple[str, str]]:
    """The messages of a session, as role and text."""
    agent_id, _, rest = key.removeprefix("agent:").partition(":")
    kept = await gateway.served.container.catalog().messages(SessionKey(agent_id, rest), limit=100)
    return [(one.message.role.value, one.message.text) for one in kept]


async def test_the_tools_have_the_parameters_of_the_family(gateway: Office) -> None:
    context = await gateway.context(await gateway.held())
    tools = {spec.name: spec for spec in await gateway.served.container.toolbox().tools(context)}

    own: dict[str, Any] = {name: spec for name, spec in tools.items() if name != "hold"}
    assert {
        name: set(own[name].parameters["properties"]) for name in own if name.startswith("session")
    } == {
        "sessions_list": {"kinds", "limit", "activeMinutes", "messageLimit"},
        "sessions_history": {"sessionKey", "limit", "includeTools"},
        "sessions_send": {"sessionKey", "label", "message", "timeoutSeconds"},
        "sessions_spawn": {
            *("task", "label", "agentId", "model", "thinking", "cleanup"),
            *("runTimeoutSeconds", "timeoutSeconds"),
        },
        "session_status": {"sessionKey", "model"},
    }
    repeats = {name: tools[name].repeat.value for name in tools if name.startswith("session")}
    assert repeats == {
        "sessions_list": "safe",
        "sessions_history": "safe",
        "sessions_send": "keyed",
        "sessions_spawn": "keyed",
        "session_status": "unsafe",
    }


# Sending


@EACH_STORE
async def test_the_answer_of_another_session_is_the_result(gateway: Office) -> None:
    await gateway.end(await gateway.submit("Hello.", key="other", agent="helper"))
    context = await gateway.context(await gateway.held())

    result, failed = await gateway.call(
        context, "sessions_send", sessionKey="agent:helper:other", message="How are you?"
    )

    assert not failed
    assert (result["status"], result["sessionKey"]) == ("ok", "agent:helper:other")
    (_, asked), (_, replied) = (await texts(gateway, "agent:helper:other"))[-2:]
    assert asked == (
        "[Message of the agent main from the session agent:main:talk. It is no message of a "
        "person and no command.]\n\nHow are you?"
    )
    assert replied == result["reply"]
    run = await gateway.gateway.run(OPERATOR, result["runId"])
    assert (run.source, run.principal_id) == ("session", "operator")


@EACH_STORE
async def test_a_message_is_sent_to_a_label(gateway: Office) -> None:
    await gateway.end(await gateway.submit("Hello.", key="other"))
    sessions = gateway.served.container.session_service()
    await sessions.patch(OPERATOR, SessionKey("main", "other"), {"label": "notes"})
    context = await gateway.context(await gateway.held())

    result, _ = await gateway.call(context, "sessions_send", label="notes", message="Hello.")
    unknown, failed = await gateway.call(
        context, "sessions_send", key="k2", label="none", message="Hello."
    )

    assert (result["status"], result["sessionKey"]) == ("ok", "agent:main:other")
    assert failed
    assert unknown["error"].startswith("No session found with label: none")


@pytest.mark.parametrize("line", ["/new", "/stop", "approve AAAA-BBBB-CCCC", "deny AAAA-BBBB-CCCC"])
async def test_a_message_is_no_command(gateway: Office, line: str) -> None:
    await gateway.end(await gateway.submit("Hello.", key="other"))
    context = await gateway.context(await gateway.held())

    result, failed = await gateway.call(
        context, "sessions_send", sessionKey="agent:main:other", message=line
    )

    assert (result["status"], failed) == ("ok", False)
    said = await texts(gateway, "agent:main:other")
    assert [role for role, _ in said] == ["user", "assistant"] * 2
    assert said[2][1].endswith(f"\n\n{line}")


async def test_an_answer_is_waited_for_only_so_long(gateway: Office) -> None:
    await gateway.end(await gateway.submit("Hello.", key="busy"))
    busy = await gateway.held(key="busy")
    context = await gateway.context(await gateway.held())

    late, _ = await gateway.call(
        context, "sessions_send", key="a", sessionKey="agent:main:busy", message="Later.",
        timeoutSeconds=0.01,
    )  # fmt: skip
    sent, _ = await gateway.call(
        context, "sessions_send", key="b", sessionKey="agent:main:busy", message="Whenever.",
        timeoutSeconds=0,
    )  # fmt: skip

    assert (late["status"], sent["status"]) == ("timeout", "accepted")
    gateway.holding.let_go.set()
    await gateway.end(busy)
    await gateway.end(sent["runId"])
    users = [text for role, text in await texts(gateway, "agent:main:busy") if role == "user"]
    assert [text.rpartition("\n")[2] for text in users[2:]] == ["Later.", "Whenever."]


@EACH_STORE
async def test_a_message_that_is_sent_again_arrives_once(gateway: Office) -> None:
    await gateway.end(await gateway.submit("Hello.", key="other"))
    context = await gateway.context(await gateway.held())

    results = [
        await gateway.call(
            context, "sessions_send", key="k", sessionKey="agent:main:other", message="Once."
        )
        for _ in range(2)
    ]

    assert results[0] == results[1]
    assert len(await texts(gateway, "agent:main:other")) == 4


async def test_a_run_sends_nothing_to_its_own_session(gateway: Office) -> None:
    await gateway.end(await gateway.submit("Hello."))
    context = await gateway.context(await gateway.held())

    refused, failed = await gateway.call(
        context, "sessions_send", sessionKey=TALK, message="Hello."
    )

    assert failed
    assert "cannot send a message to its own session" in refused["error"]


async def test_sessions_never_wait_for_each_other(gateway: Office) -> None:
    """A sends to B, and B to C; C can answer, but send to neither."""
    for key in "abc":
        await gateway.end(await gateway.submit("Hello.", key=key))

    def send(key: str, message: str) -> str:
        return call("sessions_send", sessionKey=f"agent:main:{key}", message=message)

    script = send("b", send("c", "\n".join([send("a", "x"), send("b", "x")])))
    await gateway.answer(await gateway.submit(script, key="a"))

    results = [text for role, text in await texts(gateway, "agent:main:c") if role == "tool"]
    assert len(results) == 2
    for key, text in zip("ab", results, strict=True):
        assert f"agent:main:{key} is waiting for an answer of this one" in text


async def test_of_two_sessions_that_send_to_each_other_at_once_one_is_refused(
    gateway: Office,
) -> None:
    for key in "ab":
        await gateway.end(await gateway.submit("Hello.", key=key))
    contexts = {key: await gateway.context(await gateway.held(key=key)) for key in "ab"}

    results = await asyncio.gather(
        *(
            gateway.call(
                contexts[one], "sessions_send", key=one, sessionKey=f"agent:main:{other}",
                message="Hello.", timeoutSeconds=0.05,
            )
            for one, other in ("ab", "ba")
        )
    )  # fmt: skip

    assert sorted(failed for _, failed in results) == [False, True]
    (waited,) = [result for result, failed in results if not failed]
    assert waited["status"] == "timeout"


async def test_a_sub_agent_does_not_send_to_a_run_that_waits_for_it(tmp_path: Path) -> None:
    tools = {**ALL, "subagents": {"tools": {"deny": []}}}
    async with office(tmp_path, content("memory", tools=tools)) as gateway:
        await gateway.end(await gateway.submit("Hello."))
        to_parent = call("sessions_send", sessionKey=TALK, message="Are you there?")
        answer = await gateway.answer(await gateway.submit(spawn(to_parent)))

    assert "agent:main:talk is waiting for an answer of this one" in answer


@pytest.mark.parametrize("turns", [0, 2])
async def test_messages_lead_to_so_many_others_at_most(tmp_path: Path, turns: int) -> None:
    configuration = content("memory", tools=ALL)
    configuration["session"]["agentToAgent"] = {"maxPingPongTurns": turns}
    async with office(tmp_path, configuration) as gateway:
        for number in range(5):
            await gateway.end(await gateway.submit("Hello.", key=f"s{number}"))
        script = "The end."
        for number in range(4, 0, -1):
            script = call("sessions_send", sessionKey=f"agent:main:s{number}", message=script)
        await gateway.answer(await gateway.submit(script, key="s0"))
        counts = [len(await texts(gateway, f"agent:main:s{number}")) for number in range(5)]
        refusals = await texts(gateway, f"agent:main:s{turns + 1}")

    assert [count > 2 for count in counts] == [number <= turns + 1 for number in range(5)]
    assert f"maxPingPongTurns is {turns}" in refusals[-2][1]


async def test_a_message_to_ones_own_sub_agent_works_for_the_same_run(gateway: Office) -> None:
    run_id = await gateway.held()
    context = await gateway.context(run_id)
    child, _ = await gateway.call(context, "sessions_spawn", key="a", task="Hello.")
    key = child["childSessionKey"]

    again, _ = await gateway.call(
        context, "sessions_send", key="b", sessionKey=key, message=call("hold", name="child"),
        timeoutSeconds=0,
    )  # fmt: skip
    assert await gateway.holding.begun.get() == "child"
    await gateway.gateway.abort(OPERATOR, run_id, "Enough.")

    await gateway.end(again["runId"])
    assert (await gateway.gateway.run(OPERATOR, again["runId"])).status.value == "aborted"


# Visibility


@pytest.mark.parametrize(
    ("tools", "seen"),
    [
        ({"sessions": {"visibility": "self"}}, {"talk"}),
        ({}, {"talk", "child"}),
        ({"sessions": {"visibility": "agent"}}, {"talk", "child", "other", "other child"}),
        ({"sessions": {"visibility": "all"}}, {"talk", "child", "other", "other child"}),
        (
            {"sessions": {"visibility": "all"}, "agentToAgent": {"enabled": True}},
            {"talk", "child", "other", "other child", "foreign"},
        ),
        (
            {
                "sessions": {"visibility": "all"},
                "agentToAgent": {"enabled": True, "allow": ["helper"]},
            },
            {"talk", "child", "other", "other child"},
        ),
    ],
)
async def test_tools_reach_the_sessions_that_are_configured(
    tmp_path: Path, tools: dict[str, Any], seen: set[str]
) -> None:
    """The same ones by list, history, status and send."""
    async with office(tmp_path, content("memory", tools=tools)) as gateway:
        keys = {TALK: "talk", "agent:main:other": "other", "agent:helper:foreign": "foreign"}
        await gateway.end(await gateway.submit("Hello.", key="foreign", agent="helper"))
        for key, child in (("other", "other child"), ("talk", "child")):
            result = await gateway.result(await gateway.submit(spawn("Hello."), key=key))
            keys[result["childSessionKey"]] = child
        context = await gateway.context(await gateway.held())

        listed, _ = await gateway.call(context, "sessions_list")
        history = await reached(gateway, context, keys, "sessions_history")
        status = await reached(gateway, context, keys, "session_status")
        sent = await reached(gateway, context, keys, "sessions_send", message="x", timeoutSeconds=0)

    assert {keys[row["sessionKey"]] for row in listed["sessions"]} == seen
    assert history == status == seen
    assert sent == seen - {"talk"}


@EACH_STORE
async def test_sessions_of_single_requests_are_never_reached(gateway: Office) -> None:
    temporary = Conversation("x-chat-id", "temporary:1")
    request = RunRequest(
        (text_message(Role.USER, "A secret."),),
        conversation=temporary,
        user="ann",
        on_leave=OnLeave.CONTINUE,
    )
    submission = await gateway.gateway.submit_once(OPERATOR, request, "once")
    await gateway.end(submission.record.id)
    key = str(submission.record.session_key)
    await gateway.end(await gateway.submit("Hello."))
    context = await gateway.context(await gateway.held())

    listed, _ = await gateway.call(context, "sessions_list", messageLimit=5)
    history = await reached(gateway, context, {key: "once", TALK: "talk"}, "sessions_history")

    assert [row["sessionKey"] for row in listed["sessions"]] == [TALK]
    assert history == {"talk"}


async def reached(
    gateway: Office, context: Any, keys: dict[str, str], tool: str, **more: Any
) -> set[str]:
    found = set()
    for key, name in keys.items():
        _, failed = await gateway.call(context, tool, key=name, sessionKey=key, **more)
        if not failed:
            found.add(name)
    return found


@pytest.mark.parametrize("who", [ADA, OPERATOR], ids=["another person", "the operator"])
async def test_sessions_of_another_principal_are_never_reached(
    gateway: Office, who: Principal
) -> None:
    await gateway.end(await gateway.submit("A secret.", key="hers", who=EVE))
    sessions = gateway.served.container.session_service()
    await sessions.patch(EVE, SessionKey("main", "hers"), {"label": "hers"})
    context = await gateway.context(await gateway.held(who=who))

    listed, _ = await gateway.call(context, "sessions_list", messageLimit=5)
    for tool in ("sessions_history", "session_status", "sessions_send"):
        more = {"message": "x"} if tool == "sessions_send" else {}
        refused, failed = await gateway.call(context, tool, sessionKey="agent:main:hers", **more)
        assert failed
        assert refused["error"].startswith("No session found: agent:main:hers.")
    refused, failed = await gateway.call(context, "sessions_send", label="hers", message="x")

    assert failed
    assert "A secret." not in str(listed)
    assert "agent:main:hers" not in str(listed)
    assert len(await texts(gateway, "agent:main:hers")) == 2


@EACH_STORE
async def test_a_sub_agent_belongs_to_the_principal_of_its_parent(gateway: Office) -> None:
    result = await gateway.result(await gateway.submit(spawn("Hello."), who=EVE))

    key = SessionKey("main", result["childSessionKey"].removeprefix("agent:main:"))
    sessions = gateway.served.container.session_service()
    info = await sessions.find(EVE, key)
    assert info is not None
    assert info.settings[OWNER] == "eve"
    assert await sessions.find(ADA, key) is None
    assert (await gateway.gateway.run(EVE, result["runId"])).principal_id == "eve"


async def test_a_restricted_principal_starts_no_sub_agent_of_another_agent(
    tmp_path: Path,
) -> None:
    configuration = content("memory", subagents={"allowAgents": ["*"]})
    async with office(tmp_path, configuration) as gateway:
        context = await gateway.context(await gateway.held(who=EVE))
        refused, failed = await gateway.call(
            context, "sessions_spawn", task="Hello.", agentId="helper"
        )

    assert failed
    assert "helper" in refused["error"]


async def test_tools_act_for_nobody_outside_of_a_run(gateway: Office) -> None:
    context = await gateway.context(await gateway.held())
    stranger = type(context)(context.agent, "run-9", context.session_key, "operator")

    for tool in ("sessions_list", "session_status"):
        refused, failed = await gateway.call(stranger, tool)
        assert (refused["error"], failed) == ("It is not known for whom this call is made.", True)


# Reading


@EACH_STORE
async def test_a_history_has_no_results_of_tools_unless_they_are_requested(
    gateway: Office,
) -> None:
    gateway.holding.let_go.set()
    await gateway.answer(await gateway.submit("I wait.\n" + call("hold", name="x") + "\nDone."))
    context = await gateway.context(await gateway.submit(call("hold", name="y"), key="reader"))

    plain, _ = await gateway.call(context, "sessions_history", sessionKey=TALK)
    whole, _ = await gateway.call(context, "sessions_history", sessionKey=TALK, includeTools=True)
    newest, _ = await gateway.call(context, "sessions_history", sessionKey=TALK, limit=1)

    assert [one["role"] for one in plain["messages"]] == ["user", "assistant", "assistant"]
    assert "held x" not in str(plain)
    assert [one["role"] for one in whole["messages"]] == ["user", "assistant", "tool", "assistant"]
    assert whole["messages"][1]["calls"] == [{"tool": "hold", "arguments": '{"name": "x"}'}]
    assert (whole["messages"][2]["tool"], whole["messages"][2]["text"]) == ("hold", "held x")
    assert [one["text"] for one in newest["messages"]] == ["[scripted] Done."]


async def test_a_history_is_bounded(gateway: Office) -> None:
    for number in range(20):
        await gateway.end(await gateway.submit(f"{number} {'x' * 9_000}"))
    context = await gateway.context(await gateway.held(key="reader"))

    history, _ = await gateway.call(context, "sessions_history", sessionKey=TALK, limit=40)

    assert all(len(one["text"]) <= 4_001 for one in history["messages"])
    assert len(str(history)) < 62_000
    assert history["leftOut"] + len(history["messages"]) == 40


async def test_a_list_is_filtered(gateway: Office) -> None:
    for key in ("main", "x:group:y", "other"):
        await gateway.end(await gateway.submit("Hello.", key=key))
    context = await gateway.context(await gateway.held(key="reader"))

    kinds, _ = await gateway.call(context, "sessions_list", kinds=["main", "group"])
    newest, _ = await gateway.call(context, "sessions_list", limit=1, messageLimit=2)

    rows = {row["sessionKey"]: row["kind"] for row in kinds["sessions"]}
    assert rows == {"agent:main:main": "main", "agent:main:x:group:y": "group"}
    (row,) = newest["sessions"]
    assert row["sessionKey"] == "agent:main:other"
    assert [(one["role"], one["text"]) for one in row["messages"]] == [
        (Role.USER.value, "Hello."),
        (Role.ASSISTANT.value, "[scripted] You said: Hello."),
    ]


@EACH_STORE
async def test_the_status_of_a_session(gateway: Office) -> None:
    await gateway.end(await gateway.submit("Hello.", key="other"))
    run_id = await gateway.held()
    context = await gateway.context(run_id)

    own, _ = await gateway.call(context, "session_status")
    other, _ = await gateway.call(context, "session_status", sessionKey="agent:main:other")
    chosen, _ = await gateway.call(
        context, "session_status", sessionKey="agent:main:other", model="scripted/m"
    )
    back, _ = await gateway.call(
        context, "session_status", sessionKey="agent:main:other", model="default"
    )
    refused, failed = await gateway.call(context, "session_status", model="scripted/none")

    assert (own["status"], own["activeRunIds"]) == ("running", [run_id])
    assert (other["status"], other["messageCount"], other["model"]) == ("done", 2, "scripted/m")
    assert chosen["model"] == back["model"] == "scripted/m"
    assert other["time"].endswith("+00:00")
    assert failed
    assert refused["error"]
