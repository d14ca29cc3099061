"""The rules of tools that a client brings: names, ids of calls, and what comes next."""

from __future__ import annotations

import uuid

import pytest

from opensoul.domain.agents import RunLimits
from opensoul.domain.messages import Message, Role, Text, ToolCall
from opensoul.domain.runs import AwaitDecisions, HandOut, Journal, RunCalls, Step, next_action
from opensoul.domain.sessions import with_call_ids
from opensoul.domain.tools import (
    CLIENT_SOURCE,
    ChoiceMode,
    ClientTools,
    ToolChoice,
    ToolSpec,
    client_call_id,
    offered_tools,
    run_of_call,
)
from tests.fakes.domain import user

OWN, THEIRS, ASKED = (ToolCall(name, name, "{}") for name in ("own", "theirs", "asked"))


def result(call: ToolCall) -> Message:
    return Message(Role.TOOL, (Text("done"),), name=call.name, tool_call_id=call.id)


def journal(*calls: ToolCall, results: tuple[ToolCall, ...] = (), undecided: str = "") -> Journal:
    step = Step(
        Message(Role.ASSISTANT, calls),
        tuple(map(result, results)),
        handed=frozenset({THEIRS.id}),
        undecided=frozenset({undecided} - {""}),
    )
    return Journal((user("hi"),), (step,))


@pytest.mark.parametrize(
    ("state", "action"),
    [
        (journal(THEIRS), HandOut((THEIRS,))),
        (journal(OWN, THEIRS), RunCalls((OWN,))),
        (journal(OWN, THEIRS, results=(OWN,)), HandOut((THEIRS,))),
        (journal(ASKED, THEIRS, undecided="asked"), AwaitDecisions((ASKED,))),
        (journal(ASKED, THEIRS, OWN, undecided="asked"), RunCalls((OWN,))),
        (journal(ASKED, THEIRS, results=(ASKED,)), HandOut((THEIRS,))),
    ],
)
def test_calls_of_the_client_are_handed_out_last(state: Journal, action: object) -> None:
    assert next_action(state, RunLimits()) == action


def tool(name: str, source: str = "") -> ToolSpec:
    return ToolSpec(name, "", source=source)


def names(own: list[str], client: list[str]) -> list[str]:
    tools = ClientTools(tuple(tool(name, CLIENT_SOURCE) for name in client))
    offered = offered_tools([tool(name) for name in own], tools)
    assert {offered.own_names.get(spec.name, spec.name) for spec in offered.specs} == {
        *own,
        *client,
    }
    return [spec.name for spec in offered.specs]


def test_names_on_both_sides() -> None:
    assert names(["read", "write"], ["read", "x"]) == ["agent__read", "write", "read", "x"]
    assert names(["read"], ["read", "agent__read"])[0] == "agent_agent__read"
    assert names(["read", "agent__read"], ["read"])[0] == "agent_agent__read"
    long = names(["r" * 64, "r" * 63 + "s"], ["r" * 64, "r" * 63 + "s"])
    assert len(set(long)) == 4
    assert max(map(len, long)) == 64


def test_without_tools_of_a_client_nothing_changes() -> None:
    own = (tool("read"),)

    assert offered_tools(own, None).specs == own
    none = ClientTools((tool("x", CLIENT_SOURCE),), ToolChoice(ChoiceMode.NONE))
    assert offered_tools(own, none).specs == own
    assert offered_tools((), none).specs == none.tools
    assert offered_tools((), none).choice.param == "none"


def test_the_id_of_a_call_names_its_run() -> None:
    run_id = str(uuid.uuid4())

    assert run_of_call(client_call_id(run_id, 12, 3)) == (run_id, 12)
    assert len(client_call_id(run_id, 50, 127)) <= 40  # OpenAI takes no longer ids.
    other = client_call_id("a key that a client chose", 1, 0)
    assert run_of_call(other) != ("a key that a client chose", 1)


@pytest.mark.parametrize("call_id", ["", "call_1", "call_" + "a" * 26, "call_" + "A" * 26 + "_1_0"])
def test_other_ids_name_none(call_id: str) -> None:
    assert run_of_call(call_id) is None


def test_results_without_ids_answer_calls_by_their_names() -> None:
    history = (user("hi"), Message(Role.ASSISTANT, (OWN, THEIRS)), result(OWN))
    nameless = Message(Role.TOOL, (Text("sunny"),), name="theirs")

    assert with_call_ids(history, (nameless,))[0].tool_call_id == "theirs"
    assert with_call_ids(history, (result(THEIRS),)) == (result(THEIRS),)
    unknown = Message(Role.TOOL, (Text("sunny"),), name="else", tool_call_id="x")
    assert with_call_ids(history, (unknown,)) == (unknown,)
    question = (user("hi"),)
    assert with_call_ids(history, question) is question
