"""The OpenAPI document says of each route what the transports do."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from jsonschema import Draft202012Validator

from opensoul.adapters.transports import Route, RouteTable
from opensoul.adapters.transports.http.allowances import allowance_headers
from opensoul.adapters.transports.http.errors import codes_by_status, problem_of
from opensoul.adapters.transports.openapi import document, statuses
from opensoul.adapters.transports.routes import SCHEMA_REF, Switch, json_content
from opensoul.domain import errors
from opensoul.domain.access import ALL_SCOPES, Scope
from opensoul.domain.errors import FailureKind, GatewayError, ModelFailed
from opensoul.domain.services import Allowance, Allowances

from .app import Harness
from .client import CHAT, Client, Reply
from .test_guard import view

TOOL_CALL_FIELDS = {"tools", "tool_choice", "parallel_tool_calls", "functions", "function_call"}


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


def media(value: Any) -> Iterator[dict[str, Any]]:
    """Every media type object of JSON in the document."""
    if isinstance(value, dict):
        if "application/json" in value:
            yield value["application/json"]
        for item in value.values():
            yield from media(item)


def problems(value: Any, schema: dict[str, Any], whole: dict[str, Any]) -> list[str]:
    """What about `value` breaks a schema of the document."""
    validator = Draft202012Validator({**schema, "components": whole["components"]})
    return [error.message for error in validator.iter_errors(value)]


def answer_of(whole: dict[str, Any], path: str, method: str, status: int) -> dict[str, Any]:
    response = whole["paths"][path][method.lower()]["responses"][str(status)]
    if "$ref" in response:
        response = whole["components"]["responses"][response["$ref"].rpartition("/")[2]]
    schema: dict[str, Any] = response["content"]["application/json"]["schema"]
    return schema


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
        assert "200" in operation["responses"]
    described = sum(len(operations) for operations in paths.values())
    assert described == len(list(RouteTable(gateway.transports)))


def test_the_names_of_operations_say_nothing_of_how_paths_are_read(gateway: Harness) -> None:
    paths = made(gateway)["paths"]
    names = {operation["operationId"] for path in paths.values() for operation in path.values()}

    assert {"get_v1_models_model_id", "post_v1_responses_response_id_cancel"} <= names
    assert len(names) == sum(map(len, paths.values()))


def test_every_reference_leads_to_a_part_of_the_document(gateway: Harness) -> None:
    whole = made(gateway)
    components = whole["components"]

    assert set(references(whole)) <= {
        f"#/components/{kind}/{name}"
        for kind in ("schemas", "responses")
        for name in components[kind]
    }
    assert {SCHEMA_REF.format(model=name) for name in components["schemas"]} <= set(
        references(whole)
    )
    assert "$defs" not in str(whole)


def errors_of_the_tree() -> list[type[GatewayError]]:
    kinds = [k for k in vars(errors).values() if isinstance(k, type)]
    return [k for k in kinds if issubclass(k, GatewayError) and k is not ModelFailed]


def test_every_error_is_in_the_document(gateway: Harness) -> None:
    whole = made(gateway)
    failures = [problem_of(ModelFailed(kind, "x")) for kind in FailureKind]
    pairs = {(failure.status, failure.code) for failure in failures}
    pairs |= {(s, c) for s, codes in codes_by_status().items() for c in codes}
    stated = whole["components"]["responses"]

    assert {kind.code for kind in errors_of_the_tree()} <= {code for _, code in pairs}
    for status, code in pairs:
        assert f"`{code}`" in stated[f"Error{status}"]["description"]


def test_a_chat_completion_may_fail_with_every_status_of_the_table(gateway: Harness) -> None:
    responses = made(gateway)["paths"][CHAT]["post"]["responses"]

    # 405 is no answer to a request with the method of the operation, 410 is about a run's events.
    others = {"405", "410"}
    assert responses.keys() - others == {"200", *map(str, codes_by_status())} - others


def test_the_statuses_of_a_route_follow_from_what_it_has() -> None:
    switch = Switch("Notes", "notes.enabled", lambda _: True)
    body = {"requestBody": {"content": json_content({"type": "object"})}}

    assert statuses(Route("/notes", "GET", None, view)) == {400, 403, 500}
    assert statuses(Route("/notes", "GET", Scope.READ, view)) == {400, 401, 403, 429, 500, 503}
    assert 404 in statuses(Route("/notes/<name>", "GET", None, view))
    assert 404 in statuses(Route("/notes", "GET", None, view, switch=switch))
    assert {408, 413, 415} <= statuses(Route("/notes", "PUT", None, view, operation=lambda: body))
    assert 418 in statuses(Route("/notes", "GET", None, view, errors=(418,)))


def test_every_example_fits_its_schema(gateway: Harness) -> None:
    whole = made(gateway)
    examples = [
        (example["value"], content["schema"])
        for content in media(whole)
        for example in content.get("examples", {}).values()
    ]

    assert len(examples) > 20
    for value, schema in examples:
        assert problems(value, schema, whole) == [], value


async def test_every_example_of_a_question_is_answered(gateway: Harness, client: Client) -> None:
    whole = made(gateway)
    content = whole["paths"][CHAT]["post"]["requestBody"]["content"]["application/json"]
    chunk = {"$ref": SCHEMA_REF.format(model="ChatCompletionChunk")}

    for name, example in content["examples"].items():
        reply = await client.post(example["value"])
        assert reply.status == 200, (name, reply.body)
        if example["value"].get("stream"):
            assert [problems(sent, chunk, whole) for sent in reply.chunks] == [[]] * len(
                reply.chunks
            )
        else:
            assert problems(reply.json, answer_of(whole, CHAT, "post", 200), whole) == []


async def test_every_header_of_the_family_in_an_answer_is_described(
    gateway: Harness, client: Client
) -> None:
    described = made(gateway)["paths"][CHAT]["post"]["responses"]["200"]["headers"]
    task = [{"role": "user", "content": "### Task: a title"}]

    for reply in (
        await client.chat(user="alice", headers={"x-opensoul-odd": "1"}),
        await client.chat(messages=task),
        await client.chat(stream=True),
    ):
        assert reply.status == 200
        sent = {name.lower() for name in reply.headers if name.lower().startswith("x-opensoul-")}
        assert sent <= described.keys()


def test_the_headers_of_limits_are_described() -> None:
    limit = Allowance(9, 1, 2.0)
    headers = allowance_headers(Allowances(limit, limit, limit, Allowance(2, 1)))
    responses = document([])["components"]["responses"]

    assert responses["Error429"]["headers"].keys() == {"Retry-After", *headers}
    assert responses["Error503"]["headers"].keys() == {"Retry-After"}


async def test_answers_fit_their_schemas(gateway: Harness, client: Client) -> None:
    whole = made(gateway)
    answers: list[tuple[str, str, Reply]] = [
        ("/v1/models", "get", await client.get("/v1/models")),
        ("/v1/models/{model_id}", "get", await client.get("/v1/models/beta")),
        ("/v1/models/{model_id}", "get", await client.get("/v1/models/none")),
        ("/healthz", "get", await client.get("/healthz")),
        ("/readyz", "get", await client.get("/readyz")),
        *await answers_about_runs(client),
        (CHAT, "post", await client.chat(messages=[])),
        (CHAT, "post", await client.chat(model="none")),
        (CHAT, "post", await client.chat(headers={"Authorization": "x"})),
        (CHAT, "post", await client.post(b"x", headers={"Content-Type": "text/plain"})),
    ]
    gateway.failing["store"] = "The store cannot be written."
    answers.append(("/readyz", "get", await client.get("/readyz")))

    assert [reply.status for *_, reply in answers] == [
        200,
        200,
        404,
        200,
        200,
        *(200, 400, 404, 200, 404, 400, 200),
        400,
        404,
        401,
        415,
        503,
    ]
    for path, method, reply in answers:
        schema = answer_of(whole, path, method, reply.status)
        assert problems(reply.json, schema, whole) == [], (path, reply.body)


async def answers_about_runs(client: Client) -> list[tuple[str, str, Reply]]:
    run = (await client.chat()).headers["x-opensoul-run-id"]
    every, one, events, cancel = (
        f"/v1/runs{rest}" for rest in ("", "/{run_id}", "/{run_id}/events", "/{run_id}/cancel")
    )
    return [
        (every, "get", await client.get("/v1/runs")),
        (every, "get", await client.get("/v1/runs?limit=0")),
        (every, "get", await client.get("/v1/runs?after=x")),
        (one, "get", await client.get(f"/v1/runs/{run}")),
        (one, "get", await client.get("/v1/runs/x")),
        (events, "get", await client.get(f"/v1/runs/{run}/events?after=x")),
        (cancel, "post", await client.ask("POST", f"/v1/runs/{run}/cancel")),
    ]


def test_the_request_has_every_field_that_is_read(gateway: Harness) -> None:
    body = made(gateway)["paths"][CHAT]["post"]["requestBody"]["content"]["application/json"]
    fields = body["schema"]["properties"]

    assert {"messages", "model", "stream", "temperature", "response_format"} <= fields.keys()
    assert fields.keys() >= TOOL_CALL_FIELDS
    message = fields["messages"]["items"]["properties"]
    assert {"role", "content", "name", "tool_calls", "tool_call_id"} <= message.keys()


async def test_the_document_is_served_to_clients_that_may_read(
    gateway: Harness, client: Client
) -> None:
    reply = await client.get("/openapi.json")

    assert reply.status == 200
    assert reply.json == document(RouteTable(gateway.transports))
    assert "/openapi.json" in reply.json["paths"]
    again = await client.get(
        "/openapi.json",
        headers={"Authorization": "Bearer secret", "If-None-Match": reply.headers["ETag"]},
    )
    assert (again.status, again.body) == (304, b"")
    assert again.headers["ETag"] == reply.headers["ETag"]
    assert (await client.get("/openapi.json", headers={})).status == 401
    gateway.gateway.scopes = ALL_SCOPES - {Scope.READ, Scope.WRITE, Scope.ADMIN}
    assert (await client.get("/openapi.json")).status == 403


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


def test_an_own_answer_with_the_status_of_an_error_may_have_either_form() -> None:
    own = {"type": "object", "required": ["missing"]}
    stated = {"responses": {"404": {"description": "None.", "content": json_content(own)}}}
    route = Route("/notes/<name>", "GET", None, view, operation=lambda: stated)

    schema = answer_of(document([route]), "/notes/{name}", "get", 404)

    assert schema == {"anyOf": [own, {"$ref": SCHEMA_REF.format(model="Error")}]}


def test_two_schemas_of_one_name_are_a_mistake() -> None:
    routes = [
        Route(f"/{kind}", "GET", None, view, operation=lambda kind=kind: {"$defs": {"X": kind}})  # type: ignore[misc]
        for kind in ("a", "b")
    ]
    with pytest.raises(ValueError, match="two schemas have the name 'X'"):
        document(routes, title="Notes")
