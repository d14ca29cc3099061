"""Every route refuses who may not use it, because the route table says so."""

from __future__ import annotations

import pytest
from quart import Blueprint, Response

from opensoul.adapters.transports.http import ROUTES
from opensoul.domain.auth import Scope

from .app import Harness, served
from .client import BEARER, Client

SCOPES = {route.rule: route.scope for route in ROUTES}


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
