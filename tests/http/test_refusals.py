"""What is refused, in which order, and how it is told."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from dataclasses import replace
from io import BytesIO
from ipaddress import IPv4Network, ip_network

import pytest

from opensoul.adapters.persistence.queue.lanes import Lanes
from opensoul.domain.access import Scope
from opensoul.domain.models.calls import Secret, TextDelta
from opensoul.domain.settings import (
    AuthMode,
    AuthSettings,
    ControlSettings,
    LaneSettings,
    LockoutSettings,
)

from .app import TOKEN, Harness
from .client import BEARER, CHAT, HI, Client, bare

WRONG = {"Authorization": "Bearer wrong"}
JSON = {**BEARER, "Content-Type": "application/json"}


@pytest.mark.parametrize("method", ["POST", "GET", "OPTIONS", "DELETE"])
@pytest.mark.parametrize("path", [CHAT, "/v1/models", "/v1/nothing", "/v1", "/v1/", "//v1/models"])
@pytest.mark.parametrize("headers", [{}, WRONG, {"Authorization": "Basic c2VjcmV0"}])
async def test_a_stranger_learns_nothing_under_v1(
    client: Client, method: str, path: str, headers: dict[str, str]
) -> None:
    reply = await client.ask(method, path, headers=headers)

    assert reply.status == 401
    assert reply.headers["WWW-Authenticate"] == "Bearer"
    assert reply.error["type"] == "authentication_error"
    assert reply.error["code"] == "invalid_api_key"


async def test_a_head_request_of_a_stranger_is_refused_too(client: Client) -> None:
    assert (await client.ask("HEAD", "/v1/models", headers={})).status == 401


@pytest.mark.parametrize("value", [f"bearer {TOKEN}", f"BEARER   {TOKEN} ", f"  Bearer {TOKEN}"])
async def test_the_scheme_is_read_generously(client: Client, value: str) -> None:
    assert (await client.get("/v1/models", headers={"Authorization": value})).status == 200


@pytest.mark.parametrize("value", ["Bearer", "Bearer ", "Bearer   "])
async def test_an_empty_credential_is_a_missing_one(client: Client, value: str) -> None:
    for _ in range(12):
        reply = await client.get("/v1/models", headers={"Authorization": value})
        assert reply.status == 401


async def test_a_secret_of_any_script_works_and_a_wrong_one_is_plainly_refused(
    gateway: Harness,
) -> None:
    gateway.settings = replace(
        gateway.settings, auth=AuthSettings(AuthMode.PASSWORD, Secret("pässwörd☃"))
    )

    async def status(secret: bytes) -> int:
        async with bare(gateway.port) as wire:
            wire.writer.write(
                b"GET /v1/models HTTP/1.1\r\nHost: h\r\nAuthorization: Bearer "
                + secret
                + b"\r\n\r\n"
            )
            return (await wire.read_head())[0]

    assert await status("pässwörd☃".encode()) == 200
    assert await status("pässwörd".encode()) == 401
    assert await status(b"p\xe4ssw\xf6rd") == 401


@pytest.mark.parametrize("name", ["x-opensoul-session-key", "x-opensoul-agent-id"])
async def test_a_header_that_is_not_utf8_is_refused_by_its_name(
    gateway: Harness, name: str
) -> None:
    body = json.dumps({"messages": HI})
    async with bare(gateway.port) as wire:
        wire.send_head(f"Content-Length: {len(body)}", f"{name}: \xff\xfe")
        wire.writer.write(body.encode())
        status, _ = await wire.read_head()
        told = await wire.reader.readuntil(b"}}")

    assert status == 400
    assert json.loads(told)["error"]["param"] == name


async def test_too_many_wrong_guesses_lock_the_address_out(
    gateway: Harness, client: Client
) -> None:
    limits = LockoutSettings(max_attempts=3, duration=120)
    auth = replace(gateway.settings.auth, lockout=limits)
    gateway.settings = replace(gateway.settings, auth=auth)
    for _ in range(10):  # One and the same: a program that polls with a stale secret.
        assert (await client.get("/v1/models", headers=WRONG)).status == 401
    assert (await client.get("/v1/models")).status == 200
    for number in range(3):
        headers = {"Authorization": f"Bearer wrong {number}"}
        assert (await client.get("/v1/models", headers=headers)).status == 401

    reply = await client.get("/v1/models")

    assert reply.status == 429
    assert reply.error["type"] == "rate_limit_error"
    assert 110 <= int(reply.headers["Retry-After"]) <= 120
    assert reply.headers["x-should-retry"] == "false"


@pytest.fixture
def open_door(gateway: Harness) -> Harness:
    gateway.settings = replace(gateway.settings, auth=AuthSettings(AuthMode.NONE))
    return gateway


@pytest.mark.parametrize("proxies", [(), (ip_network("127.0.0.1/32"),)])
@pytest.mark.parametrize(
    "header",
    [
        "X-Forwarded-For",
        "X-Forwarded-Host",
        "X-Forwarded-Proto",
        "x-forwarded-anything",
        "Forwarded",
        "Via",
        "X-Real-IP",
        "X-Client-IP",
        "True-Client-IP",
        "CF-Connecting-IP",
        "CF-Ray",
        "CDN-Loop",
        "Tailscale-User-Login",
        "Tailscale-Funnel-Request",
        "X-Original-Host",
        "Fly-Client-IP",
        "Remote-User",
    ],
)
async def test_without_authentication_what_a_proxy_passes_on_is_refused(
    open_door: Harness, client: Client, header: str, proxies: tuple[IPv4Network, ...]
) -> None:
    open_door.settings = replace(open_door.settings, trusted_proxies=proxies)

    reply = await client.chat(headers={header: "127.0.0.1"})

    assert (reply.status, reply.error["code"]) == (403, "authentication_required")
    assert "forwarding headers" in reply.error["message"]
    assert "Set gateway.auth.mode to `token` or `password`" in reply.error["message"]
    assert (await client.get("/v1/models", headers={header: ""})).status == 403
    assert (await client.get("/healthz", headers={header: "127.0.0.1"})).status == 200
    assert (await client.get("/readyz", headers={header: "127.0.0.1"})).status == 200


async def test_without_authentication_a_program_of_this_machine_is_served(
    open_door: Harness, client: Client
) -> None:
    for headers in ({}, {"Authorization": "Bearer whatever"}, {"X-Request-Id": "1"}):
        assert (await client.get("/v1/models", headers=headers)).status == 200


@pytest.mark.parametrize(
    ("host", "status"),
    [
        ("localhost:18789", 200),
        ("127.0.0.1", 200),
        ("[::1]:18789", 200),
        ("192.0.2.7:80", 200),
        ("listed.example", 200),
        ("evil.example:18789", 403),
        ("localhost.evil.example", 403),
    ],
)
async def test_without_authentication_a_name_that_leads_here_is_refused(
    open_door: Harness, client: Client, host: str, status: int
) -> None:
    control = ControlSettings(allowed_hosts=("listed.example",))
    open_door.settings = replace(open_door.settings, control=control)

    reply = await client.get("/v1/models", headers={"Host": host})

    assert reply.status == status
    if status == 403:
        assert repr(host) in reply.error["message"]
        assert "gateway.allowedHosts" in reply.error["message"]


async def test_the_lockout_follows_the_address_that_a_trusted_proxy_tells(
    gateway: Harness, client: Client
) -> None:
    auth = replace(gateway.settings.auth, lockout=LockoutSettings(max_attempts=1))
    proxies = (ip_network("127.0.0.1/32"),)
    gateway.settings = replace(gateway.settings, auth=auth, trusted_proxies=proxies)
    guesser = {"X-Forwarded-For": "203.0.113.7"}
    other = {"X-Real-IP": "203.0.113.8"}
    assert (await client.get("/v1/models", headers={**WRONG, **guesser})).status == 401

    assert (await client.get("/v1/models", headers={**BEARER, **guesser})).status == 429
    assert (await client.get("/v1/models", headers={**BEARER, **other})).status == 200


async def test_unknown_paths_are_told_as_json(client: Client) -> None:
    for path in ("/v1/audio", "/v1", "/v1/models/", "/v1//models"):
        reply = await client.get(path)
        assert (reply.status, reply.error["code"]) == (404, "not_found")
        assert reply.error["type"] == "invalid_request_error"
    assert (await client.get("/nothing", headers={})).status == 404


@pytest.mark.parametrize("method", ["GET", "HEAD", "PUT", "BREW"])
async def test_a_wrong_method_is_told_the_right_one(client: Client, method: str) -> None:
    reply = await client.ask(method, CHAT)

    assert reply.status == 405
    assert reply.headers["Allow"] == "POST"
    if method != "HEAD":
        assert reply.error["code"] == "method_not_allowed"


async def test_the_order_of_refusals(gateway: Harness, client: Client) -> None:
    plain = {"Content-Type": "text/plain"}
    gateway.chat(enabled=False)

    async def code(method: str, headers: dict[str, str], data: bytes) -> str:
        reply = await client.ask(method, CHAT, headers=headers, data=data)
        return str(reply.error["code"])

    assert await code("PUT", plain, b"") == "invalid_api_key"
    assert await code("PUT", {**BEARER, **plain}, b"") == "endpoint_disabled"
    gateway.chat(enabled=True, max_body_bytes=10)
    assert await code("PUT", {**BEARER, **plain}, b"") == "method_not_allowed"
    assert await code("POST", {**BEARER, **plain}, b"x" * 11) == "unsupported_media_type"
    assert await code("POST", JSON, b"x" * 11) == "request_too_large"
    assert await code("POST", JSON, b"{") == "invalid_request"


@pytest.mark.parametrize(
    "content_type",
    [
        "application/json",
        "application/json; charset=utf-8",
        "Application/JSON;charset=UTF-8",
        "application/vnd.api+json",
        "text/json",
    ],
)
async def test_json_has_several_names(client: Client, content_type: str) -> None:
    assert (await client.chat(headers={"Content-Type": content_type})).status == 200


@pytest.mark.parametrize(
    "content_type",
    ["text/plain", "application/x-www-form-urlencoded", "multipart/form-data; boundary=x", "json"],
)
async def test_anything_but_json_is_refused(client: Client, content_type: str) -> None:
    reply = await client.chat(headers={"Content-Type": content_type})

    assert reply.status == 415
    assert reply.error["type"] == "invalid_request_error"
    assert "application/json" in reply.error["message"]


async def test_a_missing_content_type_is_read_as_json(gateway: Harness) -> None:
    body = json.dumps({"messages": HI}).encode()
    async with bare(gateway.port) as wire:
        wire.send_head(f"Content-Length: {len(body)}")
        wire.writer.write(body)
        assert (await wire.read_head())[0] == 200


async def test_an_empty_body_is_refused(client: Client) -> None:
    reply = await client.post(b"")

    assert (reply.status, reply.error["code"]) == (400, "invalid_request")
    assert "empty" in reply.error["message"]


@pytest.mark.parametrize(
    ("body", "says"),
    [
        (b'{"a": ', "line 1 column"),
        (b"\n{'a': 1}", "line 2 column 2"),
        (b'{"temperature": NaN}', "line 1"),
        (b'{"temperature": -Infinity}', "line 1"),
        (b'{"temperature": 1e999}', "infinity"),
        (b'{"a": NaN, "b": "\\ud800"}', "NaN"),
        (b'{"a": "\\ud800"', "line 1"),
        (b'{"a": "\xff"}', "UTF-8"),
        (b'{"a": "\xff\\ud800"}', "utf-8"),
        (b'{"a": "\xed\xa0"}', "utf-8"),
        (b'["\\ud800",' + b"[" * 700 + b"]" * 701, "deep"),
        (b"[" * 100_000, "depth"),
        (b'"\\ud800"' + b"[" * 100_000, "Extra data"),
        (b'["\\ud800",' + b"[" * 100_000, "deep"),
        (b'["\\ud800",' + b"9" * 5_000 + b"]", "not valid JSON"),
        (b"[]", "object"),
        (b'"text"', "object"),
        (b"null", "object"),
        (b"12", "object"),
    ],
)
async def test_what_is_no_json_object_is_told_where(client: Client, body: bytes, says: str) -> None:
    reply = await client.post(body)

    assert reply.status == 400
    assert says in reply.error["message"]


async def test_of_two_equal_keys_the_last_counts(client: Client) -> None:
    body = (
        b'\xef\xbb\xbf{"model":"nobody","messages":[{"role":"user","content":"Hi"}],"model":"beta"}'
    )

    reply = await client.post(body)

    assert reply.json["model"] == "beta"


@pytest.mark.parametrize(
    ("sent", "text"),
    [
        (rb"\udfff!", "\ufffd!"),
        (rb"wait \ud83d", "wait \ufffd"),
        (rb"\uD83D \uDE00", "\ufffd \ufffd"),
        (rb"\ud83d\ud83d\ude00\ude00", "\ufffd\U0001f600\ufffd"),
        (rb"\\ud83d \ud83d \u00e9", "\\ud83d \ufffd \xe9"),
        (b"\xed\xa0\xbd alone", "\ufffd alone"),
        (b"\xed\xa0\xbd\xed\xb8\x80", "\U0001f600"),
    ],
)
async def test_half_a_surrogate_pair_in_a_message_is_replaced_and_the_rest_untouched(
    gateway: Harness, client: Client, sent: bytes, text: str
) -> None:
    part = b'[{"type":"text","text":"%b"}]' % sent
    metadata = b'{"\\ud83d":"\\ud83d"}'
    for content in (b'"%b"' % sent, part):
        body = b'{"messages":[{"role":"user","content":%b}],"metadata":%b}' % (content, metadata)
        reply = await client.post(body)

        assert reply.status == 200
        assert gateway.model.seen[-1].messages[-1].text == text
        assert gateway.model.seen[-1].params["metadata"] == {"\ufffd": "\ufffd"}


@pytest.mark.parametrize("name", ["model", "user"])
@pytest.mark.parametrize("value", [rb"\ud800", rb"opensoul\udc00"])
async def test_half_a_surrogate_pair_is_refused_in_an_identifier(
    client: Client, name: str, value: bytes
) -> None:
    body = b'{"%b":"%b","messages":[{"role":"user","content":"x"}]}' % (name.encode(), value)

    reply = await client.post(body)

    assert (reply.status, reply.error["param"]) == (400, name)


async def test_half_a_surrogate_pair_of_the_model_is_told_as_it_is(
    gateway: Harness, client: Client
) -> None:
    gateway.model.script = (TextDelta("\udcff?"), *gateway.model.script)

    reply = await client.chat()

    assert reply.json["choices"][0]["message"]["content"] == "\udcff?Hello"


async def chunks(size: int, count: int) -> AsyncIterator[bytes]:
    for _ in range(count):
        yield b" " * size


@pytest.mark.parametrize("declared", [True, False])
async def test_a_body_past_the_limit_is_refused_with_the_limit_and_its_key(
    gateway: Harness, client: Client, declared: bool
) -> None:
    gateway.chat(max_body_bytes=100_000)

    # Far more than fits the sockets' buffers: the answer must not be lost while it is still sent.
    data = BytesIO(b" " * 16_000_000) if declared else chunks(100_000, 160)
    reply = await client.ask("POST", CHAT, headers=JSON, data=data)

    assert reply.status == 413
    assert reply.error["type"] == "invalid_request_error"
    assert "100000 bytes" in reply.error["message"]
    assert "gateway.http.endpoints.chatCompletions.maxBodyBytes" in reply.error["message"]


async def test_a_body_of_just_the_limit_is_taken(gateway: Harness, client: Client) -> None:
    body = json.dumps({"messages": HI}).encode()
    gateway.chat(max_body_bytes=len(body))
    assert (await client.post(body)).status == 200
    assert (await client.post(body + b" ")).status == 413


async def test_a_slow_body_is_given_up(gateway: Harness) -> None:
    gateway.chat(body_timeout=0.05)
    async with bare(gateway.port) as wire:
        wire.send_head("Content-Length: 100")
        wire.writer.write(b'{"messages"')

        status, _ = await wire.read_head()
        body = await wire.reader.read()

    assert status == 408
    assert b"gateway.http.endpoints.chatCompletions.bodyTimeoutMs" in body
    assert b"0.05 s" in body


async def test_a_client_that_never_stops_sending_is_cut_off(gateway: Harness) -> None:
    async with asyncio.timeout(30), bare(gateway.port) as wire:
        wire.send_head("Content-Length: 100000000", "Content-Type: text/plain")

        status, _ = await wire.read_head()
        await wire.reader.read()

    assert status == 415


async def test_a_full_session_says_when_to_come_back(gateway: Harness, client: Client) -> None:
    gateway.settings = replace(gateway.settings, lanes=LaneSettings(max_waiting=0))
    gate = asyncio.Event()
    gateway.model.script = (gate, *gateway.model.script)
    first = asyncio.create_task(client.chat(user="Alice"))
    await gateway.model.called.wait()

    reply = await client.chat(user="Alice")

    assert reply.status == 429
    assert reply.error["code"] == "session_busy"
    assert reply.error["type"] == "rate_limit_error"
    assert int(reply.headers["Retry-After"]) >= 1
    assert "number 1 in the queue" in reply.error["message"]
    gate.set()
    assert (await first).status == 200


async def test_a_full_gateway_says_so(gateway: Harness, client: Client) -> None:
    lanes = LaneSettings(max_concurrent=1, max_queued=0)
    gateway.settings = replace(gateway.settings, lanes=lanes)
    gate = asyncio.Event()
    gateway.model.script = (gate, *gateway.model.script)
    first = asyncio.create_task(client.chat())
    await gateway.model.called.wait()

    reply = await client.chat()

    assert (reply.status, reply.error["code"]) == (503, "gateway_busy")
    assert reply.headers["Retry-After"] == "5"
    gate.set()
    assert (await first).status == 200


async def test_a_gateway_that_stops_takes_no_more(gateway: Harness, client: Client) -> None:
    await gateway.gateway.drain(0)

    reply = await client.chat()

    assert (reply.status, reply.error["code"]) == (503, "shutting_down")
    assert reply.error["type"] == "server_error"


async def test_the_lane_of_a_refused_request_stays_free(gateway: Harness, client: Client) -> None:
    await client.chat(temperature=9)
    await client.chat(model="nobody")

    lanes: Lanes = gateway.lanes
    assert (lanes.working, lanes.waiting) == (0, 0)


async def test_a_principal_without_the_scope_is_forbidden(gateway: Harness, client: Client) -> None:
    gateway.gateway.scopes = frozenset({Scope.READ})

    reply = await client.chat()

    assert reply.status == 403
    assert reply.error["type"] == "permission_error"
    assert reply.error["code"] == "missing_scope"
    assert (await client.get("/v1/models")).status == 200
