"""A fake model with fixed rules, for tests and demonstrations.

It repeats the last user message (`[scripted] You said: ...`) or follows a script. A script
consists of parameters of the model in the configuration; requests cannot set them:

    reply   the text of the answer
    chunks  a list of texts, each streamed as one delta
    delay   seconds between deltas
    fail    a FailureKind ("rate_limit", "timeout", ...) with which every call fails
    script  a script that calls tools (see `scripted_calls`)

Where tools are offered, a user's message with a line `/call NAME ARGUMENTS` is a script too; the
parameter `script` takes precedence. Without tools, a script has no effect.

Every answer begins with the label, which distinguishes it from a language model's answer. Words
count as tokens, for `max_tokens` and for usage. `stop` is applied; all other model parameters are
accepted and ignored.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncGenerator, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from ...domain.errors import FailureKind, ModelFailed
from ...domain.messages import Message, Role, ToolCall
from ...domain.models import (
    ModelEvent,
    ModelFinished,
    ModelRequest,
    StopReason,
    TextDelta,
    ToolCallDelta,
    Usage,
)
from .scripted_calls import ScriptStep, is_script, next_step

LABEL = "[scripted] "
_WORD = re.compile(r"\S+\s*|\s+")


class Scripted:
    """The ModelClient of the API `scripted`. It is stateless."""

    async def stream(self, request: ModelRequest) -> AsyncGenerator[Sequence[ModelEvent]]:
        """Implements ModelClient; yields one delta per word, or per chunk of the script."""
        script = _Script.of(request)
        if script.fail is not None:
            raise ModelFailed(
                script.fail, f"The scripted model is configured to fail: {script.fail}."
            )
        params = {**dict(request.target.params), **request.params}
        pieces, stop = _within(script.pieces, params)
        spent = 0
        for piece in pieces:
            if spent:
                await asyncio.sleep(script.delay)
            yield (TextDelta(piece),)
            spent += len(piece.split())
        for number, (name, arguments) in enumerate(script.calls if stop is StopReason.STOP else ()):
            yield (ToolCallDelta(number, script.call_id(number), name, arguments),)
            spent += len(arguments.split()) + 1
        if script.calls and stop is StopReason.STOP:
            stop = StopReason.TOOL_CALLS
        read = sum(len(message.text.split()) for message in request.messages)
        yield (ModelFinished(stop, Usage(read, spent)),)

    async def close(self) -> None:
        """Does nothing."""


@dataclass(frozen=True, slots=True)
class _Script:
    pieces: tuple[str, ...]
    delay: float
    fail: FailureKind | None
    calls: tuple[tuple[str, str], ...] = ()
    earlier_calls: int = 0
    """How many calls there are in the conversation."""

    def call_id(self, number: int) -> str:
        """The id of a call, which is unique in the conversation."""
        return f"call_{self.earlier_calls + number + 1}"

    @classmethod
    def of(cls, request: ModelRequest) -> _Script:
        """The script of the request's target. Raises ModelFailed if a parameter is invalid."""
        params = dict(request.target.params)
        delay = params.get("delay", 0.0)
        if isinstance(delay, bool) or not isinstance(delay, int | float) or not 0 <= delay <= 3600:
            raise _invalid("delay", "a number of seconds from 0 to 3600", delay)
        fail = params.get("fail")
        if fail is not None and fail not in list(FailureKind):
            raise _invalid("fail", "one of " + ", ".join(FailureKind), fail)
        step = _step(params, request)
        failure = None if fail is None else FailureKind(str(fail))
        if step is None:
            pieces = (LABEL, *_pieces(params, request.messages))
            return cls(pieces, float(delay), failure)
        earlier = sum(isinstance(part, ToolCall) for one in request.messages for part in one.parts)
        pieces = (LABEL, *_WORD.findall(step.text)) if step.text or not step.calls else ()
        return cls(pieces, float(delay), failure, step.calls, earlier)


def _step(params: Mapping[str, object], request: ModelRequest) -> ScriptStep | None:
    """The next step of a script that calls tools; None where there is none, or no tool."""
    script = params.get("script")
    if script is not None and not isinstance(script, str):
        raise _invalid("script", "a text", script)
    if not request.tools:
        return None
    script = script or _last_user_text(request.messages)
    return next_step(script, request.messages) if is_script(script) else None


def _pieces(params: Mapping[str, object], messages: tuple[Message, ...]) -> tuple[str, ...]:
    chunks = params.get("chunks")
    if isinstance(chunks, list | tuple) and all(isinstance(chunk, str) for chunk in chunks):
        return tuple(chunk for chunk in chunks if chunk)
    if chunks is not None:
        raise _invalid("chunks", "a list of texts", chunks)
    reply = params.get("reply", f"You said: {_last_user_text(messages)}")
    if not isinstance(reply, str):
        raise _invalid("reply", "a text", reply)
    return tuple(_WORD.findall(reply))


def _last_user_text(messages: tuple[Message, ...]) -> str:
    texts = (message.text for message in reversed(messages) if message.role is Role.USER)
    return next(texts, "")


def _within(
    pieces: tuple[str, ...], params: Mapping[str, object]
) -> tuple[tuple[str, ...], StopReason]:
    """The pieces up to the token limit or the stop text, whichever comes first, after the label."""
    if not pieces:
        return (), StopReason.STOP
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
    """The pieces of the first `end` characters."""
    for piece in pieces:
        if end <= 0:
            return
        yield piece[:end]
        end -= len(piece)


def _invalid(name: str, allowed: str, value: object) -> ModelFailed:
    return ModelFailed(
        FailureKind.BAD_RESPONSE,
        f"The scripted model's parameter {name!r} must be {allowed}; it is {value!r}.",
    )
