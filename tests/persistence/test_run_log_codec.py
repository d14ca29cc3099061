"""Events survive being bytes."""

from __future__ import annotations

from typing import get_args

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from opensoul.adapters.persistence.common.codec import Undecodable
from opensoul.adapters.persistence.common.event_codec import decode_events, encode_events
from opensoul.domain.errors import FailureKind
from opensoul.domain.models.calls import ReasoningDelta, StopReason, TextDelta, Usage
from opensoul.domain.runs.events import (
    Aborted,
    Failed,
    Finished,
    Resumed,
    RunEvent,
    Started,
    StepDone,
    ToolFinished,
    ToolProgress,
    ToolStarted,
    Unknown,
    Waiting,
)
from opensoul.domain.runs.kinds import KINDS

from .run_logs import END

ANY_TEXT = st.text(st.characters(codec=None, categories=None))
SECONDS = st.floats(allow_nan=False, allow_infinity=False)
TOKENS = st.integers(-(2**53), 2**53)
EVENTS = st.one_of(
    st.builds(Started, SECONDS, SECONDS),
    st.builds(TextDelta, ANY_TEXT),
    st.builds(ReasoningDelta, ANY_TEXT),
    st.builds(
        Finished,
        st.sampled_from(StopReason),
        st.builds(Usage, TOKENS, TOKENS, TOKENS, TOKENS, st.booleans()),
        ANY_TEXT,
    ),
    st.builds(
        Failed,
        ANY_TEXT,
        ANY_TEXT,
        st.none() | st.sampled_from(FailureKind),
        st.none() | SECONDS,
        st.none() | ANY_TEXT,
    ),
    st.builds(Aborted, ANY_TEXT),
    st.builds(ToolStarted, ANY_TEXT, ANY_TEXT, ANY_TEXT),
    st.builds(ToolProgress, ANY_TEXT, ANY_TEXT),
    st.builds(ToolFinished, ANY_TEXT, st.booleans(), ANY_TEXT),
    st.builds(StepDone, st.integers(1, 99)),
    st.builds(Waiting, ANY_TEXT, st.none() | ANY_TEXT, st.none() | SECONDS),
    st.builds(Resumed, st.integers(1, 9), st.integers(0, 9), ANY_TEXT),
)


@given(events=st.lists(EVENTS))
@example(events=[TextDelta("I will not.", refusal=True)])
@example(events=[TextDelta("\ud83d\ude00"), TextDelta("\ud83d"), TextDelta("\ude00")])
@example(events=[Aborted('\\ud800 "\x00')])
def test_events_come_back_as_they_were(events: list[RunEvent]) -> None:
    assert decode_events(encode_events(events)) == events


def test_every_kind_has_a_head_of_its_own() -> None:
    assert len({kind.head for kind in KINDS}) == len(list(KINDS))
    assert {kind.type for kind in KINDS} | {Unknown} == set(get_args(RunEvent))


@pytest.mark.parametrize("stored", [b'["novel",{"a":1}]', b'["t2","x"]', b'["q"]'])
def test_an_event_of_a_newer_process_is_passed_over(stored: bytes) -> None:
    known, unknown, after = decode_events(b'[["t","x"],%b,["t","y"]]' % stored)

    assert (known, after) == (TextDelta("x"), TextDelta("y"))
    assert isinstance(unknown, Unknown)


def test_a_reason_of_a_newer_process_does_not_hide_the_end() -> None:
    finished, failed = decode_events(
        b'[["f","novel",[1,2,3,4,true],"m"],["x","c","why","novel",null,null]]'
    )

    assert finished == Finished(StopReason.STOP, Usage(1, 2, 3, 4, estimated=True), "m")
    assert failed == Failed("c", "why", None)


def test_a_word_takes_few_bytes() -> None:
    assert len(encode_events([TextDelta("word ")] * 50)) < 50 * 15


def test_what_no_model_can_count_is_cut() -> None:
    event = Finished(StopReason.STOP, Usage(2**80, -(2**80)), "m")
    (kept,) = decode_events(encode_events([event]))
    assert kept == Finished(StopReason.STOP, Usage(2**53, -(2**53)), "m")


def test_the_end_by_a_stop_sequence_is_kept() -> None:
    event = Finished(StopReason.STOP, Usage(1, 2, cache_writes=1), "m", "END")
    (kept,) = decode_events(encode_events([event]))
    assert kept == event
    assert isinstance(kept, Finished)
    assert kept.usage.cache_writes == 1


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"\xff",
        b"{}",
        b'["t"]',
        b'[["t"]]',
        b'[["t",1]]',
        b'[[1,"x"]]',
        b"[[]]",
        b'[["s",0]]',
        b'[["f","stop",[1,2,3,4],"m"]]',
        b'[["f",1,[1,2,3,4,true],"m"]]',
        b'[["x","c","m",1,null,null]]',
        encode_events([END])[:-1],
        b"[" * 100_000,
    ],
)
def test_damage_is_told(data: bytes) -> None:
    with pytest.raises(Undecodable, match=r"events? of a run"):
        decode_events(data)
