"""A model that is none: it answers by a fixed rule, for tests and demonstrations.

It says what it was told (`[scripted] You said: ...`), or follows a script. A script is written as
parameters of the model in the configuration, and only there; a request cannot change it:

    reply   text to answer with
    chunks  a list of texts to answer with, each streamed as one piece
    delay   seconds between pieces
    fail    a FailureKind ("rate_limit", "timeout", ...): every call fails so

Every answer begins with the label, so that nobody takes it for a language model's. A token is a
word here: that is what `max_tokens` limits and usage counts. `stop` is honoured; all other model
parameters are accepted and mean nothing to it.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncGenerator, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from ...domain.errors import FailureKind, ModelFailed
from ...domain.messages import Message, Role
from ...domain.models import ModelEvent, ModelFinished, ModelRequest, StopReason, TextDelta, Usage

LABEL = "[scripted] "
_WORD = re.compile(r"\S+\s*|\s+")


class Scripted:
    """The ModelClient of the api `scripted`. It needs no connection and keeps nothing."""

    async def stream(self, request: ModelRequest) -> AsyncGenerator[Sequence[ModelEvent]]:
        """Answer by the rule or the script, word by word."""
        script = _Script.of(request)
        if script.fail is not None:
            raise ModelFailed(script.fail, f"The scripted model fails as told: {script.fail}.")
        params = {**dict(request.target.params), **request.params}
        pieces, stop = _within(script.pieces, params)
        spent = 0
        for piece in pieces:
            if spent:
                await asyncio.sleep(script.delay)
            yield (TextDelta(piece),)
            spent += len(piece.split())
        read = sum(len(message.text.split()) for message in request.messages)
        yield (ModelFinished(stop, Usage(read, spent)),)

    async def close(self) -> None:
        """There is nothing to let go of."""


@dataclass(frozen=True, slots=True)
class _Script:
    pieces: tuple[str, ...]
    delay: float
    fail: FailureKind | None

    @classmethod
    def of(cls, request: ModelRequest) -> _Script:
        """The script of the request's target. Raises ModelFailed for one that makes no sense."""
        params = dict(request.target.params)
        delay = params.get("delay", 0.0)
        if isinstance(delay, bool) or not isinstance(delay, int | float) or not 0 <= delay <= 3600:
            raise _senseless("delay", "a number of seconds from 0 to 3600", delay)
        fail = params.get("fail")
        if fail is not None and fail not in list(FailureKind):
            raise _senseless("fail", "one of " + ", ".join(FailureKind), fail)
        return cls(
            pieces=(LABEL, *_pieces(params, request.messages)),
            delay=float(delay),
            fail=None if fail is None else FailureKind(str(fail)),
        )


def _pieces(params: Mapping[str, object], messages: tuple[Message, ...]) -> tuple[str, ...]:
    chunks = params.get("chunks")
    if isinstance(chunks, list | tuple) and all(isinstance(chunk, str) for chunk in chunks):
        return tuple(chunk for chunk in chunks if chunk)
    if chunks is not None:
        raise _senseless("chunks", "a list of texts", chunks)
    said = (message.text for message in reversed(messages) if message.role is Role.USER)
    reply = params.get("reply", f"You said: {next(said, '')}")
    if not isinstance(reply, str):
        raise _senseless("reply", "a text", reply)
    return tuple(_WORD.findall(reply))


def _within(
    pieces: tuple[str, ...], params: Mapping[str, object]
) -> tuple[tuple[str, ...], StopReason]:
    """The pieces up to the limit or the stop text, whichever comes first. The label stays."""
    label, *rest = pieces
    text = "".join(rest)
    stop = params.get("stop")
    marks = [stop] if isinstance(stop, str) else stop if isinstance(stop, list | tuple) else []
    found = (text.find(mark) for mark in marks if isinstance(mark, str) and mark)
    end = min((place for place in found if place >= 0), default=len(text))
    reason = StopReason.STOP
    limit = params.get("max_completion_tokens") or params.get("max_tokens")
    words = list(re.finditer(r"\S+", text[:end]))
    if isinstance(limit, int) and len(words) >= limit:  # The label is a word too.
        end = words[limit - 1].start()
        reason = StopReason.LENGTH
    return (label, *_cut(rest, end)), reason


def _cut(pieces: Iterable[str], end: int) -> Iterator[str]:
    """The pieces that make up the first `end` characters."""
    for piece in pieces:
        if end <= 0:
            return
        yield piece[:end]
        end -= len(piece)


def _senseless(name: str, allowed: str, value: object) -> ModelFailed:
    return ModelFailed(
        FailureKind.BAD_RESPONSE,
        f"The scripted model's parameter {name!r} must be {allowed}; it is {value!r}.",
    )
