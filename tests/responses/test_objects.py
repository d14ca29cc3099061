"""The response object of an answer that is not streamed."""

from __future__ import annotations

import pytest
from openai.types.responses import Response

from opensoul.adapters.transports.openai.responses import response_id, run_of_response
from opensoul.domain.models import ModelFinished, ReasoningDelta, StopReason, TextDelta, Usage
from tests.http.app import Harness

from .client import ResponsesClient, text_of


async def test_an_answer_is_one_message_in_a_response_object(
    gateway: Harness, client: ResponsesClient
) -> None:
    reply = await client.respond(instructions="Be kind.", metadata={"a": "b"}, user="ann")

    assert reply.status == 200
    run = gateway.run_log.runs[0]
    key = run.replace("-", "")
    body = reply.json
    created, completed = body.pop("created_at"), body.pop("completed_at")
    assert created <= completed
    assert body == {
        "id": f"resp_{key}",
        "object": "response",
        "status": "completed",
        "error": None,
        "incomplete_details": None,
        "background": False,
        "frequency_penalty": 0.0,
        "instructions": "Be kind.",
        "max_output_tokens": None,
        "max_tool_calls": None,
        "metadata": {"a": "b"},
        "model": "opensoul",
        "output": [
            {
                "id": f"msg_{key}",
                "type": "message",
                "status": "completed",
                "role": "assistant",
                "content": [
                    {"type": "output_text", "text": "Hello", "annotations": [], "logprobs": []}
                ],
            }
        ],
        "parallel_tool_calls": True,
        "presence_penalty": 0.0,
        "previous_response_id": None,
        "prompt_cache_key": None,
        "prompt_cache_retention": None,
        "reasoning": {"effort": None, "summary": None},
        "safety_identifier": None,
        "service_tier": "default",
        "store": True,
        "temperature": 1.0,
        "text": {"format": {"type": "text"}, "verbosity": "medium"},
        "tool_choice": "auto",
        "tools": [],
        "top_logprobs": 0,
        "top_p": 1.0,
        "truncation": "auto",
        "usage": {
            "input_tokens": 7,
            "input_tokens_details": {"cached_tokens": 0, "cache_write_tokens": 0},
            "output_tokens": 2,
            "output_tokens_details": {"reasoning_tokens": 0},
            "total_tokens": 9,
        },
        "user": "ann",
    }
    Response.model_validate_json(reply.body, strict=True)


def test_the_run_is_found_by_the_id_of_its_response() -> None:
    run = "0b5c5e52-6cd2-4f39-8d61-4a0f6b6f9a11"
    assert run_of_response(response_id(run)) == run
    assert run_of_response("resp_1") is None


async def test_reasoning_is_an_item_before_the_message(
    gateway: Harness, client: ResponsesClient
) -> None:
    end = ModelFinished(StopReason.STOP, Usage(1, 2))
    gateway.model.script = (ReasoningDelta("Hm."), TextDelta("Yes."), end)

    output = (await client.respond()).json["output"]
    assert [item["type"] for item in output] == ["reasoning", "message"]
    assert output[0]["summary"] == [{"type": "summary_text", "text": "Hm."}]

    omitted = await client.respond(headers={"x-opensoul-reasoning": "omit"})
    assert [item["type"] for item in omitted.json["output"]] == ["message"]


@pytest.mark.parametrize(
    ("stop", "status", "reason"),
    [
        (StopReason.STOP, "completed", None),
        (StopReason.LENGTH, "incomplete", {"reason": "max_output_tokens"}),
        (StopReason.CONTENT_FILTER, "incomplete", {"reason": "content_filter"}),
    ],
)
async def test_the_status_says_whether_the_answer_is_whole(
    gateway: Harness,
    client: ResponsesClient,
    stop: StopReason,
    status: str,
    reason: dict[str, str] | None,
) -> None:
    gateway.model.script = (TextDelta("Well"), ModelFinished(stop, Usage(1, 2)))

    body = (await client.respond()).json
    assert (body["status"], body["incomplete_details"]) == (status, reason)
    assert (body["completed_at"] is None) == (status == "incomplete")
    assert body["output"][0]["status"] == status
    assert text_of(body) == "Well"
