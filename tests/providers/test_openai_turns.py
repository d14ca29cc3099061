"""A turn of an agent over a real socket: what its provider's answer means for the conversation."""

from __future__ import annotations

from contextlib import aclosing
from dataclasses import replace
from typing import Any

import orjson
import pytest

from opensoul.adapters.persistence.memory import MemoryApprovals
from opensoul.adapters.providers.openai.client import OpenAICompletions
from opensoul.adapters.tools import EmptyToolbox
from opensoul.domain.errors import ModelFailed
from opensoul.domain.execution.loop import TurnLoop
from opensoul.domain.execution.router import ModelRouter
from opensoul.domain.models.calls import ModelTarget, StopReason
from opensoul.domain.models.cooldowns import Cooldowns
from opensoul.domain.ports import RunContext, Transcript
from opensoul.domain.runs.events import Answered
from tests.fakes import behaviours as fake
from tests.fakes.behaviours import Behaviour, chunk
from tests.fakes.domain import FakeClock, agent, assistant, run, user
from tests.fakes.provider import FakeProvider

from .answers import DONE, event
from .calls import call

HISTORY = (user("first"), assistant("one"), user("second"), assistant("two"))
TOO_LONG = {"code": 400, "message": "the request exceeds the available context size"}
STOP = event(chunk({}, "stop"))


def targets(provider: FakeProvider) -> tuple[ModelTarget, ModelTarget]:
    first = call(provider.base_url).target
    return first, replace(first, model="fallback")


async def turn(client: OpenAICompletions, cooldowns: Cooldowns, *models: ModelTarget) -> Answered:
    loop = TurnLoop(
        ModelRouter(clients={"openai-completions": client}, cooldowns=cooldowns),
        EmptyToolbox(),
        MemoryApprovals(),
        clock=FakeClock(),
    )
    asked = RunContext(run(), agent("main", *models, instructions=""), Transcript(HISTORY))
    async with aclosing(loop.run(asked)) as events:
        last = [event async for several in events for event in several][-1]
    assert isinstance(last, Answered)
    return last


OVERFLOWS = [
    b"event: error\ndata: " + orjson.dumps(TOO_LONG) + b"\n\n",
    b"error: " + orjson.dumps(TOO_LONG) + b"\n\n",
    event({"code": 400, "msg": TOO_LONG["message"]}),
    event({"base_resp": {"status_code": 2013, "status_msg": "context window exceeds limit"}}),
    orjson.dumps({"code": 400, "msg": TOO_LONG["message"]}),
]


@pytest.mark.parametrize("body", OVERFLOWS)
async def test_a_history_too_long_is_halved_however_the_provider_says_so(
    provider: FakeProvider, client: OpenAICompletions, body: bytes
) -> None:
    provider.will(fake.raw(body), fake.answer("Hello"))
    answered = await turn(client, Cooldowns(FakeClock()), targets(provider)[0])
    assert answered.messages[0].text == "Hello"
    assert [len(request.json["messages"]) for request in provider.requests] == [5, 3]


EMPTY: list[tuple[Behaviour, StopReason, str]] = [
    (fake.answer(finish_reason="length"), StopReason.LENGTH, ""),
    (fake.answer(finish_reason="content_filter"), StopReason.CONTENT_FILTER, ""),
    (fake.answer(finish_reason="length", reasoning=["hm"]), StopReason.LENGTH, ""),
    (
        fake.raw(event(chunk({"content": "a"})), event(chunk({"tool_calls": [{}]}, "stop")), DONE),
        StopReason.STOP,
        "a",
    ),
]


@pytest.mark.parametrize(("behaviour", "stop", "text"), EMPTY)
async def test_an_answer_that_is_empty_by_the_providers_word_is_one_and_costs_no_cooldown(
    provider: FakeProvider,
    client: OpenAICompletions,
    behaviour: Behaviour,
    stop: StopReason,
    text: str,
) -> None:
    provider.will(behaviour)
    cooldowns, models = Cooldowns(FakeClock()), targets(provider)
    answered = await turn(client, cooldowns, *models)
    assert (answered.stop, answered.messages[0].text) == (stop, text)
    assert answered.model == models[0].ref
    assert cooldowns.order(models) == list(models)


@pytest.mark.parametrize(
    "document", [{"choices": [{"output": "Hello", "finish_reason": "stop"}]}, {"response": "Hello"}]
)
async def test_an_answer_in_no_known_form_goes_to_the_fallback(
    provider: FakeProvider, client: OpenAICompletions, document: dict[str, Any]
) -> None:
    odd = fake.raw(event(document), STOP, DONE)
    provider.will(odd, fake.answer("Hello"), odd)
    models = targets(provider)
    answered = await turn(client, Cooldowns(FakeClock()), *models)
    assert answered.model == models[1].ref
    with pytest.raises(ModelFailed, match="not a chat completion; it contains"):
        await turn(client, Cooldowns(FakeClock()), models[0])
