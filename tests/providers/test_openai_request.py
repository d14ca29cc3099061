"""What a provider receives is the call in its own words, with the right credentials."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import orjson
import pytest

from opensoul.adapters.providers.openai.client import OpenAICompletions
from opensoul.adapters.providers.openai.request import Encoder
from opensoul.domain.errors import FailureKind
from opensoul.domain.messages import Image, Message, Reasoning, Role, Text, ToolCall, text_message
from opensoul.domain.models.calls import Compat, ModelFinished, Usage
from tests.fakes.provider import FakeProvider

from .calls import KEY, call, collect, failure


async def test_a_call_is_a_streamed_chat_completion(
    provider: FakeProvider, client: OpenAICompletions
) -> None:
    await collect(client, call(provider.base_url + "/"))
    request = await provider.arrival()
    assert (request.method, request.path) == ("POST", "/v1/chat/completions")
    assert request.headers["authorization"] == f"Bearer {KEY}"
    assert request.headers["content-type"] == "application/json"
    assert request.headers["user-agent"] == "OpenSoul"
    assert "cookie" not in request.headers
    assert request.json == {
        "model": "tiny",
        "messages": [{"role": "user", "content": "Hi"}],
        "stream": True,
        "stream_options": {"include_usage": True},
    }


async def test_the_result_of_a_clients_failed_call_begins_with_that(
    provider: FakeProvider, client: OpenAICompletions
) -> None:
    calls = Message(Role.ASSISTANT, (ToolCall("c1", "look", "{}"), ToolCall("c2", "look", "{}")))
    picture = Image("AAAA", "image/png")
    messages = (
        text_message(Role.USER, "one"),
        calls,
        Message(Role.TOOL, (Text("3"),), tool_call_id="c1", is_error=True),
        Message(Role.TOOL, (Text("3"),), tool_call_id="c2"),
        calls,
        Message(Role.TOOL, (Text("seen"), picture), tool_call_id="c1", is_error=True),
        Message(Role.TOOL, (), tool_call_id="c2", is_error=True),
        calls,
        Message(Role.TOOL, (Text("Stopped."),), "look", tool_call_id="c1", is_error=True),
    )
    await collect(client, call(provider.base_url, *messages))
    body = (await provider.arrival()).json
    assert body is not None
    results = [one["content"] for one in body["messages"] if one["role"] == "tool"]
    failed, whole, seen, empty, own = results

    assert (failed, whole) == ("[The call failed.]\n3", "3")
    assert seen.startswith("[The call failed.]\nseen\n[A picture was here.")
    assert own == "Stopped."
    assert empty == "[The call failed.]\n"


async def test_every_kind_of_message_is_sent_as_openai_has_it(
    provider: FakeProvider, client: OpenAICompletions
) -> None:
    calls = (ToolCall("c1", "look", '{"at":'), ToolCall("c2", "listen", "{}"))
    messages = (
        text_message(Role.SYSTEM, "Be brief."),
        Message(Role.USER, (Text("one"), Text("two")), name="ann"),
        Message(Role.ASSISTANT, (Reasoning("a secret thought"), Text("hm"))),
        Message(Role.ASSISTANT, (Reasoning("another"), *calls)),
        Message(Role.TOOL, (Text("a tree"),), tool_call_id="c1"),
        Message(Role.ASSISTANT, (Text("so"), calls[0])),
        Message(Role.ASSISTANT, ()),
    )
    await collect(client, call(provider.base_url, *messages))
    spelled = [
        {
            "id": call.id,
            "type": "function",
            "function": {"name": call.name, "arguments": call.arguments},
        }
        for call in calls
    ]
    assert (await provider.arrival()).json["messages"] == [
        {"role": "system", "content": "Be brief."},
        {"role": "user", "content": "one\ntwo", "name": "ann"},
        {"role": "assistant", "content": "hm"},
        {"role": "assistant", "content": None, "tool_calls": spelled},
        {"role": "tool", "content": "a tree", "tool_call_id": "c1"},
        {"role": "assistant", "content": "so", "tool_calls": spelled[:1]},
        {"role": "assistant", "content": ""},
    ]


async def test_a_call_without_arguments_has_an_empty_object(
    provider: FakeProvider, client: OpenAICompletions
) -> None:
    messages = (
        Message(Role.ASSISTANT, (ToolCall("c1", "now", ""), ToolCall("c2", "now", " "))),
        Message(Role.TOOL, (Text("noon"),), tool_call_id="c1"),
        Message(Role.TOOL, (Text("noon"),), tool_call_id="c2"),
    )
    await collect(client, call(provider.base_url, *messages))

    first, *_ = (await provider.arrival()).json["messages"]
    assert [one["function"]["arguments"] for one in first["tool_calls"]] == ["{}", "{}"]


async def test_what_a_user_shows_is_sent_beside_what_the_user_says(
    provider: FakeProvider, client: OpenAICompletions
) -> None:
    shown = (Text("This"), Image("aGk=", "image/png"), Text("or"), Image("eW8=", "image/webp"))
    await collect(client, call(provider.base_url, Message(Role.USER, shown, name="ann")))
    (sent,) = (await provider.arrival()).json["messages"]
    assert sent["name"] == "ann"
    assert sent["content"] == [
        {"type": "text", "text": "This"},
        {"type": "image_url", "image_url": {"url": "data:image/png;base64,aGk="}},
        {"type": "text", "text": "or"},
        {"type": "image_url", "image_url": {"url": "data:image/webp;base64,eW8="}},
    ]


async def test_only_a_user_shows_images(provider: FakeProvider, client: OpenAICompletions) -> None:
    shown = Message(Role.ASSISTANT, (Text("Look"), Image("aGk=", "image/png")))
    await collect(client, call(provider.base_url, shown))
    (sent,) = (await provider.arrival()).json["messages"]
    assert sent == {"role": "assistant", "content": "Look"}


async def test_a_requests_parameters_win_over_the_targets(
    provider: FakeProvider, client: OpenAICompletions
) -> None:
    configured: dict[str, object] = {"temperature": 0.1, "top_p": 0.5, "seed": None}
    asked: dict[str, object] = {"temperature": 0.9, "stop": ["x"], "top_p": None}
    await collect(client, call(provider.base_url, params=asked, target_params=configured))
    sent = (await provider.arrival()).json
    assert (sent["temperature"], sent["top_p"], sent["stop"]) == (0.9, 0.5, ["x"])
    assert "seed" not in sent


async def test_no_parameter_changes_what_the_client_relies_on(
    provider: FakeProvider, client: OpenAICompletions
) -> None:
    asked = {"stream": False, "stream_options": {"include_usage": False}, "model": "other"}
    await collect(client, call(provider.base_url, params={**asked, "messages": []}))
    sent = (await provider.arrival()).json
    assert (sent["stream"], sent["model"], len(sent["messages"])) == (True, "tiny", 1)
    assert sent["stream_options"] == {"include_usage": True}


async def test_usage_is_not_asked_for_where_the_provider_forbids_it(
    provider: FakeProvider, client: OpenAICompletions
) -> None:
    request = call(provider.base_url, compat=Compat(supports_usage_in_stream=False))
    assert (await collect(client, request))[-1] == ModelFinished(stop="stop", usage=None)  # type: ignore[arg-type]
    assert "stream_options" not in (await provider.arrival()).json


@pytest.mark.parametrize(
    ("field", "configured", "asked", "sent"),
    [
        (None, {}, {"max_tokens": 5}, {"max_tokens": 5}),
        (None, {"max_tokens": 9}, {"max_completion_tokens": 5}, {"max_completion_tokens": 5}),
        ("max_tokens", {}, {"max_completion_tokens": 5}, {"max_tokens": 5}),
        ("max_tokens", {"max_tokens": 9}, {}, {"max_tokens": 9}),
        ("max_completion_tokens", {}, {"max_tokens": 5}, {"max_completion_tokens": 5}),
        ("max_tokens", {}, {"max_tokens": 6, "max_completion_tokens": 5}, {"max_tokens": 5}),
        ("max_tokens", {}, {}, {}),
    ],
)
async def test_the_token_limit_has_the_name_that_the_provider_knows(
    provider: FakeProvider,
    client: OpenAICompletions,
    field: str | None,
    configured: dict[str, object],
    asked: dict[str, object],
    sent: dict[str, object],
) -> None:
    compat = Compat(max_tokens_field=field)
    await collect(
        client, call(provider.base_url, params=asked, target_params=configured, compat=compat)
    )
    limits = (await provider.arrival()).json
    assert {name: limits[name] for name in limits if name.startswith("max_")} == sent


@pytest.mark.parametrize(
    ("name", "compat"),
    [
        ("reasoning_effort", Compat(supports_reasoning_effort=False)),
        ("store", Compat(supports_store=False)),
    ],
)
async def test_a_parameter_that_the_provider_lacks_is_refused(
    provider: FakeProvider, client: OpenAICompletions, name: str, compat: Compat
) -> None:
    params = {"reasoning_effort": "low"} if name == "reasoning_effort" else {"store": True}
    _, error = await failure(client, call(provider.base_url, params=params, compat=compat))
    assert (error.kind, error.param) == (FailureKind.BAD_REQUEST, name)
    assert provider.requests == []


async def test_a_store_that_is_not_asked_for_is_left_out(
    provider: FakeProvider, client: OpenAICompletions
) -> None:
    compat = Compat(supports_store=False)
    await collect(client, call(provider.base_url, params={"store": False}, compat=compat))
    assert "store" not in (await provider.arrival()).json


@pytest.mark.parametrize("value", [object(), 2**70, "\ud800"])
async def test_what_json_cannot_say_is_refused(
    provider: FakeProvider, client: OpenAICompletions, value: object
) -> None:
    _, error = await failure(client, call(provider.base_url, params={"seed": value}))
    assert error.kind is FailureKind.BAD_REQUEST
    assert error.__context__ is None


async def test_configured_headers_win(provider: FakeProvider, client: OpenAICompletions) -> None:
    headers = {"authorization": "Basic abc", "USER-AGENT": "mine", "X-Title": "soul"}
    await collect(client, call(provider.base_url, headers=headers))
    received = (await provider.arrival()).headers
    assert received["authorization"] == "Basic abc"
    assert (received["user-agent"], received["x-title"]) == ("mine", "soul")


@pytest.mark.parametrize(("key", "auth_header"), [(None, True), (KEY, False)])
async def test_no_authorization_is_made_up(
    provider: FakeProvider, client: OpenAICompletions, key: str | None, auth_header: bool
) -> None:
    await collect(client, call(provider.base_url, key=key, auth_header=auth_header))
    assert "authorization" not in (await provider.arrival()).headers


async def test_the_address_may_hold_a_user_and_a_query(
    provider: FakeProvider, client: OpenAICompletions
) -> None:
    base_url = f"http://ann:pass@127.0.0.1:{provider.port}/v1/?api-version=2#x"
    await collect(client, call(base_url, key=None))
    await collect(client, call(base_url))
    by_user, by_key = await provider.arrival(), await provider.arrival()
    assert by_user.path == by_key.path == "/v1/chat/completions?api-version=2"
    assert by_user.headers["authorization"].startswith("Basic ")
    assert by_key.headers["authorization"] == f"Bearer {KEY}"


@pytest.mark.parametrize("base_url", ["", "localhost:8080", "ftp://h/v1", "http://[::1/", "http:"])
async def test_an_address_that_is_none_is_unreachable(
    client: OpenAICompletions, base_url: str
) -> None:
    _, error = await failure(client, call(base_url))
    assert error.kind is FailureKind.UNREACHABLE
    assert "base URL" in error.message


async def test_an_impossible_port_is_unreachable(client: OpenAICompletions) -> None:
    _, error = await failure(client, call("http://127.0.0.1:99999/v1"))
    assert error.kind is FailureKind.UNREACHABLE


@pytest.mark.parametrize("key", ["sk-with\nnewline", "sk-\0"])
async def test_a_key_that_no_header_can_hold_is_wrong_credentials(
    provider: FakeProvider, client: OpenAICompletions, key: str
) -> None:
    _, error = await failure(client, call(provider.base_url, key=key))
    assert error.kind is FailureKind.AUTH
    assert error.__context__ is None
    assert "sk-" not in repr(error) + error.detail


async def test_the_usage_that_comes_last_is_told(
    provider: FakeProvider, client: OpenAICompletions
) -> None:
    last = (await collect(client, call(provider.base_url)))[-1]
    assert isinstance(last, ModelFinished)
    assert last.usage == Usage(7, 3)


@pytest.fixture
def restless() -> Iterator[None]:
    """Threads take turns as often as they can."""
    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    yield
    sys.setswitchinterval(before)


@pytest.mark.usefixtures("restless")
def test_threads_that_encode_the_same_messages_get_each_its_own_text() -> None:
    encode, threads = Encoder(), 4

    def read(messages: list[Message]) -> list[str]:
        return [one["content"] for one in orjson.loads(orjson.dumps(encode(messages)))]

    with ThreadPoolExecutor(threads) as pool:
        for number in range(100):
            texts = [f"{number}.{place}" for place in range(20)]
            messages = [text_message(Role.USER, text) for text in texts]
            assert list(pool.map(read, [messages] * threads)) == [texts] * threads
    del messages

    assert len(encode) == 0
