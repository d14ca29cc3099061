"""Commands in messages, through each transport of a real Gateway."""

from __future__ import annotations

import asyncio
import json
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable, Collection, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio

from opensoul.app.cli.root import run
from opensoul.domain.runs import RunQuery
from opensoul.domain.sessions import SessionKey
from tests.app.serving import SECRET
from tests.approvals.office import Office, open_office
from tests.control.client import Peer, Refused
from tests.control.test_family_chat import PICTURE
from tests.fakes.behaviours import answer, hang_after
from tests.fakes.provider import FakeProvider

TALK = "agent:guide:talk"
KEY = {"X-OpenSoul-Session-Key": TALK}
SECTIONS: dict[str, Any] = {
    "agents": {
        "defaults": {"model": {"primary": "fake/m"}, "maxConcurrent": 1},
        "list": [{"id": "main"}, {"id": "guide", "name": "The Guide"}],
    }
}


@dataclass
class Talk:
    """One session of the agent `guide`, through each transport."""

    office: Office
    peer: Peer
    capsys: pytest.CaptureFixture[str]
    payloads: list[Any] = field(default_factory=list)
    """What the transports with a control connection have returned."""

    async def by_json(self, text: str) -> tuple[str, str]:
        said = await self.office.said(text, headers=KEY)
        assert said.status == 200, said
        return said.text, said.stop

    async def by_sse(self, text: str) -> tuple[str, str]:
        said = await self.office.said(text, headers=KEY, stream=True)
        return said.text, said.stop

    async def by_chat_send(self, text: str) -> tuple[str, str]:
        run_id = uuid.uuid4().hex
        asked = {"sessionKey": TALK, "message": text, "idempotencyKey": run_id}
        self.payloads.append(await self.peer.call("chat.send", asked))
        payload = (await self.peer.event("chat", runId=run_id, state="final"))["payload"]
        return payload["message"]["content"][0]["text"], payload["stopReason"]

    async def by_agent(self, text: str) -> tuple[str, str]:
        run_id = uuid.uuid4().hex
        asked = {"sessionKey": TALK, "message": text, "idempotencyKey": run_id}
        request = self.peer.send("agent", asked)
        assert (await self.peer.answer(request))["status"] == "accepted"
        return self._ended(await self.peer.answer(request))

    async def by_command(self, text: str) -> tuple[str, str]:
        """`opensoul agent`, in this process."""
        url = self.office.served.url.replace("http", "ws", 1)
        options = ("--session-key", TALK, "--url", url, "--token", SECRET, "--json")
        self.capsys.readouterr()
        assert await asyncio.to_thread(run, ("agent", "-m", text, *options)) == 0
        return self._ended(json.loads(self.capsys.readouterr().out))

    def _ended(self, payload: Mapping[str, Any]) -> tuple[str, str]:
        self.payloads.append(payload)
        (said,) = payload["result"]["payloads"]
        return said["text"], payload["result"]["meta"]["stopReason"]

    async def messages(self) -> list[str]:
        """The run ids of the stored messages, oldest first."""
        catalog = self.office.served.container.catalog()
        kept = await catalog.messages(SessionKey("guide", "talk"), limit=100)
        return [one.run_id for one in kept]

    async def working(self) -> str:
        """Begin a run of the session that works until it is stopped; returns its id."""
        self.office.provider.will(hang_after("Hel"))
        run_id = uuid.uuid4().hex
        asked = {"sessionKey": TALK, "message": "work", "idempotencyKey": run_id}
        await self.peer.call("chat.send", asked)
        await self.peer.event("chat", runId=run_id, state="delta")
        return run_id


Say = Callable[[str], Awaitable[tuple[str, str]]]
TRANSPORTS = ["by_json", "by_sse", "by_chat_send", "by_agent", "by_command"]


@pytest_asyncio.fixture
async def provider() -> AsyncIterator[FakeProvider]:
    async with FakeProvider(answer("Hel", "lo!")) as provider:
        yield provider


@pytest_asyncio.fixture
async def talk(
    tmp_path: Path, provider: FakeProvider, capsys: pytest.CaptureFixture[str]
) -> AsyncIterator[Talk]:
    async with (
        open_office(tmp_path, provider, sections=SECTIONS) as office,
        office.connected() as peer,
    ):
        yield Talk(office, peer, capsys)


@pytest.fixture(params=TRANSPORTS)
def say(talk: Talk, request: pytest.FixtureRequest) -> Say:
    said: Say = getattr(talk, request.param)
    return said


def tokens(payload: Mapping[str, Any]) -> Collection[int]:
    """The usage in the last response to `agent`."""
    meta = payload.get("result", {}).get("meta", {})
    used: Mapping[str, int] = meta.get("agentMeta", {}).get("usage", {})
    return used.values()


ANSWERS = {
    "/help": ["/model [provider/model]: ", "/stop: ", "Any other message is for the agent."],
    "/status": [
        "Agent: guide (The Guide)",
        f"Session: {TALK}",
        "Model: fake/m",
        "Thinking: default",
        "Messages: 2; tokens: ",
        "Runs at work: 0",
        "Pending approvals: none",
    ],
    "/tools": ["send (calls may wait for approval): Sends something."],
    "/model": ["Model: fake/m", "Choose with /model <provider/model>, or /model default: fake/m"],
    "/model nothing/here": ["model not allowed: nothing/here"],
    "/model fake/m": ["Model: fake/m"],
    "/think high": ["Thinking: high"],
    "/think": ["Thinking: high"],
    "/think sideways": ["invalid thinkingLevel (use off|minimal|low|medium|high|xhigh)"],
    "/think default": ["Thinking: default"],
    "/compact": ["Nothing was compacted: There is too little to compact."],
    "/stop": ["No run of this session is going on."],
}


async def test_every_command_is_answered_without_the_model_and_leaves_no_message(
    talk: Talk, say: Say
) -> None:
    await say("hi")
    stored = await talk.messages()

    for command, lines in ANSWERS.items():
        text, stop = await say(command)
        for line in lines:
            assert line in text, command
        assert stop == "stop"

    assert await talk.messages() == stored
    assert len(talk.office.provider.requests) == 1
    assert not any(used for payload in talk.payloads[1:] for used in tokens(payload))
    for command in ("/new", "/reset"):
        assert await say(command) == (
            "The session starts over. The old transcript is kept.",
            "stop",
        )
        assert await talk.messages() == []
        await say("hi")
    last = talk.office.provider.requests[-1].json["messages"]
    assert [message["content"] for message in last if message["role"] != "system"] == ["hi"]


async def test_commands_act_at_once_while_a_run_works(talk: Talk, say: Say) -> None:
    run_id = await talk.working()

    assert "Runs at work: 1" in (await say("/status"))[0]
    assert (await say("/think low"))[0] == "Thinking: low"
    assert "/stop: " in (await say("/help"))[0]
    assert (await say("/stop"))[0] == "The run was stopped."

    await talk.peer.call("agent.wait", {"runId": run_id})
    assert (await talk.peer.call("runs.get", {"runId": run_id}))["status"] == "aborted"
    assert "Runs at work: 0" in (await say("/status"))[0]
    assert await talk.messages() == []


async def test_the_model_writes_a_summary_with_the_instructions_of_the_person(
    talk: Talk, say: Say
) -> None:
    provider = talk.office.provider
    for number in range(4):
        await say(f"{number} " + "word " * 800)
    stored = await talk.messages()
    provider.will(answer("Words were said, and Ada was named."), answer("Hello!"))

    text, stop = await say("/compact keep the names")

    assert text.startswith("Compacted: about ")
    assert stop == "stop"
    assert "keep the names" in json.dumps(provider.requests[-1].json)
    assert await talk.messages() == stored
    assert "Compactions: 1" in (await say("/status"))[0]
    await say("And now?")
    request = json.dumps(provider.requests[-1].json)
    assert "Ada was named" in request
    assert '"0 word' not in request


async def test_starting_over_stops_the_run_that_works(talk: Talk, say: Say) -> None:
    await say("hi")
    run_id = await talk.working()

    text, _ = await say("/new")

    assert text == "The session starts over. The old transcript is kept."
    assert (await talk.peer.call("runs.get", {"runId": run_id}))["status"] == "aborted"
    assert await talk.messages() == []


async def test_the_answer_of_a_command_is_the_run_of_any_answer(talk: Talk) -> None:
    await talk.by_json("/help")
    run_events = talk.office.served.container.run_events()
    (record,) = (await run_events.list(RunQuery())).runs

    batches = [batch async for batch in run_events.follow(record.id)]

    events = [event for batch in batches for event in batch.events]
    assert [type(event).__name__ for event in events] == ["Started", "TextDelta", "Finished"]
    assert (str(record.session_key), record.status.value) == (TALK, "finished")
    body = {"model": "opensoul:guide", "messages": [{"role": "user", "content": "/help"}]}
    async with talk.office.served.ask(KEY, **body) as response:
        usage = (await response.json())["usage"]
    assert (usage["prompt_tokens"], usage["completion_tokens"], usage["total_tokens"]) == (0, 0, 0)


async def test_chat_send_answers_a_stop_with_the_runs_that_it_stops(talk: Talk) -> None:
    run_id = await talk.working()
    await talk.by_chat_send("/stop")
    await talk.by_chat_send("/stop")
    assert talk.payloads == [
        {"ok": True, "aborted": True, "runIds": [run_id]},
        {"ok": True, "aborted": False, "runIds": []},
    ]


STATELESS = {
    "/new": "/new needs a session",
    "/reset": "/reset needs a session",
    "/stop": "/stop needs a session",
    "/compact": "/compact needs a session",
    "/think high": "/think needs a session",
    "/model fake/m": "/model needs a session",
    "/status": "Session: none.",
}
HINT = "To name one: send the header x-opensoul-session-key, or the field `user`."


async def test_a_request_without_a_session_is_told_how_to_name_one(talk: Talk) -> None:
    for command, line in STATELESS.items():
        text = (await talk.office.said(command)).text
        assert line in text
        assert HINT in text
    assert "send" in (await talk.office.said("/tools")).text
    assert "Model: fake/m\n" in (await talk.office.said("/model")).text
    assert (await talk.office.said("/think")).text == "Thinking: default"
    assert "/new: " in (await talk.office.said("/help")).text
    assert talk.office.provider.requests == []
    assert (await talk.peer.call("sessions.list"))["sessions"] == []
    by_user = await talk.office.said("/think high", user="ann")
    assert by_user.text == "Thinking: high"


async def test_other_fields_of_a_request_do_not_disturb_a_command(talk: Talk) -> None:
    schema = {"name": "answer", "schema": {"type": "object"}}
    tool = {"type": "function", "function": {"name": "look", "parameters": {"type": "object"}}}
    said = await talk.office.said(
        "/status",
        headers=KEY,
        response_format={"type": "json_schema", "json_schema": schema},
        max_tokens=1,
        stop=["Agent"],
        tools=[tool],
        tool_choice="required",
        reasoning_effort="high",
    )
    assert said.text.startswith("Agent: guide")
    assert said.stop == "stop"


ORDINARY = ["/newer", "/etc/passwd is what?", "/status please", "/new and hello", "/unknown", "//"]


async def test_other_messages_with_a_slash_are_said_to_the_model(talk: Talk, say: Say) -> None:
    for message in ORDINARY:
        assert (await say(message))[0] == "Hello!"
    sent = [request.json["messages"][-1]["content"] for request in talk.office.provider.requests]
    assert sent == ORDINARY


CONVERSATIONS = [
    [{"role": "user", "content": "/new"}, {"role": "assistant", "content": "No"}],
    [{"role": "user", "content": "/new"}, {"role": "user", "content": "hi"}],
    [{"role": "user", "content": [{"type": "text", "text": "/new"}] * 2}],
    [
        {"role": "user", "content": "hi"},
        {
            "role": "assistant",
            "tool_calls": [
                {"id": "c1", "type": "function", "function": {"name": "f", "arguments": "{}"}}
            ],
        },
        {"role": "tool", "tool_call_id": "c1", "content": "/new"},
    ],
]


@pytest.mark.parametrize("messages", CONVERSATIONS)
async def test_a_command_is_the_newest_message_a_plain_text_and_of_the_user(
    talk: Talk, messages: list[dict[str, Any]]
) -> None:
    said = await talk.office.said("", headers=KEY, messages=messages)
    assert said.text == "Hello!", said


@pytest.mark.parametrize("method", ["agent", "chat.send"])
async def test_a_message_with_a_picture_is_no_command(talk: Talk, method: str) -> None:
    picture = {"type": "image", "mimeType": "image/png", "fileName": "a.png", "content": PICTURE}
    asked = {"sessionKey": TALK, "message": "/new", "idempotencyKey": "k", "attachments": [picture]}
    await talk.peer.call(method, asked)
    final = (await talk.peer.event("chat", runId="k", state="final"))["payload"]
    assert final["message"]["content"][0]["text"] == "Hello!"
    assert len(talk.office.provider.requests) == 1


async def test_a_principal_without_the_scope_changes_nothing(talk: Talk) -> None:
    talk.office.provider.will(answer("Hello!"))
    await talk.office.said("hi", by="eve", headers=KEY)
    stored = await talk.messages()
    for command in ("/new", "/reset", "/compact", "/compact the names"):
        said = await talk.office.said(command, by="eve", headers=KEY)
        name = command.partition(" ")[0]
        assert said.text == f"{name} was not carried out: missing scope: operator.admin."
        assert said.stop == "stop"
    assert await talk.messages() == stored
    status = (await talk.office.said("/status", by="eve", headers=KEY)).text
    assert "Pending approvals: not shown without the scope operator.approvals" in status
    assert (await talk.office.said("/think high", by="eve", headers=KEY)).text == "Thinking: high"


async def test_a_session_of_another_principal_takes_no_commands(talk: Talk) -> None:
    await talk.office.said("hi", by="grace", headers=KEY)
    for command in ("/status", "/stop", "/think high"):
        said = await talk.office.said(command, by="alan", headers=KEY)
        assert (said.status, said.error) == (403, "missing_scope")


async def test_a_status_counts_the_approvals_that_its_principal_may_decide(talk: Talk) -> None:
    asked = await talk.office.asked(by="grace", headers=KEY)

    for who, count in (("grace", "1 (send in agent:guide:talk)"), ("alan", "none")):
        key = KEY if who == "grace" else {"X-OpenSoul-Session-Key": "agent:guide:other"}
        status = (await talk.office.said("/status", by=who, headers=key)).text
        assert f"Pending approvals: {count}" in status
    assert (await talk.by_json("/stop"))[0] == "The run was stopped."
    gone = await talk.office.said(f"approve {asked.code}", by="grace", headers=KEY)
    assert gone.status == 404
    assert talk.office.courier.sent == []


async def test_a_client_of_the_control_protocol_without_the_scope_is_refused(talk: Talk) -> None:
    async with talk.office.connected(scopes=["operator.write"]) as writer:
        for method in ("agent", "chat.send"):
            asked = {"sessionKey": TALK, "message": "/new", "idempotencyKey": method}
            with pytest.raises(Refused, match=r"missing scope: operator\.admin"):
                await writer.call(method, asked)
            assert (await writer.call("runs.list"))["runs"] == []


async def test_commands_can_be_switched_off(tmp_path: Path, provider: FakeProvider) -> None:
    sections = {**SECTIONS, "commands": {"text": False}}
    async with (
        open_office(tmp_path, provider, sections=sections) as office,
        office.connected(scopes=["operator.write"]) as peer,
    ):
        assert (await office.said("/new", headers=KEY)).text == "Hello!"
        asked = {"sessionKey": TALK, "message": "/new", "idempotencyKey": "k"}
        await peer.call("chat.send", asked)
        await peer.event("chat", runId="k", state="final")
        assert (await peer.call("commands.list"))["commands"] == []
    assert [request.json["messages"][-1]["content"] for request in provider.requests] == [
        "/new"
    ] * 2
