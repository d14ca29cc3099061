"""Where no credential is needed, web pages of strangers are refused on every route."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from dataclasses import replace

import pytest

from opensoul.adapters.transports.http.hosts import origin_of_url
from opensoul.domain.settings import AuthMode, AuthSettings, ControlSettings

from .app import Harness, served
from .client import BEARER, CHAT, HI, Client, Reply
from .conftest import AccessLog

HOST = {"Host": "localhost:18789"}
JSON = {"Content-Type": "application/json"}
LISTED = "https://panel.example"
REQUESTS = [
    ("GET", "/healthz"),
    ("HEAD", "/healthz"),
    ("GET", "/readyz"),
    ("GET", "/v1/models"),
    ("GET", "/v1/models/opensoul"),
    ("POST", CHAT),
    ("OPTIONS", CHAT),
    ("OPTIONS", "/nothing"),
    ("GET", "/"),
    ("GET", "/nothing"),
    ("PUT", "/v1/models"),
]


def open_door() -> Harness:
    harness = Harness()
    control = ControlSettings(allowed_origins=(LISTED,), allowed_hosts=("box.lan",))
    harness.settings = replace(harness.settings, auth=AuthSettings(AuthMode.NONE), control=control)
    return harness


@pytest.fixture
async def gateway() -> AsyncIterator[Harness]:
    async with served(open_door()) as harness:
        yield harness


async def ask(client: Client, method: str, path: str, headers: dict[str, str]) -> Reply:
    body = json.dumps({"messages": HI}).encode() if method == "POST" else None
    return await client.ask(method, path, headers=HOST | JSON | headers, data=body)


def assert_refused(gateway: Harness, reply: Reply) -> None:
    assert reply.status == 403
    assert gateway.run_log.runs == []
    assert not [name for name in reply.headers if name.lower().startswith("access-control-")]


@pytest.mark.parametrize(("method", "path"), REQUESTS)
async def test_a_strangers_page_is_refused_on_every_route(
    gateway: Harness, client: Client, method: str, path: str
) -> None:
    for headers in ({"Origin": "https://evil.example"}, {"Host": "evil.example:18789"}):
        assert_refused(gateway, await ask(client, method, path, headers))


@pytest.mark.parametrize(
    "headers",
    [
        {"Origin": "https://evil.example"},
        {"Origin": "null"},
        {"Origin": ""},
        {"Origin": "http://localhost:5173"},
        {"Origin": "http://127.0.0.1:18789"},
        {"Origin": "https://localhost:18788"},
        {"Origin": "chrome-extension://abcdef"},
        {"Origin": "file://"},
        {"Origin": "https://panel.example.evil.example"},
        {"Origin": "https://evil.example", "Referer": "http://localhost:18789/"},
        {"Origin": "https://evil.example", "Sec-Fetch-Site": "same-origin"},
        {"Referer": "https://evil.example/page"},
        {"Referer": "http://localhost:5173/page"},
        {"Referer": "http://localhost:18789@evil.example/"},
        {"Referer": "https://evil.example?http://localhost:18789/"},
        {"Referer": "about:blank"},
        {"Sec-Fetch-Site": "cross-site"},
        {"Sec-Fetch-Site": "same-site"},
        {"Sec-Fetch-Site": "Cross-Site "},
        {"Host": "evil.example:18789", "Origin": "http://evil.example:18789"},
        {"Host": "evil.example", "Sec-Fetch-Site": "same-origin"},
        {
            "Origin": "https://evil.example",
            "Access-Control-Request-Method": "POST",
            "Access-Control-Request-Private-Network": "true",
        },
    ],
)
async def test_whatever_shows_that_a_strangers_page_asks_is_enough(
    gateway: Harness, client: Client, headers: dict[str, str]
) -> None:
    for content_type in ("application/json", "text/plain"):
        reply = await ask(client, "POST", CHAT, {"Content-Type": content_type, **headers})
        assert_refused(gateway, reply)
        assert reply.error["code"] == "authentication_required"


@pytest.mark.parametrize(
    "headers",
    [
        {},
        {"Origin": "http://localhost:18789"},
        {"Origin": "http://LOCALHOST:18789"},
        {"Origin": LISTED},
        {"Referer": "http://localhost:18789/page?x#y"},
        {"Referer": f"{LISTED}/page"},
        {"Referer": LISTED, "Sec-Fetch-Site": "cross-site"},
        {"Sec-Fetch-Site": "same-origin"},
        {"Sec-Fetch-Site": "none"},
        {"Host": "box.lan", "Origin": "http://box.lan:80"},
        {"Host": "192.0.2.7:18789", "Origin": "http://192.0.2.7:18789"},
    ],
)
async def test_programs_and_listed_pages_are_served(
    gateway: Harness, client: Client, headers: dict[str, str]
) -> None:
    assert (await ask(client, "POST", CHAT, headers)).status == 200


async def test_the_refusal_says_where_pages_are_listed(client: Client) -> None:
    reply = await ask(client, "GET", "/v1/models", {"Origin": "https://evil.example"})

    assert "'https://evil.example'" in reply.error["message"]
    assert "gateway.controlUi.allowedOrigins" in reply.error["message"]


async def test_a_plain_text_body_starts_nothing(gateway: Harness, client: Client) -> None:
    assert (await ask(client, "POST", CHAT, {"Content-Type": "text/plain"})).status == 415
    assert gateway.run_log.runs == []


@pytest.mark.parametrize("headers", [{}, {"Authorization": "Bearer guess"}])
@pytest.mark.parametrize("mode", [AuthMode.TOKEN, AuthMode.PASSWORD])
async def test_where_a_credential_is_needed_a_page_without_it_gains_nothing(
    gateway: Harness, client: Client, mode: AuthMode, headers: dict[str, str]
) -> None:
    secret = Harness().settings.auth.secret
    gateway.settings = replace(gateway.settings, auth=AuthSettings(mode, secret))
    page = {"Origin": "https://evil.example", "Host": "evil.example", **headers}

    for method, path in REQUESTS:
        reply = await ask(client, method, path, page)
        public = path in ("/healthz", "/readyz")
        assert reply.status in ((200,) if public else (401, 404, 405)), (method, path)
        assert not [name for name in reply.headers if name.lower().startswith("access-control-")]
    assert gateway.run_log.runs == []
    assert (await ask(client, "POST", CHAT, {**page, **BEARER})).status == 200


async def test_refused_pages_are_one_kind_of_line_in_the_log(
    client: Client, access_log: AccessLog
) -> None:
    await ask(client, "POST", CHAT, {"Origin": "https://evil.example"})
    await ask(client, "GET", "/v1/models", {})

    refused, answered = await access_log.line(), await access_log.line()

    assert (refused["outcome"], refused["bounded_kind"]) == (
        "refused",
        "requests of strangers: 403",
    )
    assert "bounded_kind" not in answered


@pytest.mark.parametrize(
    ("url", "origin"),
    [
        ("https://a.example/b?c#d", "https://a.example"),
        ("https://a.example", "https://a.example"),
        ("https://a.example?b", "https://a.example"),
        ("https://a.example#b://c", "https://a.example"),
        ("about:blank", "about:blank"),
        ("", ""),
    ],
)
def test_the_origin_of_a_pages_address(url: str, origin: str) -> None:
    assert origin_of_url(url) == origin
