"""What comes next in a Run, from its journal alone."""

from __future__ import annotations

from dataclasses import replace

import pytest

from opensoul.domain.messages import Message, Role, Text, ToolCall, text_message
from opensoul.domain.runs.journal import (
    INTERRUPTED,
    Action,
    AwaitDecisions,
    CallModel,
    Finish,
    Journal,
    RecordResults,
    RunCalls,
    Step,
    StepLimit,
    next_action,
    result_of,
)
from opensoul.domain.tools import Repeat

QUESTION = (text_message(Role.USER, "What is the weather?"),)
ANSWER = text_message(Role.ASSISTANT, "Fine.")
A, B = ToolCall("a", "weather", "{}"), ToolCall("b", "send", "{}")
CALLS = Message(Role.ASSISTANT, (Text("I look."), A, B))
A_DONE, B_DONE = result_of(A, "sunny"), result_of(B, "sent")
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
            RecordResults((result_of(B, INTERRUPTED),)),
            id="an unsafe one begun is never run again",
        ),
        pytest.param(
            journal(Step(CALLS, (A_DONE, result_of(B, INTERRUPTED))), begun={"b": Repeat.UNSAFE}),
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
        pytest.param(journal(DONE, DONE, DONE), StepLimit(3), id="no step is left"),
        pytest.param(
            journal(DONE, DONE, Step(CALLS)), RunCalls((A, B)), id="the last step is completed"
        ),
        pytest.param(Journal(QUESTION, (DONE,), answer=ANSWER), Finish(ANSWER), id="the answer"),
    ],
)
def test_what_comes_next(kept: Journal, expected: Action) -> None:
    assert next_action(kept, max_steps=3) == expected


def test_a_model_sees_complete_steps_only() -> None:
    kept = Journal(QUESTION, (DONE, Step(CALLS, (A_DONE,))))

    assert kept.messages == (*QUESTION, CALLS, A_DONE, B_DONE)


def test_results_stand_in_the_order_of_their_calls() -> None:
    assert Step(CALLS, (B_DONE, A_DONE)).messages == (CALLS, A_DONE, B_DONE)


def test_the_answer_ends_the_conversation() -> None:
    assert Journal(QUESTION, (DONE,), answer=ANSWER).messages[-1] == ANSWER
