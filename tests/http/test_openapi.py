"""The OpenAPI document says of each route what the transports do."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from opensoul.adapters.transports import Route, RouteTable
from opensoul.adapters.transports.routes import SCHEMA_REF, json_content
from opensoul.domain.access import Scope
from scripts.openapi import document

from .app import Harness
from .client import CHAT, HI, Client
from .test_guard import view


def made(gateway: Harness) -> dict[str, Any]:
    return document(RouteTable(gateway.transports), title="The Gateway")


def references(value: Any) -> Iterator[str]:
    if isinstance(value, dict):
        if isinstance(value.get("$ref"), str):
            yield value["$ref"]
        for item in value.values():
            yield from references(item)
    elif isinstance(value, list):
        for item in value:
            yield from references(item)


def test_every_route_is_described_with_its_scope(gateway: Harness) -> None:
    paths = made(gateway)["paths"]

    for route in RouteTable(gateway.transports):
        path = route.path
        for name, spelled in route.variables:
            path = path.replace(spelled, f"{{{name}}}")
        operation = paths[path][route.method.lower()]
        needed = {scope for way in operation["security"] for held in way.values() for scope in held}
        assert needed == ({route.scope.value} if route.scope else set())
        assert operation["summary"].endswith(".")
        assert {"200", "default"} <= operation["responses"].keys()
    assert sum(len(operations) for operations in paths.values()) == 9


def test_every_reference_leads_to_a_schema(gateway: Harness) -> None:
    whole = made(gateway)
    schemas = whole["components"]["schemas"]

    assert set(references(whole)) == {SCHEMA_REF.format(model=name) for name in schemas}
    assert "$defs" not in str(whole)


async def test_answers_have_the_fields_that_the_document_requires(
    gateway: Harness, client: Client
) -> None:
    whole = made(gateway)
    answers = [
        (CHAT, "post", await client.chat()),
        ("/v1/models", "get", await client.get("/v1/models")),
        ("/v1/models/{model_id}", "get", await client.get("/v1/models/beta")),
        ("/healthz", "get", await client.get("/healthz")),
        ("/readyz", "get", await client.get("/readyz")),
    ]
    for path, method, reply in answers:
        stated = whole["paths"][path][method]["responses"]["200"]["content"]["application/json"]
        assert_fits(reply.json, stated["schema"], whole)
    refused = await client.chat(messages=[])
    assert_fits(refused.json, {"$ref": SCHEMA_REF.format(model="Error")}, whole)


def assert_fits(value: Any, schema: dict[str, Any], whole: dict[str, Any]) -> None:
    """Whether all that is required is there, and nothing that is not described."""
    if "$ref" in schema:
        schema = whole["components"]["schemas"][schema["$ref"].rpartition("/")[2]]
    if "const" in schema:
        assert value == schema["const"]
    match value:
        case dict():
            described = schema["properties"]
            assert set(schema.get("required", ())) <= value.keys() <= described.keys()
            for name, item in value.items():
                assert_fits(item, described[name], whole)
        case list():
            for item in value:
                assert_fits(item, schema["items"], whole)


def test_the_request_has_every_field_that_is_read(gateway: Harness) -> None:
    body = made(gateway)["paths"][CHAT]["post"]["requestBody"]["content"]["application/json"]
    fields = body["schema"]["properties"]

    assert {"messages", "model", "stream", "temperature", "response_format"} <= fields.keys()
    assert HI[0].keys() <= fields["messages"]["items"]["properties"].keys()


def test_a_route_of_a_plugin_is_described_too() -> None:
    schema = {"$ref": SCHEMA_REF.format(model="Note"), "$defs": {"Note": {"type": "string"}}}
    routes = [
        Route("/notes/<int:number>/<name>", method, scope, view, "A note.", operation=operation)
        for method, scope, operation in (
            ("GET", None, dict),
            ("PUT", Scope.WRITE, lambda: {"requestBody": {"content": json_content(schema)}}),
        )
    ]
    whole = document(routes, title="Notes")

    operations = whole["paths"]["/notes/{number}/{name}"]
    assert [p["name"] for p in operations["get"]["parameters"]] == ["number", "name"]
    assert operations["get"]["security"] == []
    assert operations["put"]["requestBody"]["content"] == json_content(
        {"$ref": "#/components/schemas/Note"}
    )
    assert whole["components"]["schemas"]["Note"] == {"type": "string"}


def test_two_schemas_of_one_name_are_a_mistake() -> None:
    routes = [
        Route(f"/{kind}", "GET", None, view, operation=lambda kind=kind: {"$defs": {"X": kind}})  # type: ignore[misc]
        for kind in ("a", "b")
    ]
    with pytest.raises(ValueError, match="two schemas have the name 'X'"):
        document(routes, title="Notes")
