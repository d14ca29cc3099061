"""How a failure becomes an event, and an event an error again."""

from __future__ import annotations

import pytest

from opensoul.domain.errors import (
    FailureKind,
    Forbidden,
    GatewayError,
    InvalidRequest,
    ModelFailed,
    RunAborted,
    RunFailed,
    RunTimedOut,
    StoreFailed,
    Unauthenticated,
    UnknownAgent,
    Unsupported,
)
from opensoul.domain.messages import Message, Reasoning, Role, Text
from opensoul.domain.models.calls import Usage
from opensoul.domain.runs.events import Aborted, Failed, error_of, failed_event


@pytest.mark.parametrize(
    "error",
    [
        GatewayError("broken"),
        RunFailed("no answer", retry_after=3.0),
        RunTimedOut("too long"),
        RunAborted("stopped"),
        StoreFailed("disk full", retry_after=2.0),
        InvalidRequest("wrong", param="messages[0]"),
        Unsupported("no images", param="messages[0].content"),
        UnknownAgent("nobody", param="model"),
        *(
            ModelFailed(kind, "said no", retry_after=1.5, param="temperature", status=400)
            for kind in FailureKind
        ),
    ],
    ids=repr,
)
def test_an_error_survives_being_told_as_an_event(error: GatewayError) -> None:
    told = error_of(failed_event(error))

    assert type(told) is type(error)
    assert (told.code, told.message, told.retry_after) == (
        error.code,
        error.message,
        error.retry_after,
    )
    assert getattr(told, "param", None) == getattr(error, "param", None)
    assert getattr(told, "kind", None) == getattr(error, "kind", None)


def test_the_events_fields_are_the_errors() -> None:
    error = ModelFailed(FailureKind.RATE_LIMIT, "slow down", retry_after=9.0, detail="for the log")

    assert failed_event(error) == Failed(
        "model_failed", "slow down", FailureKind.RATE_LIMIT, retry_after=9.0
    )


@pytest.mark.parametrize("error", [Unauthenticated("provider key"), Forbidden("elsewhere")])
def test_a_runners_own_refusals_are_not_taken_for_the_gateways(error: GatewayError) -> None:
    told = error_of(failed_event(error))

    assert type(told) is RunFailed
    assert told.message == error.message


def test_an_abort_is_told_as_such() -> None:
    told = error_of(Aborted("The client left."))

    assert isinstance(told, RunAborted)
    assert told.message == "The client left."


def test_usage_totals_input_and_output() -> None:
    assert Usage(3, 4, reasoning=2, cached=1).total == 7


def test_a_messages_text_leaves_out_what_was_only_thought() -> None:
    message = Message(Role.ASSISTANT, (Reasoning("hm"), Text("one"), Text("two")))

    assert message.text == "one\ntwo"
