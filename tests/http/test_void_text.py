"""Streams of runs that another node takes over after a part of the answer was sent."""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from opensoul.adapters.transports.answering.runs import RunFrames
from opensoul.adapters.transports.anthropic import answers as anthropic
from opensoul.adapters.transports.openai.chat import answers as chat
from opensoul.adapters.transports.openai.common import Extras
from opensoul.adapters.transports.openai.completions import answers as completions
from opensoul.domain.errors import RunInterrupted
from opensoul.domain.models.calls import ReasoningDelta, TextDelta
from opensoul.domain.runs.events import Resumed, RunEvent, Started, StepDone

FORMATS = ("chat", "completions", "messages")


def frames_of(name: str) -> RunFrames:
    extras = Extras(reasoning=False, tools=False)
    if name == "chat":
        head = chat.Head("chatcmpl_1", 1, "opensoul", "run-1")
        return chat.Frames(head, include_usage=False, numbered=True, extras=extras)
    if name == "completions":
        return completions.Frames({}, run_id="run-1", include_usage=False, numbered=True)
    return anthropic.Frames(
        anthropic.Head("msg_1", "opensoul", "run-1"), numbered=True, extras=extras
    )


@pytest.mark.parametrize("name", FORMATS)
def test_a_stream_ends_with_an_error_where_the_text_that_was_sent_is_void(name: str) -> None:
    frames = frames_of(name)
    assert b"lost" in frames.of([Started(0, 0), TextDelta("lost")], 1)

    with pytest.raises(RunInterrupted, match="same Idempotency-Key"):
        frames.of([Resumed(2, 1, "died"), TextDelta("again")], 3)


@pytest.mark.parametrize("name", FORMATS)
def test_a_stream_ends_with_an_error_where_the_second_step_is_void(name: str) -> None:
    frames = frames_of(name)
    frames.of([TextDelta("stored"), StepDone(1), TextDelta("lost")], 1)

    with pytest.raises(RunInterrupted):
        frames.of([Resumed(2, 1, "died")], 4)


@pytest.mark.parametrize("name", FORMATS)
@pytest.mark.parametrize(
    "events",
    [
        pytest.param([Started(0, 0), Resumed(2, 1, "died")], id="nothing was sent"),
        pytest.param([ReasoningDelta("why"), Resumed(2, 1, "died")], id="no frame was sent"),
        pytest.param([TextDelta("a"), Resumed(2, 0, "restart")], id="nothing is void"),
        pytest.param(
            [TextDelta("a"), StepDone(1), ReasoningDelta("why"), Resumed(2, 1, "died")],
            id="the text is stored",
        ),
    ],
)
def test_a_stream_goes_on_where_none_of_the_text_that_was_sent_is_void(
    name: str, events: Sequence[RunEvent]
) -> None:
    frames = frames_of(name)
    frames.of(events, 1)

    assert b"again" in frames.of([TextDelta("again")], 1 + len(events))
