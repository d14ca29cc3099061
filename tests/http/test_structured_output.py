"""Answers in a format that the client requires, over HTTP with the real application."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import openai
import pytest
import pytest_asyncio
from openai import AsyncOpenAI
from pydantic import BaseModel

from opensoul.domain.sessions import SessionKey
from tests.app.serving import SECRET, Served, config, serving
from tests.fakes.behaviours import USAGE, Exchange, answer, chunk
from tests.fakes.provider import FakeProvider

from .test_client_tools import READ, WEATHER, call, calling

SCHEMA = {
    "type": "object",
    "properties": {"city": {"type": "string"}, "days": {"type": "integer"}},
    "required": ["city", "days"],
    "additionalProperties": False,
}
OBJECT = {"type": "json_object"}
GOOD = '{"city": "Bern", "days": 2}'
BAD = '{"city": "Bern", "days": "two"}'
TOOLS = {"tools": {"allow": ["read", "write"]}}


def strict(schema: Mapping[str, Any] = SCHEMA, **more: Any) -> dict[str, Any]:
    described = {"name": "trip", "schema": schema, "strict": True, **more}
    return {"type": "json_schema", "json_schema": described}


@asynccontextmanager
async def gateway(
    home: Path, provider: FakeProvider, *, compat: Mapping[str, Any] | None = None, **defaults: Any
) -> AsyncIterator[Served]:
    agent = {"model": {"primary": "fake/m"}, "workspace": str(home / "workspace"), **defaults}
    content = config(provider.base_url, agents={"defaults": agent}, **TOOLS)
    content["models"]["providers"]["fake"]["models"] = [{"id": "m", "compat": compat or {}}]
    async with serving(home, content) as served:
        yield served


@pytest_asyncio.fixture
async def provider() -> AsyncIterator[FakeProvider]:
    async with FakeProvider() as provider:
        yield provider


@pytest_asyncio.fixture
async def served(tmp_path: Path, provider: FakeProvider) -> AsyncIterator[Served]:
    async with gateway(tmp_path, provider) as served:
        yield served


class Reply:
    """An answer, streamed or not."""

    def __init__(self, status: int, body: str) -> None:
        self.status = status
        self.body = body
        self.text = self.reason = self.refusal = ""
        self.usage: Mapping[str, Any] = {}
        self.error: Mapping[str, Any] = {}
        self.calls: list[Any] = []
        frames = [line[6:] for line in body.split("\n") if line.startswith("data: {")]
        for whole in map(json.loads, frames or [body]):
            self.error = whole.get("error") or self.error
            self.usage = whole.get("usage") or self.usage
            for choice in whole.get("choices", ()):
                message = choice.get("delta") or choice.get("message") or {}
                self.text += message.get("content") or ""
                self.refusal += message.get("refusal") or ""
                self.calls += message.get("tool_calls") or []
                self.reason = choice["finish_reason"] or self.reason


async def ask(served: Served, *, stream: bool = False, **body: Any) -> Reply:
    options: dict[str, Any] = {"stream": True, "stream_options": {"include_usage": True}}
    async with served.ask(**body, **(options if stream else {})) as response:
        return Reply(response.status, await response.text())


both = pytest.mark.parametrize("stream", [False, True])


@both
@pytest.mark.parametrize(
    ("wanted", "text"),
    [
        (strict(), GOOD),
        (strict(), f" {GOOD}\n"),
        (OBJECT, '{"any": ["thing"]}'),
        ({"type": "json_schema", "json_schema": {"name": "n"}}, "[1]"),
        (strict(strict=False), BAD),
        ({"type": "text"}, "Hello."),
    ],
)
async def test_an_answer_in_the_format_is_sent_as_it_is(
    served: Served, provider: FakeProvider, stream: bool, wanted: Any, text: str
) -> None:
    provider.will(answer(text[:3], text[3:]))

    reply = await ask(served, response_format=wanted, stream=stream)

    assert (reply.status, reply.text, reply.reason) == (200, text, "stop")
    assert len(provider.requests) == 1
    assert provider.requests[0].json["response_format"] == wanted


@both
@pytest.mark.parametrize(
    ("wanted", "broken", "good"),
    [
        (strict(), BAD, GOOD),
        (strict(), '{"city": "Bern"', GOOD),
        (strict(), "", GOOD),
        (strict({"type": "string", "pattern": r"^\p{Lu}+$"}), '"bern"', '"BERN"'),
        (OBJECT, "[1]", "{}"),
        (OBJECT, '{"a": NaN}', "{}"),
        (OBJECT, "Sure: {}", "{}"),
        (OBJECT, "[" * 100_000, "{}"),
    ],
    ids=range(8),
)
async def test_a_broken_answer_is_repaired_once(
    served: Served, provider: FakeProvider, stream: bool, wanted: Any, broken: str, good: str
) -> None:
    provider.will(answer(broken), answer(good))

    reply = await ask(served, response_format=wanted, stream=stream)

    assert (reply.status, reply.text, reply.reason) == (200, good, "stop")
    assert reply.usage["total_tokens"] == 2 * USAGE["total_tokens"]
    repair = provider.requests[1].json
    assert repair["response_format"] == wanted
    assert "tools" not in repair
    assert "required format" in repair["messages"][-1]["content"]
    if broken:
        assert repair["messages"][-2] == {"role": "assistant", "content": broken}


@both
async def test_an_answer_that_stays_broken_is_an_error(
    served: Served, provider: FakeProvider, stream: bool
) -> None:
    provider.will(answer(BAD), answer("{"))

    async with served.ask(response_format=strict(), stream=stream) as response:
        error = (await response.json())["error"]

    assert response.status == 502
    assert (error["code"], error["type"]) == ("invalid_structured_output", "server_error")
    assert response.headers["X-Should-Retry"] == "false"
    assert len(provider.requests) == 2


async def test_an_error_after_a_keepalive_is_an_event_of_the_stream(
    tmp_path: Path, provider: FakeProvider
) -> None:
    gate = asyncio.Event()
    content = config(provider.base_url)
    content["gateway"]["http"]["endpoints"]["chatCompletions"]["keepaliveMs"] = 10
    async with serving(tmp_path, content) as served:
        provider.will(answer(BAD[:5], BAD[5:], gate=gate), answer(BAD))
        async with served.ask(response_format=strict(), stream=True) as response:
            assert await response.content.readline() == b": keepalive\n"
            gate.set()
            rest = Reply(200, (await response.read()).decode())

    assert rest.error["code"] == "invalid_structured_output"
    assert rest.text == ""
    assert "[DONE]" not in rest.body


@both
async def test_only_the_final_answer_is_in_the_format(
    served: Served, provider: FakeProvider, stream: bool
) -> None:
    provider.will(
        calling(call("read", {"path": "a.txt"}), text="I look."), answer(BAD), answer(GOOD)
    )

    reply = await ask(served, response_format=strict(), stream=stream)

    assert (reply.text, reply.reason) == (GOOD, "stop")
    assert reply.usage["total_tokens"] == 3 * USAGE["total_tokens"]
    repair = provider.requests[-1].json
    assert [one["role"] for one in repair["messages"] if one["role"] != "system"] == [
        *("user", "assistant", "tool", "assistant", "user")
    ]


@both
async def test_calls_for_the_client_are_not_checked(
    served: Served, provider: FakeProvider, stream: bool
) -> None:
    provider.will(
        calling(call("agent__read", {"path": "a"}), text="One."),
        calling(call("weather", {"city": "Bern"}), text="Two."),
    )

    reply = await ask(served, response_format=strict(), tools=[WEATHER, READ], stream=stream)

    assert (reply.text, reply.reason) == ("Two.", "tool_calls")
    assert reply.calls[0]["function"]["name"] == "weather"
    assert len(provider.requests) == 2


@both
@pytest.mark.parametrize("reason", ["length", "content_filter"])
async def test_an_answer_that_was_cut_off_is_not_repaired(
    served: Served, provider: FakeProvider, stream: bool, reason: str
) -> None:
    provider.will(answer('{"city"', finish_reason=reason))

    reply = await ask(served, response_format=strict(), stream=stream)

    assert (reply.status, reply.text, reply.reason) == (200, '{"city"', reason)


async def test_a_code_fence_is_removed(served: Served, provider: FakeProvider) -> None:
    provider.will(answer(f"```json\n{GOOD}\n```\n"))

    reply = await ask(served, response_format=strict())

    assert reply.text == GOOD


@pytest.mark.parametrize(
    "schema",
    [
        {"type": "objct"},
        {"properties": []},
        {"$ref": "http://127.0.0.1:9/schema.json"},
        {"properties": {"a": {"$ref": "#/$defs/missing"}}},
        {"patternProperties": {"(a+)+$": {}}},
        {"$schema": []},
        {"properties": {"a": {"$schema": "http://json-schema.org/draft-07/schema#"}}},
        {"$ref": "#/x/y", "x": {"y": {"patternProperties": {"(a+)+$": {}}}}},
        {
            "$schema": "http://json-schema.org/draft-07/schema#",
            "items": [{"additionalItems": {"$ref": "other.json"}}],
        },
    ],
)
@both
async def test_a_schema_that_cannot_be_used_is_the_requests_fault(
    served: Served, provider: FakeProvider, stream: bool, schema: Any
) -> None:
    reply = await ask(served, response_format=strict(schema), stream=stream)

    assert reply.status == 400
    assert reply.error["param"] == "response_format.json_schema.schema"
    assert not provider.requests


BACKTRACKING = {"type": "string", "pattern": "^(a+)+$"}


@pytest.mark.parametrize(
    "schema",
    [
        BACKTRACKING,
        {
            "$schema": "https://json-schema.org/draft/2020-12/schema",
            "anyOf": [{"$ref": "#/$defs/a"}],
            "$defs": {"a": BACKTRACKING},
        },
    ],
)
async def test_a_pattern_that_backtracks_holds_up_nothing(
    served: Served, provider: FakeProvider, schema: Mapping[str, Any]
) -> None:
    text = json.dumps("a" * 50_000 + "!")
    provider.will(answer(text), answer('"aaa"'))

    reply = await ask(served, response_format=strict(schema))

    assert reply.text == '"aaa"'


async def test_references_that_multiply_hold_up_nothing(
    served: Served, provider: FakeProvider
) -> None:
    steps = {f"s{i}": {"allOf": [{"$ref": f"#/$defs/s{i + 1}"}] * 2} for i in range(40)}
    schema = {"$ref": "#/$defs/s0", "$defs": {**steps, "s40": {"type": "string"}}}
    provider.will(answer('"a"'), answer("1"))

    reply = await ask(served, response_format=strict(schema))

    assert reply.error["code"] == "invalid_structured_output"


async def test_a_schema_may_refer_to_itself(served: Served, provider: FakeProvider) -> None:
    node = {
        "$schema": "http://json-schema.org/draft-07/schema#",
        "type": "object",
        "properties": {"next": {"anyOf": [{"$ref": "#"}, {"type": "null"}]}},
        "required": ["next"],
        "additionalProperties": False,
    }
    good = '{"next":' * 50 + "null" + "}" * 50
    provider.will(answer(good.replace("null", "5")), answer(good))

    reply = await ask(served, response_format=strict(node))

    assert reply.text == good


@pytest.mark.parametrize(
    ("limits", "texts"), [({"maxOutputTokens": 3}, [BAD]), ({"maxSteps": 1}, [BAD, GOOD])]
)
async def test_a_limit_of_the_run_leaves_no_room_for_a_repair(
    tmp_path: Path, provider: FakeProvider, limits: Mapping[str, int], texts: list[str]
) -> None:
    provider.will(*map(answer, texts))
    async with gateway(tmp_path, provider, limits=limits) as served:
        reply = await ask(served, response_format=strict())

    if len(texts) == 1:
        assert reply.error["code"] == "invalid_structured_output"
        assert "maxOutputTokens" in reply.error["message"]
    else:
        assert reply.text == GOOD
    assert len(provider.requests) == len(texts)


@pytest.mark.parametrize(("text", "status"), [(GOOD, 200), ("", 502)])
async def test_a_repair_calls_no_tools(
    served: Served, provider: FakeProvider, text: str, status: int
) -> None:
    provider.will(answer(BAD), calling(call("read", {"path": "a"}), text=text))

    reply = await ask(served, response_format=strict())

    assert (reply.status, reply.text) == (status, text)
    assert reply.reason == ("stop" if text else "")
    assert len(provider.requests) == 2


async def test_a_forced_choice_is_left_out_of_a_repair(
    served: Served, provider: FakeProvider
) -> None:
    provider.will(answer(BAD), answer(GOOD))

    reply = await ask(
        served,
        response_format=strict(),
        tools=[WEATHER],
        tool_choice="required",
        parallel_tool_calls=False,
    )

    assert reply.text == GOOD
    assert {"tools", "tool_choice", "parallel_tool_calls"}.isdisjoint(provider.requests[1].json)


@both
async def test_a_repair_is_cut_off_when_the_time_is_up(
    tmp_path: Path, provider: FakeProvider, stream: bool
) -> None:
    never = asyncio.Event()
    provider.will(answer(BAD), answer('{"city', '"}', gate=never))
    async with gateway(tmp_path, provider, limits={"maxSeconds": 0.3}) as served:
        reply = await ask(served, response_format=strict(), stream=stream)

    assert (reply.text, reply.reason) == ('{"city', "length")


async def test_an_answer_at_a_limit_has_no_sentence_in_it(
    tmp_path: Path, provider: FakeProvider
) -> None:
    provider.will(calling(call("read", {"path": "a"})), answer(GOOD))
    async with gateway(tmp_path, provider, limits={"maxSteps": 1}) as served:
        reply = await ask(served, response_format=strict())

    assert (reply.text, reply.reason) == (GOOD, "length")
    assert "required format" in provider.requests[-1].json["messages"][-1]["content"]


async def test_a_repair_ends_when_its_client_leaves(served: Served, provider: FakeProvider) -> None:
    never = asyncio.Event()
    provider.will(answer(BAD), answer("{", "}", gate=never))
    asking = asyncio.create_task(ask(served, response_format=strict(), stream=True))
    await provider.arrival()
    repair = await provider.arrival()
    await repair.started.wait()

    asking.cancel()

    async with asyncio.timeout(10):
        await repair.disconnected.wait()


@pytest.mark.parametrize(
    ("support", "wanted", "sent", "instruction"),
    [
        ("json_object", OBJECT, OBJECT, ""),
        ("json_object", strict(), OBJECT, json.dumps(SCHEMA, separators=(",", ":"))),
        ("json_object", strict({"type": "array"}), None, '{"type":"array"}'),
        ("none", OBJECT, None, "one JSON object"),
        ("none", strict(), None, json.dumps(SCHEMA, separators=(",", ":"))),
        ("none", {"type": "text"}, {"type": "text"}, ""),
    ],
)
async def test_a_provider_without_the_format_gets_an_instruction(
    tmp_path: Path,
    provider: FakeProvider,
    support: str,
    wanted: Any,
    sent: Any,
    instruction: str,
) -> None:
    good = "[]" if wanted == strict({"type": "array"}) else GOOD
    provider.will(answer(good))
    async with gateway(tmp_path, provider, compat={"responseFormat": support}) as served:
        reply = await ask(served, response_format=wanted)

    assert reply.text == good
    body = provider.requests[0].json
    assert body.get("response_format") == sent
    system = body["messages"][0]["content"]
    assert instruction in system
    assert ("and nothing else" in system) is bool(instruction)


@both
@pytest.mark.parametrize("wanted", [strict(), {"type": "text"}])
async def test_a_refusal_is_a_field_of_its_own(
    served: Served, provider: FakeProvider, stream: bool, wanted: Any
) -> None:
    """Also where its client reads the stored answer again, and resends it."""

    async def refuses(exchange: Exchange) -> None:
        await exchange.head()
        await exchange.event(chunk({"role": "assistant", "refusal": "I will not."}))
        await exchange.event(chunk({}, "stop"))
        await exchange.end()

    provider.will(refuses)

    key = {"Idempotency-Key": "one", "x-opensoul-session-key": "s"}
    question = {"role": "user", "content": "Do it."}
    for _ in range(2):
        body = {"messages": [question], "response_format": wanted, "stream": stream}
        async with served.ask(key, **body) as response:
            reply = Reply(response.status, await response.text())
        assert (reply.text, reply.refusal, reply.reason) == ("", "I will not.", "stop")
    assert len(provider.requests) == 1

    resent = {"role": "assistant", "content": None, "refusal": reply.refusal}
    again = [question, resent, {"role": "user", "content": "Why?"}]
    await served.text({"x-opensoul-session-key": "s"}, messages=again)
    catalog = served.container.catalog()
    assert len(await catalog.messages(SessionKey("main", "s"), limit=9)) == 4


async def test_a_session_keeps_the_repaired_answer_only(
    served: Served, provider: FakeProvider
) -> None:
    headers = {"x-opensoul-session-key": "trip"}
    provider.will(answer(BAD), answer(GOOD), answer("Yes."))
    assert await served.text(headers, response_format=strict()) == GOOD

    assert await served.text(headers) == "Yes."

    said = [one["content"] for one in provider.requests[-1].json["messages"]]
    assert said[-3:] == ["hello", GOOD, "hello"]


class Trip(BaseModel):
    city: str
    days: int


async def test_the_parse_helper_of_the_official_client(
    served: Served, provider: FakeProvider
) -> None:
    async with AsyncOpenAI(base_url=f"{served.url}/v1", api_key=SECRET) as client:
        parse = client.chat.completions.parse
        messages: Any = [{"role": "user", "content": "Where?"}]
        provider.will(answer(BAD), answer(GOOD))
        parsed = await parse(model="opensoul", messages=messages, response_format=Trip)
        assert parsed.choices[0].message.parsed == Trip(city="Bern", days=2)

        provider.will(calling(call("read", {"path": "a"}), text="Hm."), answer(GOOD))
        async with client.chat.completions.stream(
            model="opensoul", messages=messages, response_format=Trip
        ) as stream:
            final = await stream.get_final_completion()
        assert final.choices[0].message.parsed == Trip(city="Bern", days=2)

        provider.will(answer('{"city', finish_reason="length"))
        with pytest.raises(openai.LengthFinishReasonError):
            await parse(model="opensoul", messages=messages, response_format=Trip)

        provider.will(answer(BAD), answer(BAD))
        with pytest.raises(openai.InternalServerError) as broken:
            await parse(model="opensoul", messages=messages, response_format=Trip)
        assert broken.value.code == "invalid_structured_output"
