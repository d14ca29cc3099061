"""What a client is told that asks for another API, or under another address."""

from __future__ import annotations

import pytest

from opensoul.adapters.transports import RouteTable

from .app import Harness
from .client import BEARER, CHAT, Client

RESPONSES = (
    "POST /v1/responses",
    "gateway.http.endpoints.responses.enabled",
    'provider.chat("opensoul")',
    'set_default_openai_api("chat_completions")',
    "use_responses_api=False",
    "openai:chat:opensoul",
)
BASE_URL = ("POST /v1/chat/completions", "base URL", "`/v1` at its end")
MODELS = ("GET /v1/models", "base URL")


@pytest.mark.parametrize(
    ("method", "path", "says"),
    [
        ("POST", "/responses", RESPONSES),
        ("POST", "/v1/v1/responses", (*RESPONSES, "base URL", "`/v1` at its end")),
        ("POST", "/openai/responses", RESPONSES),
        ("POST", "/conversations", RESPONSES),
        ("POST", "/v1/completions/x", ("chat completions", "ChatOpenAI", "is_chat_model=True")),
        ("POST", "/completions", ("POST /v1/completions", "completions.enabled")),
        ("POST", "/v1/rerank", ("POST /v1/embeddings", "embeddings.enabled")),
        ("POST", "/v1/images/generations", ("only POST /v1/chat/completions",)),
        ("POST", "/v1/audio/speech", ("only POST /v1/chat/completions",)),
        ("POST", "/v1/moderations", ("only POST /v1/chat/completions",)),
        ("GET", "/sse", ("/mcp", "streamable HTTP")),
        ("GET", "/.well-known/oauth-protected-resource/mcp", ("no OAuth", "Bearer")),
        ("POST", "/api/chat", ("Ollama", *BASE_URL)),
        ("GET", "/api/tags", ("Ollama", *BASE_URL)),
        ("POST", "/v1beta/models/x:generateContent", ("Gemini", *BASE_URL)),
        ("POST", "/chat/completions", BASE_URL),
        ("POST", "/v1/chat/completions/", BASE_URL),
        ("POST", "/v1/v1/chat/completions", BASE_URL),
        ("POST", "/v1//chat/completions", BASE_URL),
        ("POST", "/v1/chat/completions/chat/completions", BASE_URL),
        ("POST", "/api/v1/chat/completions", BASE_URL),
        ("POST", "/V1/Chat/Completions", BASE_URL),
        ("POST", "/openai/deployments/opensoul/chat/completions", BASE_URL),
        ("GET", "/v1/chat/completions/models", BASE_URL),
        ("GET", "/models", MODELS),
        ("GET", "/v1/models/", MODELS),
        ("GET", "/v1/v1/models", MODELS),
        ("GET", "/", ("GET /v1/models", "WebSocket")),
        ("GET", "/v1", ("GET /v1/models", "WebSocket")),
        ("GET", "/.well-known/agent.json", ("/.well-known/agent-card.json",)),
        ("POST", "/a2a/main/v1/message:send", ("POST /a2a",)),
        ("POST", "/v1/message:send", ("POST /a2a",)),
        ("GET", "/health", ("GET /healthz",)),
        ("GET", "/healthz/", ("Use /healthz instead.",)),
        ("GET", "/v1/readyz", ("Use /readyz instead.",)),
    ],
)
async def test_the_404_says_what_there_is_instead(
    client: Client, method: str, path: str, says: tuple[str, ...]
) -> None:
    reply = await client.ask(method, path)

    assert (reply.status, reply.error["code"]) == (404, "not_found")
    assert reply.error["message"].startswith(f"There is nothing at {path!r}. ")
    assert [text for text in says if text not in reply.error["message"]] == []


async def test_what_is_switched_off_names_its_switch_and_chat_completions(client: Client) -> None:
    reply = await client.ask("POST", "/v1/responses")

    assert (reply.status, reply.error["code"]) == (404, "endpoint_disabled")
    said = ("gateway.http.endpoints.responses.enabled", CHAT, *RESPONSES[2:])
    assert [text for text in said if text not in reply.error["message"]] == []


async def test_a_doubled_slash_in_front_does_no_harm(client: Client) -> None:
    assert (await client.get("//v1/models")).status == 200
    assert (await client.get("//v1/models", headers={})).status == 401


@pytest.mark.parametrize("path", ["/favicon.ico", "/v1/nothing", "/wp-login.php"])
async def test_of_an_unknown_path_nothing_more_is_said(client: Client, path: str) -> None:
    reply = await client.get(path)

    assert reply.error["message"] == f"There is nothing at {path!r}."


@pytest.mark.parametrize(
    ("method", "path", "allowed"),
    [("GET", CHAT, "POST"), ("POST", "/v1/models", "GET, HEAD"), ("PUT", CHAT, "POST")],
)
async def test_the_405_says_which_request_is_served(
    client: Client, method: str, path: str, allowed: str
) -> None:
    reply = await client.ask(method, path)

    assert (reply.status, reply.headers["Allow"]) == (405, allowed)
    assert reply.error["message"] == (
        f"{method} is not allowed here. Allowed: {allowed}. Chat completions are at "
        "POST /v1/chat/completions; GET /v1/models lists the agents."
    )


@pytest.mark.parametrize(
    "path", ["/messages", "/v1/v1/messages", "/v1/messages/", "/v1/messages/batches"]
)
async def test_clients_of_anthropic_get_the_error_in_their_own_envelope(
    client: Client, path: str
) -> None:
    reply = await client.ask("POST", path, data=b'{"model":"claude"}')

    assert reply.status == 404
    assert list(reply.json) == ["type", "error", "request_id"]
    assert reply.json["type"] == "error"
    assert list(reply.json["error"]) == ["type", "message"]
    assert reply.json["error"]["type"] == "not_found_error"
    assert "only POST /v1/messages and" in reply.json["error"]["message"]
    assert "POST /v1/chat/completions" in reply.json["error"]["message"]
    if path.startswith("/v1"):
        reply = await client.ask("POST", path, headers={"x-api-key": "wrong"})
        assert (reply.status, reply.json["error"]["type"]) == (401, "authentication_error")


@pytest.mark.parametrize("headers", [{}, BEARER])
@pytest.mark.parametrize("spelling", ["{}/", "//{}", "/v1{}", "{}//", "/x{}"])
async def test_no_spelling_of_a_path_is_answered_by_a_redirect(
    gateway: Harness, client: Client, spelling: str, headers: dict[str, str]
) -> None:
    for route in RouteTable(gateway.transports):
        path = spelling.format(route.path.replace("<path:model_id>", "beta"))
        reply = await client.ask(route.method, path, headers=headers)
        assert not 300 <= reply.status < 400, path
        assert "Location" not in reply.headers
