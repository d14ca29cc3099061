"""The native AgentRunner: one turn against the agent's model, or the fallbacks behind it."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncGenerator, Mapping, Sequence
from contextlib import aclosing
from dataclasses import dataclass, field
from functools import partial
from typing import assert_never

from ..concurrency import LARGE, off_loop
from ..errors import FailureKind, ModelFailed
from ..messages import Message, Part, Reasoning, Role, Text, text_message
from ..models import (
    Cooldowns,
    ModelEvent,
    ModelFinished,
    ModelRequest,
    ModelTarget,
    ReasoningDelta,
    TextDelta,
    ToolCallDelta,
    Usage,
)
from ..ports import ModelClient, RunContext
from ..runs import CONTENT, Answered, RunnerEvent
from ..sessions import estimate, estimate_all, fitting, newest_that_fit, repaired

logger = logging.getLogger(__name__)
content_log = logging.getLogger(CONTENT)

# What a provider says of these may repeat parts of the conversation; it goes to the content log.
_MAY_QUOTE = frozenset(
    {FailureKind.BAD_REQUEST, FailureKind.CONTEXT_TOO_LONG, FailureKind.BAD_RESPONSE}
)
_LIMIT_PARAMS = ("max_completion_tokens", "max_tokens")


class AgentLoop:
    """Answers with the agent's models, in order, until one gives its first token.

    After the first token there is no way back: a failure then is the run's failure. `clients` are
    by the name of their API.
    """

    def __init__(self, *, clients: Mapping[str, ModelClient], cooldowns: Cooldowns) -> None:
        self._clients = clients
        self._cooldowns = cooldowns
        self._putting_together = asyncio.Lock()

    def history_budget(self, context: RunContext) -> int:
        own = _question(context)
        return max((_room(target, context, own) for target in context.agent.models), default=0)

    async def run(self, context: RunContext) -> AsyncGenerator[Sequence[RunnerEvent]]:
        failures: dict[str, ModelFailed] = {}
        for target in self._cooldowns.order(context.agent.models):
            attempt = _Attempt()
            try:
                async with aclosing(self._try(target, context, attempt)) as events:
                    async for told in events:
                        if attempt.answered:
                            # Before it is told: who has the answer closes the stream.
                            self._cooldowns.succeeded(target)
                        yield told
            except ModelFailed as failure:
                self._note(context, target, failure)
                failures[target.ref] = failure
                if attempt.spoke or failure.kind is FailureKind.BAD_REQUEST:
                    raise
            else:
                return
        raise _all_failed(context, failures)

    async def _try(
        self, target: ModelTarget, context: RunContext, attempt: _Attempt
    ) -> AsyncGenerator[Sequence[RunnerEvent]]:
        """One candidate. A history that turns out too long is halved, at last left out."""
        history = context.transcript.messages
        if history:
            room = _room(target, context, _question(context))
            history = fitting(context.transcript, room, len(history)).messages
        while True:
            messages = (*_system(context), *repaired((*history, *context.spec.messages)))
            request = ModelRequest(target, messages, context.spec.params)
            try:
                async with aclosing(self._clients[target.provider.api].stream(request)) as answer:
                    async for events in answer:
                        if told := await self._heard(attempt, events, request):
                            yield told
                        if attempt.called:
                            raise _unasked_call(target)
            except ModelFailed as failure:
                if failure.kind is not FailureKind.CONTEXT_TOO_LONG or not history or attempt.spoke:
                    raise
                history = newest_that_fit(history, estimate_all(history) // 2)
            else:
                return

    async def _heard(
        self, attempt: _Attempt, events: Sequence[ModelEvent], request: ModelRequest
    ) -> list[RunnerEvent]:
        """The runner's events for these. A large answer is put together in a thread, one after
        the other: many of them may end at the same time, and each takes a while."""
        if attempt.length < LARGE or not isinstance(events[-1], ModelFinished):
            return attempt.hear(events, request)
        async with self._putting_together:
            return await off_loop(attempt.length, partial(attempt.hear, events, request))

    def _note(self, context: RunContext, target: ModelTarget, failure: ModelFailed) -> None:
        self._cooldowns.failed(target, failure)
        facts = {
            "run": context.spec.id,
            "agent": context.agent.id,
            "model": target.ref,
            "kind": failure.kind.value,
            "status": failure.status,
            "reason": failure.reason,
        }
        if failure.detail and failure.kind not in _MAY_QUOTE:
            facts["detail"] = failure.detail
        logger.warning("model call failed", extra=facts)
        said = {"run": context.spec.id, "said": failure.message, "detail": failure.detail}
        content_log.info("what the provider said", extra=said)


@dataclass(slots=True)
class _Attempt:
    """What one candidate has said so far."""

    text: list[str] = field(default_factory=list)
    reasoning: list[str] = field(default_factory=list)
    length: int = 0
    """Characters of both."""
    called: bool = False
    """It called a tool."""
    answered: bool = False

    @property
    def spoke(self) -> bool:
        return bool(self.text or self.reasoning)

    def hear(self, events: Sequence[ModelEvent], request: ModelRequest) -> list[RunnerEvent]:
        """What is to be told of the events; nothing behind a tool's call."""
        told: list[RunnerEvent] = []
        for event in events:
            match event:
                case TextDelta():
                    if event.text:  # Else no token yet: a fallback may still take over.
                        self.text.append(event.text)
                        self.length += len(event.text)
                        told.append(event)
                case ReasoningDelta():
                    if event.text:
                        self.reasoning.append(event.text)
                        self.length += len(event.text)
                        told.append(event)
                case ToolCallDelta():
                    self.called = True
                    break
                case ModelFinished(stop=stop, usage=usage):
                    answer = self.message()
                    counted = usage or _estimated(request, answer)
                    told.append(Answered((answer,), stop, counted, request.target.ref))
                    self.answered = True
                    break  # Nothing may come behind it.
                case _:
                    assert_never(event)
        return told

    def message(self) -> Message:
        parts: list[Part] = []
        if self.reasoning:
            parts.append(Reasoning("".join(self.reasoning)))
        parts.append(Text("".join(self.text)))
        return Message(Role.ASSISTANT, tuple(parts))


def _system(context: RunContext) -> tuple[Message, ...]:
    """The agent's instructions first, then the request's own layer, as one system message.

    One, because many chat templates accept a single system message at the start only.
    """
    layers = [context.agent.instructions, *(message.text for message in context.spec.instructions)]
    text = "\n\n".join(layer for layer in layers if layer.strip())
    return (text_message(Role.SYSTEM, text),) if text else ()


def _question(context: RunContext) -> int:
    """Tokens that the call takes whatever happens: system messages and the request's own."""
    return estimate_all(_system(context)) + estimate_all(context.spec.messages)


def _room(target: ModelTarget, context: RunContext, own: int) -> int:
    """Tokens left for history in the target's window, once question and answer have theirs."""
    return max(0, target.context_window - _answer_tokens(target, context) - own)


def _answer_tokens(target: ModelTarget, context: RunContext) -> int:
    for name in _LIMIT_PARAMS:
        asked = context.spec.params.get(name)
        if isinstance(asked, int):
            return min(asked, target.context_window)
    return min(target.max_tokens, target.context_window // 2)


def _unasked_call(target: ModelTarget) -> ModelFailed:
    return ModelFailed(
        FailureKind.BAD_RESPONSE,
        f"The model {target.ref} called a tool, but none was offered to it.",
    )


def _estimated(request: ModelRequest, answer: Message) -> Usage:
    return Usage(estimate_all(request.messages), estimate(answer), estimated=True)


def _all_failed(context: RunContext, failures: Mapping[str, ModelFailed]) -> ModelFailed:
    """The failure to tell of: the primary model's, with the others' named."""
    if not failures:
        return ModelFailed(
            FailureKind.BAD_RESPONSE, f"The agent {context.agent.id!r} has no model."
        )
    primary = failures[context.agent.models[0].ref]
    if len(failures) == 1:
        return primary
    told = " | ".join(
        f"{ref}: {failure.message} ({failure.kind})" for ref, failure in failures.items()
    )
    return ModelFailed(
        primary.kind,
        f"All models failed ({len(failures)}): {told}",
        status=primary.status,
        retry_after=primary.retry_after,
        param=primary.param,
    )
