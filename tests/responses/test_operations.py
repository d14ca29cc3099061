"""What /openapi.json says of the endpoint is what it does."""

from __future__ import annotations

import pytest

from opensoul.adapters.transports.openai.responses.operations import EVENTS
from opensoul.adapters.transports.routes import SCHEMA_REF
from opensoul.domain.models import ModelFinished, ReasoningDelta, StopReason, TextDelta, Usage
from tests.http.app import Harness
from tests.http.test_openapi import answer_of, made, problems

from .client import RESPONSES, ResponsesClient, events_of
from .test_streams import TOOL, call_of

EVENT = {"$ref": SCHEMA_REF.format(model="ResponseStreamEvent")}


async def test_every_example_of_a_request_is_answered_as_described(
    gateway: Harness, client: ResponsesClient
) -> None:
    whole = made(gateway)
    content = whole["paths"][RESPONSES]["post"]["requestBody"]["content"]["application/json"]

    assert len(content["examples"]) == 5
    for name, example in content["examples"].items():
        reply = await client.post(example["value"])
        assert reply.status == 200, (name, reply.body)
        if example["value"].get("stream"):
            assert [p for event in events_of(reply) for p in problems(event, EVENT, whole)] == []
        else:
            assert problems(reply.json, answer_of(whole, RESPONSES, "post", 200), whole) == []


@pytest.mark.parametrize("stream", [False, True])
async def test_answers_of_every_kind_fit_their_schemas(
    gateway: Harness, client: ResponsesClient, stream: bool
) -> None:
    whole = made(gateway)
    cut = ModelFinished(StopReason.LENGTH, Usage(1, 2, estimated=True))
    for script in ((ReasoningDelta("Hm."), TextDelta("Well"), cut), call_of()):
        gateway.model.script = script
        reply = await client.respond(stream=stream, tools=[TOOL])
        if stream:
            events = events_of(reply)
            assert {event["type"] for event in events} <= {*EVENTS}
            assert [p for event in events for p in problems(event, EVENT, whole)] == []
        else:
            assert problems(reply.json, answer_of(whole, RESPONSES, "post", 200), whole) == []


async def test_every_header_of_the_family_in_an_answer_is_described(
    gateway: Harness, client: ResponsesClient
) -> None:
    described = made(gateway)["paths"][RESPONSES]["post"]["responses"]["200"]["headers"]

    for reply in (await client.respond(user="a", odd=1), await client.respond(stream=True)):
        sent = {name.lower() for name in reply.headers if name.lower().startswith("x-opensoul-")}
        assert sent <= described.keys()
        assert "x-opensoul-run-id" in sent


def test_the_request_has_every_field_that_is_read(gateway: Harness) -> None:
    operation = made(gateway)["paths"][RESPONSES]["post"]
    fields = operation["requestBody"]["content"]["application/json"]["schema"]["properties"]

    assert {
        *("input", "instructions", "model", "tools", "tool_choice", "text", "reasoning"),
        *("max_output_tokens", "max_tool_calls", "metadata", "store", "previous_response_id"),
        *("conversation", "background", "truncation", "include", "stream", "user"),
    } <= fields.keys()
