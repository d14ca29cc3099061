"""How the tests read answers without a socket."""

from __future__ import annotations

import orjson
import pytest

from opensoul.adapters.providers.http import FailureFactory
from opensoul.adapters.providers.openai import CHAT_COMPLETIONS
from opensoul.adapters.providers.openai.answer.stream import Answer
from opensoul.domain.errors import ModelFailed
from opensoul.domain.models.calls import ModelEvent, ModelFinished

from .calls import call

DONE = b"data: [DONE]\n\n"


def event(content: object) -> bytes:
    return b"data: " + orjson.dumps(content) + b"\n\n"


def read(*pieces: bytes, content_type: str = "") -> list[ModelEvent]:
    """The events of a stream of these pieces that ends properly."""
    return read_into([], *pieces, content_type=content_type)


def read_into(events: list[ModelEvent], *pieces: bytes, content_type: str = "") -> list[ModelEvent]:
    """The same, added to `events`, which hold what came before a failure."""
    answer = Answer(FailureFactory(call().target, CHAT_COMPLETIONS), content_type)
    for piece in pieces:
        events += answer.feed(piece)
        answer.check()
    if not answer.done:
        events += answer.end()
        answer.check()
    events.append(answer.finished())
    return events


def read_whole(body: bytes) -> list[ModelEvent]:
    """The events of a body that is no event stream."""
    answer = Answer(FailureFactory(call().target, CHAT_COMPLETIONS))
    events = list(answer.whole(body))
    answer.check()
    assert answer.done
    return [*events, answer.finished()]


def refusal(*pieces: bytes, content_type: str = "") -> ModelFailed:
    """Why a stream of these pieces is no answer."""
    with pytest.raises(ModelFailed) as caught:
        read(*pieces, content_type=content_type)
    assert caught.value.__context__ is None
    return caught.value


def finished(events: list[ModelEvent]) -> ModelFinished:
    last = events[-1]
    assert isinstance(last, ModelFinished)
    return last
