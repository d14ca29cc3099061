"""Every route refuses who may not use it, because the route table says so."""

from __future__ import annotations

import pytest
from quart import Blueprint, Quart, Response

from opensoul.adapters.transports.http import ROUTES, Route, install
from opensoul.adapters.transports.routes import by_method
from opensoul.domain.access.authentication import Scope

from .app import Harness, served
from .client import BEARER, Client

SCOPES = {route.rule: route.scope for route in ROUTES}


class Notes:
    """Two methods of one rule, each with a scope of its own."""

    read = Route("/v1/notes", ("GET",), Scope.READ)
    clear = Route("/v1/notes", ("DELETE",), Scope.ADMIN)


async def test_every_route_is_in_the_table(gateway: Harness) -> None:
    served_routes = {
        (rule.rule, *sorted((rule.methods or set()) - {"HEAD"}))
        for rule in gateway.app.url_map.iter_rules()
    }

    assert served_routes == {(route.rule, *route.methods) for route in ROUTES}


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
    for rule in gateway.app.url_map.iter_rules():
        path = rule.rule.replace("<path:model_id>", "opensoul")
        for method in rule.methods or ():
            status = (await client.ask(method, path)).status
            assert status == (403 if SCOPES[rule.rule] else 200), path


async def test_a_route_that_nobody_listed_needs_the_most_there_is() -> None:
    harness = Harness()
    blueprint = Blueprint("forgotten", __name__)

    @blueprint.get("/forgotten")
    async def forgotten() -> Response:
        return Response(b"here")

    harness.app.register_blueprint(blueprint)
    async with served(harness), Client(harness.url) as client:
        assert (await client.get("/forgotten", headers={})).status == 401
        assert (await client.get("/forgotten", headers=BEARER)).status == 200
        harness.gateway.scopes = frozenset({Scope.WRITE, Scope.READ})
        assert (await client.get("/forgotten", headers=BEARER)).status == 403


@pytest.mark.parametrize("turned", [False, True])
async def test_each_method_of_a_path_needs_its_own_scope(turned: bool) -> None:
    routes = [Notes.read, Notes.clear]
    harness = Harness()
    app = Quart("opensoul", static_folder=None)
    install(app, harness.gateway, reversed(routes) if turned else routes)
    blueprint = Blueprint("notes", __name__)

    async def view() -> Response:
        return Response(b"here")

    for route in routes:
        route.serve(blueprint, route.methods[0].lower(), view)
    app.register_blueprint(blueprint)
    harness.app = app
    async with served(harness), Client(harness.url) as client:

        async def statuses(*scopes: Scope) -> list[int]:
            harness.gateway.scopes = frozenset(scopes)
            methods = ("GET", "HEAD", "DELETE")
            return [(await client.ask(m, "/v1/notes")).status for m in methods]

        assert await statuses() == [403, 403, 403]
        assert await statuses(Scope.READ) == [200, 200, 403]
        assert await statuses(Scope.ADMIN) == [200, 200, 200]


def test_two_routes_for_one_method_of_a_path_are_a_mistake() -> None:
    again = Route("/v1/notes", ("POST", "GET"), None)

    with pytest.raises(ValueError, match="two routes answer GET /v1/notes"):
        by_method([Notes.read, Notes.clear, again])
