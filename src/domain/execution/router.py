"""One model call: the candidates in their order, fallbacks, cooldowns and a history that fits."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncGenerator, Mapping, Sequence
from contextlib import aclosing
from dataclasses import dataclass, field, replace
from functools import partial
from typing import assert_never

from ..concurrency import LARGE, off_loop
from ..errors import FailureKind, ModelFailed
from ..immutable import immutable
from ..messages import Message, Part, Reasoning, Role, Text, ToolCall
from ..models import (
    Cooldowns,
    ModelEvent,
    ModelFinished,
    ModelRequest,
    ModelTarget,
    ReasoningDelta,
    ReasoningSigned,
    StopReason,
    TextDelta,
    ToolCallDelta,
    Usage,
)
from ..ports import ModelClient
from ..runs import CONTENT
from ..sessions import (
    Transcript,
    estimate,
    estimate_all,
    fitting,
    introduced,
    newest_that_fit,
    repaired,
    summary_tokens,
)
from ..tools import ToolSpec
from .pictures import able_targets, without_pictures

logger = logging.getLogger(__name__)
content_log = logging.getLogger(CONTENT)

# A provider's text about these may repeat parts of the conversation; it goes to the content log.
_MAY_QUOTE = frozenset(
    {FailureKind.BAD_REQUEST, FailureKind.CONTEXT_TOO_LONG, FailureKind.BAD_RESPONSE}
)
_LIMIT_PARAMS = ("max_completion_tokens", "max_tokens")
_TOOL_PARAMS = ("tool_choice", "parallel_tool_calls")
"""Providers refuse them where no tool is offered."""


@immutable(frozen=True, slots=True)
class Prompt:
    """What a call sends, whichever model answers. `run_id` and `agent_id` are for the log.

    `system` and `messages` are never cut; `history` is, to what the model's window can hold.
    `drops_calls`: tool calls are left out of the answer, although no tool is offered.
    `can_compact`: the caller makes the history shorter when the call raises HistoryTooLong.
    """

    run_id: str
    agent_id: str
    models: tuple[ModelTarget, ...]
    system: tuple[Message, ...]
    history: Transcript
    messages: tuple[Message, ...]
    params: Mapping[str, object]
    tools: tuple[ToolSpec, ...] = ()
    drops_calls: bool = False
    can_compact: bool = False

    @property
    def size(self) -> int:
        """Tokens that the call takes without any history, as `estimate` counts."""
        return estimate_all(self.system) + estimate_all(self.messages)

    def room(self, target: ModelTarget, size: int) -> int:
        """Tokens left for history in the target's window; `size` is that of this prompt."""
        return max(0, target.context_window - self._answer_tokens(target) - size)

    def room_to_fill(self, target: ModelTarget, size: int, reserve: int) -> int:
        """The same, where `reserve` tokens of the window stay free, but at most a quarter."""
        reserve = min(reserve, target.context_window // 4)
        reserve = max(reserve, self._answer_tokens(target))
        return max(0, target.context_window - reserve - size)

    def without_tools(self) -> Prompt:
        """The same call for an answer without tools; a call of one is left out of the answer."""
        params = {k: v for k, v in self.params.items() if k not in _TOOL_PARAMS}
        return replace(self, params=params, tools=(), drops_calls=True)

    def _answer_tokens(self, target: ModelTarget) -> int:
        for name in _LIMIT_PARAMS:
            limit = self.params.get(name)
            if isinstance(limit, int):
                return min(limit, target.context_window)
        return min(target.max_tokens, target.context_window // 2)


@immutable(frozen=True, slots=True)
class ModelAnswer:
    """The end of a call: the complete message. `model` is `provider/model`. `called_tool`: the
    model called a tool, and the call was left out."""

    message: Message
    stop: StopReason
    usage: Usage
    model: str
    called_tool: bool = False
    stop_sequence: str = ""


class HistoryTooLong(Exception):
    """The provider refuses the call as too long, and its history can be made shorter."""


RouterEvent = TextDelta | ReasoningDelta | ModelAnswer


class ModelRouter:
    """Calls the models of a prompt, in order, until one gives its first token.

    After the first token a failure is final: the text cannot be taken back. Only failures of the
    model or its provider lead to a fallback and a cooldown; a refused request ends the call, and an
    error of this process is none of a model. `clients` are by the name of their API.
    """

    def __init__(self, *, clients: Mapping[str, ModelClient], cooldowns: Cooldowns) -> None:
        self._clients = clients
        self._cooldowns = cooldowns
        self._assembling = asyncio.Lock()

    async def call(self, prompt: Prompt) -> AsyncGenerator[Sequence[RouterEvent]]:
        """The events of the answer, in non-empty batches; the last event is ModelAnswer.

        Raises ModelFailed: that of the only model, of the one that had begun to answer, or of all;
        HistoryTooLong instead, where the prompt says that its caller can do something about it.
        """
        failures: dict[str, ModelFailed] = {}
        for target in able_targets(self._cooldowns.order(prompt.models), prompt.messages):
            attempt = _Attempt(offered=bool(prompt.tools), drops_calls=prompt.drops_calls)
            history = self._history(prompt, target)
            while True:
                said: tuple[Message, ...] = (*history, *prompt.messages)
                if prompt.history.summary is not None:
                    said = introduced(prompt.history.summary, said)
                said = repaired(said)
                if "image" not in target.inputs:
                    said = without_pictures(said)
                messages = (*prompt.system, *said)
                request = ModelRequest(target, messages, prompt.params, prompt.tools)
                client = self._clients[target.provider.api]
                try:
                    async with aclosing(client.stream(request)) as answer:
                        async for events in answer:
                            # Most batches are small, and a call for each costs every token.
                            if attempt.length < LARGE:
                                batch = attempt.read(events, request)
                            else:
                                batch = await self._read(attempt, events, request)
                            if attempt.answered:
                                # Before the batch is yielded: the reader closes this generator.
                                self._cooldowns.succeeded(target)
                            if batch:
                                yield batch
                            if attempt.called_unasked:
                                raise _unasked_call(target)
                except ModelFailed as failure:
                    too_long = failure.kind is FailureKind.CONTEXT_TOO_LONG
                    if too_long and prompt.can_compact and not attempt.began:
                        raise HistoryTooLong from failure
                    if too_long and history and not attempt.began:
                        # The estimate was wrong: halve the history, at last leave it out.
                        history = newest_that_fit(history, estimate_all(history) // 2)
                        continue
                    self._note(prompt, target, failure)
                    failures[target.ref] = failure
                    if attempt.began or failure.kind is FailureKind.BAD_REQUEST:
                        raise
                    break
                else:
                    return
        raise _all_failed(prompt, failures)

    def _history(self, prompt: Prompt, target: ModelTarget) -> tuple[Message, ...]:
        messages = prompt.history.messages
        if not messages:
            return messages
        room = prompt.room(target, prompt.size)
        if prompt.history.summary is not None:
            room -= summary_tokens(prompt.history.summary)
        return fitting(prompt.history, room, len(messages)).messages

    async def _read(
        self, attempt: _Attempt, events: Sequence[ModelEvent], request: ModelRequest
    ) -> list[RouterEvent]:
        """The router's events for a batch of a large answer, which is assembled in a thread, one
        after the other: many of them may end at the same time, and each takes a while."""
        if not isinstance(events[-1], ModelFinished):
            return attempt.read(events, request)
        async with self._assembling:
            return await off_loop(attempt.length, partial(attempt.read, events, request))

    def _note(self, prompt: Prompt, target: ModelTarget, failure: ModelFailed) -> None:
        self._cooldowns.failed(target, failure)
        fields = {
            "run": prompt.run_id,
            "agent": prompt.agent_id,
            "model": target.ref,
            "kind": failure.kind.value,
            "status": failure.status,
            "reason": failure.reason,
        }
        if failure.detail and failure.kind not in _MAY_QUOTE:
            fields["detail"] = failure.detail
        logger.warning("model call failed", extra=fields)
        said = {"run": prompt.run_id, "said": failure.message, "detail": failure.detail}
        content_log.info("what the provider said", extra=said)


@dataclass(slots=True)
class _Attempt:
    """The answer of one candidate so far."""

    text: list[str] = field(default_factory=list)
    reasoning: list[str] = field(default_factory=list)
    """Since the last signature."""
    signed: list[Reasoning] = field(default_factory=list)
    length: int = 0
    """Characters of all."""
    offered: bool = False
    """Tools were offered to the model."""
    drops_calls: bool = False
    dropped_call: bool = False
    called_unasked: bool = False
    """It has called a tool, and none was offered."""
    calls: dict[int, list[str]] = field(default_factory=dict)
    """The id, the name and the pieces of the arguments of each call, by its index."""
    answered: bool = False

    @property
    def began(self) -> bool:
        # A tool call has not been yielded yet.
        return bool(self.text or self.reasoning or any(part.text for part in self.signed))

    def read(self, events: Sequence[ModelEvent], request: ModelRequest) -> list[RouterEvent]:
        """The router's events for these, none behind the call of a tool."""
        batch: list[RouterEvent] = []
        for event in events:
            match event:
                case TextDelta():
                    if event.text:  # Else no token yet: a fallback may still take over.
                        self.text.append(event.text)
                        self.length += len(event.text)
                        batch.append(event)
                case ReasoningDelta():
                    if event.text:
                        self.reasoning.append(event.text)
                        self.length += len(event.text)
                        batch.append(event)
                case ReasoningSigned(signature=signature, redacted=redacted):
                    text = "" if redacted else "".join(self.reasoning)
                    if not redacted:
                        self.reasoning.clear()
                    model = request.target.ref
                    self.signed.append(Reasoning(text, signature, model, redacted))
                case ToolCallDelta() if self.offered:
                    self._add_to_call(event)
                case ToolCallDelta() if self.drops_calls:
                    self.dropped_call = True
                case ToolCallDelta():
                    self.called_unasked = True
                    break
                case ModelFinished(stop=stop, usage=usage, stop_sequence=sequence):
                    answer = self.message()
                    counted = usage or _estimated(request, answer)
                    ref, dropped = request.target.ref, self.dropped_call
                    batch.append(ModelAnswer(answer, stop, counted, ref, dropped, sequence))
                    self.answered = True
                    break  # Nothing may come behind it.
                case _:
                    assert_never(event)
        return batch

    def _add_to_call(self, delta: ToolCallDelta) -> None:
        call = self.calls.setdefault(delta.index, ["", ""])
        call[0] = call[0] or delta.id or ""
        call[1] += delta.name or ""
        call.append(delta.arguments)
        self.length += len(delta.arguments)

    def message(self) -> Message:
        parts: list[Part] = [*self.signed]
        if self.reasoning:
            parts.append(Reasoning("".join(self.reasoning)))
        if self.text or not self.calls:
            parts.append(Text("".join(self.text)))
        used: set[str] = set()
        for index in sorted(self.calls):
            call_id, name, *arguments = self.calls[index]
            if not call_id or call_id in used:
                call_id = f"call_{index}"  # Each call of a step needs an id of its own.
            used.add(call_id)
            parts.append(ToolCall(call_id, name, "".join(arguments) or "{}"))
        return Message(Role.ASSISTANT, tuple(parts))


def _unasked_call(target: ModelTarget) -> ModelFailed:
    return ModelFailed(
        FailureKind.BAD_RESPONSE,
        f"The model {target.ref} called a tool, but none was offered to it.",
    )


def _estimated(request: ModelRequest, answer: Message) -> Usage:
    return Usage(estimate_all(request.messages), estimate(answer), estimated=True)


def _all_failed(prompt: Prompt, failures: Mapping[str, ModelFailed]) -> ModelFailed:
    """The failure of the primary model, with those of the others in its message."""
    if not failures:
        return ModelFailed(FailureKind.BAD_RESPONSE, f"The agent {prompt.agent_id!r} has no model.")
    primary = failures[prompt.models[0].ref]
    if len(failures) == 1:
        return primary
    reasons = " | ".join(
        f"{ref}: {failure.message} ({failure.kind})" for ref, failure in failures.items()
    )
    return ModelFailed(
        primary.kind,
        f"All models failed ({len(failures)}): {reasons}",
        status=primary.status,
        retry_after=primary.retry_after,
        param=primary.param,
    )
