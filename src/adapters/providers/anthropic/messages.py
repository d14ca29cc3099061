"""Converts a conversation into the `system` and `messages` of a call.

Content blocks are encoded one by one, so that those of a message can be cached for later calls.
"""

from __future__ import annotations

import re
from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace

import orjson

from ....domain.messages import Image, Message, Part, Reasoning, Role, Text, ToolCall
from ..http import PerMessage, json_text

_NOT_IN_ID = re.compile(r"[^a-zA-Z0-9_-]")
_CACHED_TURNS = 2
"""User messages with a cache breakpoint: the last one, whose cache the next call reads, and the one
before, because a provider searches only 20 blocks before a breakpoint for a cached prefix."""

Blocks = tuple[bytes, ...]
"""Content blocks, each as a JSON object."""


@dataclass(slots=True)
class _Turn:
    """A message of the API. Results of tools must precede other content."""

    role: str
    results: list[bytes] = field(default_factory=list)
    content: list[bytes] = field(default_factory=list)

    def encoded(self, cache: bytes) -> bytes:
        blocks = with_cache([*self.results, *self.content], cache)
        return b'{"role":"%s","content":[%s]}' % (self.role.encode(), b",".join(blocks))


@dataclass(slots=True)
class _CallIds:
    """The ids of calls, which must be unique in a conversation and consist of few characters.

    Other providers may number the calls of each answer anew.
    """

    used: set[str] = field(default_factory=set)
    waiting: dict[str, deque[str]] = field(default_factory=dict)
    """The ids under which calls without a result so far were sent, by their own ids."""

    def of_calls(self, calls: Sequence[ToolCall]) -> list[str]:
        return [self._of_call(call) for call in calls]

    def of_result(self, call_id: str) -> str:
        waiting = self.waiting.get(call_id)
        return waiting.popleft() if waiting else _plain_id(call_id)

    def _of_call(self, call: ToolCall) -> str:
        plain = sent = _plain_id(call.id)
        number = 1
        while sent in self.used:
            number += 1
            sent = f"{plain}_{number}"
        self.used.add(sent)
        self.waiting.setdefault(call.id, deque()).append(sent)
        return sent


class Conversation:
    """The messages of a call. `model` is the `provider/model` that is called.

    A model gets the reasoning back that it signed since the last question: a provider may require
    it while tools are called, and ignores or refuses older reasoning.
    """

    def __init__(self, messages: Sequence[Message], model: str, blocks: PerMessage[Blocks]) -> None:
        self._model = model
        self._blocks = blocks
        self.system: list[bytes] = []
        self.called: set[str] = set()
        """The names of the tools that were called."""
        self.lacks_reasoning = False
        """An answer with calls since the last question has no reasoning of this model."""
        self._turns: list[_Turn] = []
        ids = _CallIds()
        asked = _last_question(messages)
        for number, message in enumerate(messages):
            if message.role is Role.SYSTEM:
                self.system += blocks(message)
            elif message.role is Role.ASSISTANT:
                if number == len(messages) - 1:
                    message = _without_space_at_its_end(message)
                self._add_answer(message, ids, since_question=number > asked)
            elif message.role is Role.TOOL:
                call_id = ids.of_result(message.tool_call_id or "")
                self._turn("user").results.append(_result(call_id, message, blocks(message)))
            elif content := blocks(message):
                self._turn("user").content += content

    def messages(self, cache: bytes) -> bytes:
        """The JSON array. `cache`: the `cache_control` of the last user messages; may be empty."""
        users = [number for number, turn in enumerate(self._turns) if turn.role == "user"]
        cached = users[-_CACHED_TURNS:]
        turns = [
            turn.encoded(cache if number in cached else b"")
            for number, turn in enumerate(self._turns)
        ]
        return b"[" + b",".join(turns) + b"]"

    def _add_answer(self, message: Message, ids: _CallIds, *, since_question: bool) -> None:
        calls = [part for part in message.parts if isinstance(part, ToolCall)]
        self.called.update(call.name for call in calls)
        sent = ids.of_calls(calls)
        if all(call.id == call_id for call, call_id in zip(calls, sent, strict=True)):
            content = self._blocks(message)
        else:
            content = blocks_of(message, sent)
        if since_question:
            reasoning = tuple(_signed(message, self._model))
            self.lacks_reasoning |= bool(calls) and not reasoning
            content = reasoning + content
        if content:
            self._turn("assistant").content += content

    def _turn(self, role: str) -> _Turn:
        """The turn to add content of this role to: roles alternate."""
        if not self._turns or self._turns[-1].role != role:
            self._turns.append(_Turn(role))
        return self._turns[-1]


def blocks_of(message: Message, call_ids: Sequence[str] | None = None) -> Blocks:
    """The content of a message. `call_ids`: those of its calls, if they are not its own.

    A text without visible characters is left out, because the API refuses it.
    """
    ids = iter(call_ids or [_plain_id(p.id) for p in message.parts if isinstance(p, ToolCall)])
    # Copied, because orjson's result is over-allocated by some kilobytes.
    return tuple(
        bytes(memoryview(orjson.dumps(block)))
        for part in message.parts
        if (block := _block(part, ids)) is not None
    )


def with_cache(blocks: Sequence[bytes], cache: bytes) -> Sequence[bytes]:
    """The blocks, the last one with `cache` as its `cache_control`."""
    if not cache or not blocks:
        return blocks
    return [*blocks[:-1], blocks[-1][:-1] + b',"cache_control":%s}' % cache]


def _block(part: Part, call_ids: Iterator[str]) -> dict[str, object] | None:
    match part:
        case Text(text=text):
            return {"type": "text", "text": text} if text.strip() else None
        case Image(data=data, mime=mime):
            source = {"type": "base64", "media_type": mime, "data": data}
            return {"type": "image", "source": source}
        case ToolCall(name=name, arguments=arguments):
            value = _input(arguments)
            return {"type": "tool_use", "id": next(call_ids), "name": name, "input": value}
        case Reasoning():
            return None


def _input(arguments: str) -> object:
    """The arguments as the object that the API requires. What the model wrote instead of one was
    refused, and the answer to it makes sense only beside it."""
    value = json_text.loads(arguments.encode("utf-8", "replace"))
    if isinstance(value, dict):
        return value
    return {"invalid_arguments": arguments} if arguments.strip() else {}


def _result(call_id: str, message: Message, content: Blocks) -> bytes:
    value: dict[str, object] = {"type": "tool_result", "tool_use_id": call_id}
    if content:
        value["content"] = orjson.Fragment(b"[" + b",".join(content) + b"]")
    if message.is_error:
        value["is_error"] = True
    return orjson.dumps(value)


def _signed(message: Message, model: str) -> Iterator[bytes]:
    for part in message.parts:
        if isinstance(part, Reasoning) and part.signature and part.model == model:
            if part.redacted:
                yield orjson.dumps({"type": "redacted_thinking", "data": part.signature})
            else:
                block = {"type": "thinking", "thinking": part.text, "signature": part.signature}
                yield orjson.dumps(block)


def _last_question(messages: Sequence[Message]) -> int:
    """The number of the last message of a user that is not added to results of tools."""
    last = before = len(messages) - 1
    while last >= 0:
        while before >= 0 and messages[before].role is Role.USER:
            before -= 1
        if before < last and (before < 0 or messages[before].role is not Role.TOOL):
            return last
        last = before = before - (before == last)
    return -1


def _without_space_at_its_end(message: Message) -> Message:
    """The beginning of an answer to go on with, which the API refuses with white space at its
    end."""
    *before, last = message.parts or (Text(""),)
    if not isinstance(last, Text) or last.text == last.text.rstrip():
        return message
    return replace(message, parts=(*before, Text(last.text.rstrip())))


def _plain_id(call_id: str) -> str:
    return _NOT_IN_ID.sub("_", call_id) or "call"
