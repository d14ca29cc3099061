"""What comes next in a Run, from its journal alone."""

from __future__ import annotations

from dataclasses import replace

import pytest

from opensoul.domain.agents import RunLimits
from opensoul.domain.messages import Message, Role, Text, ToolCall, text_message
from opensoul.domain.models.calls import Price, StopReason, Usage
from opensoul.domain.runs.actions import (
    Action,
    AwaitDecisions,
    CallModel,
    Finish,
    RecordResults,
    RunCalls,
    next_action,
)
from opensoul.domain.runs.journal import INTERRUPTED, Journal, Step, failed_result, result_of
from opensoul.domain.runs.limits import LimitReached
from opensoul.domain.runs.prompts import prompted
from opensoul.domain.sessions import shortened_results
from opensoul.domain.tools import Repeat, ToolResult

QUESTION = (text_message(Role.USER, "What is the weather?"),)
ANSWER = text_message(Role.ASSISTANT, "Fine.")
A, B = ToolCall("a", "weather", "{}"), ToolCall("b", "send", "{}")
CALLS = Message(Role.ASSISTANT, (Text("I look."), A, B))
A_DONE, B_DONE = result_of(A, ToolResult("sunny")), result_of(B, ToolResult("sent"))
DONE = Step(CALLS, (A_DONE, B_DONE))


def journal(*steps: Step, begun: dict[str, Repeat] | None = None, undecided: str = "") -> Journal:
    """The calls that were begun, or wait for a decision, are those of the last step."""
    if steps:
        last = replace(steps[-1], begun=begun or {}, undecided=frozenset(undecided))
        steps = (*steps[:-1], last)
    return Journal(QUESTION, steps)


@pytest.mark.parametrize(
    ("kept", "expected"),
    [
        pytest.param(journal(), CallModel(), id="only the question"),
        pytest.param(journal(DONE), CallModel(), id="a complete step"),
        pytest.param(journal(Step(CALLS)), RunCalls((A, B)), id="two calls, none begun"),
        pytest.param(journal(Step(CALLS, (A_DONE,))), RunCalls((B,)), id="one has its result"),
        pytest.param(
            journal(Step(CALLS), begun={"a": Repeat.SAFE}), RunCalls((A, B)), id="a safe one begun"
        ),
        pytest.param(
            journal(Step(CALLS), begun={"b": Repeat.KEYED}), RunCalls((A, B)), id="a keyed one"
        ),
        pytest.param(
            journal(Step(CALLS), begun={"b": Repeat.UNSAFE}),
            RecordResults((failed_result(B, INTERRUPTED),)),
            id="an unsafe one begun is never run again",
        ),
        pytest.param(
            journal(
                Step(CALLS, (A_DONE, failed_result(B, INTERRUPTED))), begun={"b": Repeat.UNSAFE}
            ),
            CallModel(),
            id="and then the model decides",
        ),
        pytest.param(
            journal(Step(CALLS), undecided="b"), RunCalls((A,)), id="what needs no decision runs"
        ),
        pytest.param(
            journal(Step(CALLS, (A_DONE,)), undecided="b"),
            AwaitDecisions((B,)),
            id="only undecided ones are left",
        ),
        pytest.param(Journal(QUESTION, (DONE,), answer=ANSWER), Finish(ANSWER), id="the answer"),
    ],
)
def test_what_comes_next(kept: Journal, expected: Action) -> None:
    assert next_action(kept, RunLimits()) == expected


def test_a_model_sees_complete_steps_only() -> None:
    kept = Journal(QUESTION, (DONE, Step(CALLS, (A_DONE,))))

    assert kept.messages == (*QUESTION, CALLS, A_DONE, B_DONE)


def test_results_stand_in_the_order_of_their_calls() -> None:
    assert Step(CALLS, (B_DONE, A_DONE)).messages == (CALLS, A_DONE, B_DONE)


def test_the_answer_ends_the_conversation() -> None:
    assert Journal(QUESTION, (DONE,), answer=ANSWER).messages[-1] == ANSWER


MODEL = "acme/one"
PRICES = {MODEL: Price(input=1.0, output=10.0)}
COSTLY = replace(DONE, usage=Usage(100_000, 10_000), model=MODEL)
"""A step for 0.2 dollars."""
SLOW = replace(DONE, seconds=20.0)


@pytest.mark.parametrize(
    ("steps", "limits", "stop"),
    [
        pytest.param([DONE], RunLimits(), None, id="no limit is reached"),
        pytest.param([DONE] * 2, RunLimits(steps=3), None, id="one step is left"),
        pytest.param([DONE] * 3, RunLimits(steps=3), StopReason.MAX_STEPS, id="no step"),
        pytest.param([DONE] * 2, RunLimits(tool_calls=5), None, id="one call is left"),
        pytest.param([DONE] * 2, RunLimits(tool_calls=4), StopReason.MAX_TOOL_CALLS, id="no call"),
        pytest.param([DONE] * 2, RunLimits(own_calls=5), None, id="one of the agent's is left"),
        pytest.param(
            [DONE] * 2, RunLimits(own_calls=4), StopReason.MAX_TOOL_CALLS, id="none of them"
        ),
        pytest.param(
            [replace(DONE, handed=frozenset("a"))] * 2,
            RunLimits(own_calls=3),
            None,
            id="those of the client do not count",
        ),
        pytest.param(
            [COSTLY] * 2, RunLimits(output_tokens=20_001), None, id="a token of output is left"
        ),
        pytest.param(
            [COSTLY] * 2, RunLimits(output_tokens=20_000), StopReason.MAX_OUTPUT_TOKENS, id="none"
        ),
        pytest.param([DONE] * 2, RunLimits(output_tokens=1), None, id="usage is not known"),
        pytest.param([SLOW] * 2, RunLimits(seconds=41), None, id="a second is left"),
        pytest.param([SLOW] * 2, RunLimits(seconds=40), StopReason.MAX_SECONDS, id="no second"),
        pytest.param([COSTLY] * 2, RunLimits(cost=0.41), None, id="a cent is left"),
        pytest.param([COSTLY] * 2, RunLimits(cost=0.4), StopReason.MAX_COST, id="no cent"),
        pytest.param(
            [replace(COSTLY, model="acme/two")], RunLimits(cost=0.01), None, id="no price is known"
        ),
    ],
)
def test_each_limit_has_its_stop_reason(
    steps: list[Step], limits: RunLimits, stop: StopReason | None
) -> None:
    action = next_action(Journal(QUESTION, tuple(steps)), limits, PRICES)

    assert (action.stop if isinstance(action, LimitReached) else None) == stop


OPEN = Step(CALLS)
OUT_OF_TIME = "not run: the run has reached its limit of 40 seconds (maxSeconds)"


@pytest.mark.parametrize(
    ("last", "limits", "expected"),
    [
        pytest.param(OPEN, RunLimits(steps=3), RunCalls((A, B)), id="the last step is completed"),
        pytest.param(OPEN, RunLimits(output_tokens=1), RunCalls((A, B)), id="after many tokens"),
        pytest.param(
            OPEN,
            RunLimits(tool_calls=5),
            RecordResults(
                (
                    failed_result(
                        B, "not run: the run has reached its limit of 5 tool calls (maxToolCalls)"
                    ),
                )
            ),
            id="the calls beyond the limit are not run",
        ),
        pytest.param(
            replace(OPEN, handed=frozenset("a")),
            RunLimits(own_calls=1),
            RecordResults(
                (
                    failed_result(
                        B,
                        "not run: the run has reached the client's limit of 1 tool calls "
                        "(max_tool_calls)",
                    ),
                )
            ),
            id="the agent's calls beyond the client's limit are not run",
        ),
        pytest.param(
            replace(OPEN, results=(B_DONE,)),
            RunLimits(tool_calls=5),
            RunCalls((A,)),
            id="the calls within the limit are",
        ),
        pytest.param(
            OPEN,
            RunLimits(seconds=40),
            RecordResults((failed_result(A, OUT_OF_TIME), failed_result(B, OUT_OF_TIME))),
            id="after the time limit no call is begun",
        ),
        pytest.param(
            replace(OPEN, begun={"a": Repeat.SAFE}, undecided=frozenset("b")),
            RunLimits(seconds=40),
            RecordResults((failed_result(A, INTERRUPTED), failed_result(B, OUT_OF_TIME))),
            id="nor repeated, nor asked for",
        ),
    ],
)
def test_what_becomes_of_the_calls_at_a_limit(
    last: Step, limits: RunLimits, expected: Action
) -> None:
    kept = Journal(QUESTION, (SLOW, SLOW, last))

    assert next_action(kept, limits) == expected


def equal(*results: str, call: ToolCall = A) -> Journal:
    """One equal call a step, with these results."""
    message = Message(Role.ASSISTANT, (call,))
    return Journal(
        QUESTION, tuple(Step(message, (result_of(call, ToolResult(one)),)) for one in results)
    )


@pytest.mark.parametrize(
    ("kept", "ends"),
    [
        (equal(*["no"] * 4), False),
        (equal(*["no"] * 5), True),
        (equal(*["no"] * 4, "yes"), False),
        (equal("yes", *["no"] * 4), False),
        (equal(*["no"] * 2, "yes", *["no"] * 4), False),
        (Journal(QUESTION, (DONE,) * 5), True),
        (Journal(QUESTION, (*[DONE] * 4, equal("yes").steps[0])), False),
    ],
)
def test_five_equal_calls_in_a_row_with_the_same_result_end_the_run(
    kept: Journal, ends: bool
) -> None:
    action = next_action(kept, RunLimits())

    assert isinstance(action, LimitReached) is ends
    if isinstance(action, LimitReached):
        assert action.stop is StopReason.REPEATED_CALL


def test_equal_calls_of_one_step_count_too() -> None:
    calls = tuple(ToolCall(str(number), "weather", "{}") for number in range(5))
    step = Step(Message(Role.ASSISTANT, calls), tuple(failed_result(call, "no") for call in calls))

    assert isinstance(next_action(Journal(QUESTION, (step,)), RunLimits()), LimitReached)


def steps_of(count: int, second: str) -> tuple[Step, ...]:
    """Steps with the same call and a second one, with `second` and the step's number as its
    arguments."""
    made = []
    for number in range(count):
        calls = (
            ToolCall(f"a{number}", "check", "{}"),
            ToolCall(f"b{number}", "change", second.format(number)),
        )
        results = tuple(failed_result(call, "no") for call in calls)
        made.append(Step(Message(Role.ASSISTANT, calls), results))
    return tuple(made)


@pytest.mark.parametrize(("second", "ends"), [("{{}}", True), ('{{"line": {}}}', False)])
def test_a_call_beside_new_calls_is_not_repeated(second: str, ends: bool) -> None:
    action = next_action(Journal(QUESTION, steps_of(5, second)), RunLimits())

    assert isinstance(action, LimitReached) is ends


def test_the_model_is_warned_of_the_third_equal_call() -> None:
    texts = [message.text for message in prompted(equal(*["no"] * 4), 100)][2::2]

    assert texts[:2] == ["no", "no"]
    assert texts[2].startswith("no\n[This is call 3 in a row")
    assert texts[3].startswith("no\n[This is call 4 in a row")


def test_a_long_result_is_shortened_in_the_middle_for_the_model_alone() -> None:
    kept = equal("a" * 60 + "b" * 100 + "c" * 60)

    (result,) = prompted(kept, 100)[2:]

    assert result.text == ("a" * 50 + "\n[... 120 characters are left out here ...]\n" + "c" * 50)
    assert result.tool_call_id == "a"
    assert len(kept.messages[-1].text) == 220
    assert prompted(kept, 220) == kept.messages


@pytest.mark.parametrize(("length", "same"), [(100, True), (101, False)])
def test_results_of_earlier_turns_are_shortened_too(length: int, same: bool) -> None:
    messages = (*QUESTION, CALLS, result_of(A, ToolResult("x" * length)), ANSWER)

    shown = shortened_results(messages, 100)

    assert (shown is messages) is same
    assert [shown[0], shown[1], shown[3]] == [messages[0], messages[1], messages[3]]


def test_only_results_of_tools_are_shortened() -> None:
    asked = (text_message(Role.USER, "x" * 200),)

    assert shortened_results(asked, 100) is asked
