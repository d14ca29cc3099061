"""Web pages of other origins: those that are listed are answered, and can read the answer."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import pytest

from opensoul.domain.settings import AuthMode, AuthSettings

from .app import Harness
from .client import BEARER, CHAT, Client, bare

PAGE = "https://app.example"
ASKS = {
    "Origin": PAGE,
    "Access-Control-Request-Method": "POST",
    "Access-Control-Request-Headers": "authorization,content-type,x-opensoul-session-key",
}


def admit(gateway: Harness, *origins: str, mode: AuthMode = AuthMode.TOKEN) -> None:
    auth = gateway.settings.auth if mode is AuthMode.TOKEN else AuthSettings(mode)
    gateway.settings = replace(gateway.settings, cors_origins=origins, auth=auth)


def words(headers: Mapping[str, str], name: str) -> set[str]:
    return {word.strip().lower() for word in headers[name].split(",")}


def cors_headers(headers: Mapping[str, str]) -> list[str]:
    return [name for name in headers if name.lower().startswith("access-control-")]


@pytest.mark.parametrize("mode", [AuthMode.TOKEN, AuthMode.NONE])
@pytest.mark.parametrize("path", [CHAT, "/v1/models", "/healthz", "/chat/completions"])
async def test_a_listed_page_may_ask_without_a_credential_what_it_may_send(
    gateway: Harness, client: Client, path: str, mode: AuthMode
) -> None:
    admit(gateway, "https://other.example", PAGE, mode=mode)

    reply = await client.ask("OPTIONS", path, headers=ASKS)

    assert (reply.status, reply.body) == (204, b"")
    assert reply.headers["Access-Control-Allow-Origin"] == PAGE
    assert {"get", "post"} <= words(reply.headers, "Access-Control-Allow-Methods")
    accepted = words(reply.headers, "Access-Control-Allow-Headers")
    assert {"authorization", "content-type", "idempotency-key"} <= accepted
    assert "x-opensoul-session-key" in accepted
    assert reply.headers["Access-Control-Max-Age"] == "600"
    assert words(reply.headers, "Vary") == {"origin"}
    assert not {"Content-Length", "Content-Type", "Access-Control-Allow-Credentials"} & set(
        reply.headers
    )


async def test_a_page_may_send_what_libraries_send_but_not_what_proxies_add(
    gateway: Harness, client: Client
) -> None:
    admit(gateway, PAGE)
    wanted = "X-Stainless-Lang, HTTP-Referer,x-forwarded-for, tailscale-user-login, b\xe4d, a b,,"

    reply = await client.ask(
        "OPTIONS", CHAT, headers={**ASKS, "Access-Control-Request-Headers": wanted}
    )

    accepted = words(reply.headers, "Access-Control-Allow-Headers")
    assert {"x-stainless-lang", "http-referer"} <= accepted
    assert not {"x-forwarded-for", "tailscale-user-login", "b\xe4d", "a b", ""} & accepted


@pytest.mark.parametrize("mode", [AuthMode.TOKEN, AuthMode.NONE])
async def test_a_listed_page_reads_the_answer_and_all_its_headers(
    gateway: Harness, client: Client, mode: AuthMode
) -> None:
    admit(gateway, PAGE, mode=mode)

    for stream in (False, True):
        reply = await client.chat(headers={"Origin": PAGE}, stream=stream)

        assert reply.status == 200
        assert reply.headers["Access-Control-Allow-Origin"] == PAGE
        assert words(reply.headers, "Vary") == {"origin"}
        assert "Access-Control-Allow-Credentials" not in reply.headers
        readable = words(reply.headers, "Access-Control-Expose-Headers")
        assert {"x-request-id", "x-opensoul-run-id", "x-opensoul-session-key"} <= readable
        assert "server-timing" in readable


@pytest.mark.parametrize(
    ("method", "path", "headers", "status"),
    [
        ("POST", CHAT, {}, 401),
        ("POST", CHAT, {**BEARER, "Content-Type": "text/plain"}, 415),
        ("GET", "/models", {}, 404),
        ("PUT", CHAT, BEARER, 405),
        ("GET", "/healthz", {}, 200),
    ],
)
async def test_a_listed_page_can_read_refusals(
    gateway: Harness, client: Client, method: str, path: str, headers: dict[str, str], status: int
) -> None:
    admit(gateway, PAGE)

    reply = await client.ask(method, path, headers={"Origin": PAGE, **headers}, data=b"x")

    assert (reply.status, reply.headers["Access-Control-Allow-Origin"]) == (status, PAGE)
    if status in (401, 405):
        name = {401: "www-authenticate", 405: "allow"}[status]
        assert name in words(reply.headers, "Access-Control-Expose-Headers")


@pytest.mark.parametrize(
    "origin",
    [
        "https://evil.example",
        "null",
        "http://app.example",
        "https://app.example:8443",
        "https://app.example.evil.example",
        "https://sub.app.example",
        "*",
        "",
    ],
)
async def test_any_other_page_is_answered_as_without_cors(
    gateway: Harness, client: Client, origin: str
) -> None:
    requests = [
        ("OPTIONS", CHAT, ASKS | {"Origin": origin}, 401),
        ("OPTIONS", "/healthz", ASKS | {"Origin": origin}, 204),
        ("GET", "/v1/models", BEARER | {"Origin": origin}, 200),
    ]
    admit(gateway, PAGE)
    for method, path, headers, status in requests:
        reply = await client.ask(method, path, headers=headers)
        assert (reply.status, cors_headers(reply.headers)) == (status, [])
        assert words(reply.headers, "Vary") == {"origin"}

    admit(gateway, PAGE, mode=AuthMode.NONE)
    for method, path, headers, _ in requests:
        reply = await client.ask(method, path, headers=headers)
        assert (reply.status, cors_headers(reply.headers)) == (403, [])


async def test_nothing_of_cors_is_sent_unless_it_is_configured(client: Client) -> None:
    for method, headers in (("GET", BEARER | {"Origin": PAGE}), ("OPTIONS", ASKS), ("GET", {})):
        reply = await client.ask(method, "/v1/models", headers=headers)
        assert cors_headers(reply.headers) == []
        assert "Vary" not in reply.headers


async def test_every_page_may_be_admitted_where_a_secret_is_needed(
    gateway: Harness, client: Client
) -> None:
    admit(gateway, "*")
    network = {"Access-Control-Request-Private-Network": "true"}

    asked = await client.ask("OPTIONS", CHAT, headers=ASKS | network)
    reply = await client.chat(headers={"Origin": "https://any.example"})
    stranger = await client.get("/v1/models", headers={"Origin": PAGE})

    assert (asked.status, reply.status, stranger.status) == (204, 200, 401)
    for headers in (asked.headers, reply.headers, stranger.headers):
        assert headers["Access-Control-Allow-Origin"] == "*"
        assert "Access-Control-Allow-Credentials" not in headers
    assert "Access-Control-Allow-Private-Network" not in asked.headers


async def test_without_authentication_every_page_is_still_none(
    gateway: Harness, client: Client
) -> None:
    admit(gateway, "*", mode=AuthMode.NONE)

    for method in ("OPTIONS", "GET"):
        assert (await client.ask(method, "/v1/models", headers=ASKS)).status == 403


async def test_a_page_that_is_listed_by_name_may_reach_a_private_address(
    gateway: Harness, client: Client
) -> None:
    admit(gateway, PAGE)
    network = {"Access-Control-Request-Private-Network": "true"}

    asked = await client.ask("OPTIONS", CHAT, headers=ASKS | network)
    plain = await client.ask("OPTIONS", CHAT, headers=ASKS)

    assert asked.headers["Access-Control-Allow-Private-Network"] == "true"
    assert "Access-Control-Allow-Private-Network" not in plain.headers


async def test_a_listed_page_under_a_foreign_host_name_is_refused(
    gateway: Harness, client: Client
) -> None:
    admit(gateway, PAGE, mode=AuthMode.NONE)

    reply = await client.ask("OPTIONS", CHAT, headers=ASKS | {"Host": "evil.example"})

    assert reply.status == 403


async def test_a_change_of_the_list_is_in_force_at_once(gateway: Harness, client: Client) -> None:
    admit(gateway, PAGE)
    assert (await client.ask("OPTIONS", CHAT, headers=ASKS)).status == 204
    admit(gateway)
    assert (await client.ask("OPTIONS", CHAT, headers=ASKS)).status == 401


@pytest.mark.parametrize(
    ("path", "allowed"),
    [(CHAT, {"post", "options"}), ("/v1/models", {"get", "head", "options"})],
)
async def test_options_says_which_methods_a_path_has(
    client: Client, path: str, allowed: set[str]
) -> None:
    reply = await client.ask("OPTIONS", path)

    assert (reply.status, reply.body) == (204, b"")
    assert words(reply.headers, "Allow") == allowed
    assert (await client.ask("OPTIONS", path, headers={})).status == 401


@pytest.mark.parametrize("path", ["/healthz", "/readyz", "/v1/models", "/v1/models/beta", "/none"])
async def test_head_is_get_without_the_body(gateway: Harness, client: Client, path: str) -> None:
    got, head = await client.get(path), await client.ask("HEAD", path)

    assert (head.status, head.body) == (got.status, b"")
    for name in ("Content-Type", "Content-Length"):
        assert head.headers[name] == got.headers[name]
    async with bare(gateway.port) as connection:
        connection.send_head("Connection: close", method="HEAD", path=path)
        _, _ = await connection.read_head()
        assert await connection.reader.read() == b""
