"""Every route refuses clients that may not use it, because its transport says so."""

from __future__ import annotations

from collections.abc import Sequence

import pytest
from quart import Quart, Response, request

from opensoul.adapters.transports import Limits, Route, RouteTable, Switch, Transport
from opensoul.adapters.transports.http import install
from opensoul.domain.access import Scope

from .app import Harness, served
from .client import BEARER, Client


async def view(**variables: str) -> Response:
    return Response(b"here")


async def length() -> Response:
    return Response(str(len(await request.get_data())))


async def pieces() -> Response:
    return Response(str(sum([len(piece) async for piece in request.body])))


READ = Route("/v1/notes", "GET", Scope.READ, view)
CLEAR = Route("/v1/notes", "DELETE", Scope.ADMIN, view)


def serving(*routes: Route) -> Harness:
    """A Gateway that serves these routes and no others."""
    harness = Harness()
    harness.app = Quart("opensoul", static_folder=None)
    install(harness.app, harness.gateway, [Transport("notes", routes)])
    return harness


def table(harness: Harness) -> RouteTable:
    return RouteTable(harness.transports)


async def test_every_route_is_in_the_table(gateway: Harness) -> None:
    served_routes = {
        (rule.rule, method)
        for rule in gateway.app.url_map.iter_rules()
        for method in (rule.methods or set()) - {"HEAD"}
    }

    assert served_routes == {(route.path, route.method) for route in table(gateway)}


async def test_every_route_but_the_health_ones_refuses_a_stranger(
    gateway: Harness, client: Client
) -> None:
    for rule in gateway.app.url_map.iter_rules():
        path = rule.rule.replace("<path:model_id>", "opensoul")
        for method in rule.methods or ():
            status = (await client.ask(method, path, headers={})).status
            assert status == (200 if rule.rule in ("/healthz", "/readyz") else 401), path


@pytest.mark.parametrize("held", [frozenset[Scope](), frozenset({Scope.PAIRING})])
async def test_every_route_refuses_a_principal_without_its_scope(
    gateway: Harness, client: Client, held: frozenset[Scope]
) -> None:
    gateway.gateway.scopes = held
    for route in table(gateway):
        path = route.path.replace("<path:model_id>", "opensoul")
        for method in (route.method, "HEAD") if route.method == "GET" else (route.method,):
            status = (await client.ask(method, path)).status
            assert status == (403 if route.scope else 200), path


async def test_a_route_of_no_transport_needs_the_highest_scope() -> None:
    harness = Harness()
    harness.app.get("/forgotten")(view)
    async with served(harness), Client(harness.url) as client:
        assert (await client.get("/forgotten", headers={})).status == 401
        assert (await client.get("/forgotten", headers=BEARER)).status == 200
        harness.gateway.scopes = frozenset({Scope.WRITE, Scope.READ})
        assert (await client.get("/forgotten", headers=BEARER)).status == 403


@pytest.mark.parametrize("routes", [(READ, CLEAR), (CLEAR, READ)])
async def test_each_method_of_a_path_needs_its_own_scope(routes: Sequence[Route]) -> None:
    harness = serving(*routes)
    async with served(harness), Client(harness.url) as client:

        async def statuses(*scopes: Scope) -> list[int]:
            harness.gateway.scopes = frozenset(scopes)
            methods = ("GET", "HEAD", "DELETE")
            return [(await client.ask(m, "/v1/notes")).status for m in methods]

        assert await statuses() == [403, 403, 403]
        assert await statuses(Scope.READ) == [200, 200, 403]
        assert await statuses(Scope.ADMIN) == [200, 200, 200]


@pytest.mark.parametrize("read", [length, pieces])
async def test_each_route_has_its_own_limit_for_bodies(read: object) -> None:
    routes = [
        Route(f"/{size}", "POST", Scope.WRITE, read, limits=Limits(body_bytes=size))  # type: ignore[arg-type]
        for size in (10, 100_000)
    ]
    harness = serving(*routes)
    async with served(harness), Client(harness.url) as client:

        async def send(path: str, size: int) -> tuple[int, str]:
            reply = await client.ask("POST", path, data=b"x" * size)
            return reply.status, reply.body.decode()

        assert await send("/10", 10) == (200, "10")
        assert await send("/100000", 100_000) == (200, "100000")
        for path, size in (("/10", 11), ("/100000", 100_001), ("/10", 100_000)):
            status, body = await send(path, size)
            assert status == 413
            assert f"larger than {path[1:]} bytes." in body


async def test_a_limit_is_read_from_the_settings_in_force() -> None:
    route = Route(
        "/notes",
        "POST",
        Scope.WRITE,
        length,
        limits=lambda settings: Limits(settings.chat.max_body_bytes, setting="a.section"),
    )
    harness = serving(route)
    async with served(harness), Client(harness.url) as client:
        assert (await client.ask("POST", "/notes", data=b"x" * 11)).status == 200
        harness.chat(max_body_bytes=10)
        refused = await client.ask("POST", "/notes", data=b"x" * 11)

    assert refused.status == 413
    assert "larger than 10 bytes (a.section.maxBodyBytes)" in refused.error["message"]


@pytest.mark.parametrize(
    ("method", "path", "on", "off"),
    [
        ("GET", "/notes/1/text", 200, "endpoint_disabled"),
        ("HEAD", "/notes/1/text", 200, ""),
        ("POST", "/notes/1/text", 405, "endpoint_disabled"),
        ("GET", "/notes/1/2/text", 404, "not_found"),
        ("GET", "/files/a/b", 200, "endpoint_disabled"),
        ("GET", "/open", 200, "endpoint_disabled"),
    ],
)
async def test_a_switch_turns_off_every_method_of_a_path(
    method: str, path: str, on: int, off: str
) -> None:
    switch = Switch("The notebook", "a.key", lambda settings: settings.chat.enabled)
    paths = {"/notes/<number>/text": Scope.READ, "/files/<path:name>": Scope.READ, "/open": None}
    routes = [Route(path, "GET", scope, view, switch=switch) for path, scope in paths.items()]
    harness = serving(*routes)
    async with served(harness), Client(harness.url) as client:
        assert (await client.ask(method, path)).status == on
        harness.chat(enabled=False)
        reply = await client.ask(method, path)

    assert reply.status == 404
    if method != "HEAD":
        assert reply.error["code"] == off
        assert ("a.key to true" in reply.error["message"]) is (off == "endpoint_disabled")


@pytest.mark.parametrize(
    ("transports", "problem"),
    [
        ([Transport("a", (READ, READ))], "two routes answer GET /v1/notes"),
        ([Transport("a", (READ,)), Transport("b", (CLEAR, READ))], "two routes answer GET"),
        ([Transport("a"), Transport("a")], "two transports have the name 'a'"),
        ([Transport("a", upgrade=view), Transport("b", upgrade=view)], "WebSocket upgrades"),
    ],
)
def test_transports_that_collide_are_a_mistake(transports: list[Transport], problem: str) -> None:
    with pytest.raises(ValueError, match=problem):
        RouteTable(transports)
