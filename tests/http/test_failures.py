"""A run that fails before its first token has a true status, streamed or not."""

from __future__ import annotations

import asyncio
from dataclasses import replace

import pytest
from werkzeug.exceptions import BadGateway, HTTPException, ImATeapot

from opensoul.adapters.transports.http.errors import answer, problem_of
from opensoul.domain.agents import AgentDirectory
from opensoul.domain.errors import (
    EventsExpired,
    FailureKind,
    GatewayError,
    ModelFailed,
    RunFailed,
    StoreFailed,
    UnknownRun,
)

from .app import Harness, agent
from .client import Client
from .conftest import AccessLog

KINDS = [
    (FailureKind.AUTH, 502, "provider_auth", "false"),
    (FailureKind.RATE_LIMIT, 429, "rate_limit_exceeded", None),
    (FailureKind.BILLING, 502, "provider_billing", "false"),
    (FailureKind.TIMEOUT, 504, "provider_timeout", None),
    (FailureKind.OVERLOADED, 502, "provider_overloaded", None),
    (FailureKind.BAD_REQUEST, 400, "provider_bad_request", None),
    (FailureKind.CONTEXT_TOO_LONG, 400, "context_length_exceeded", None),
    (FailureKind.BAD_RESPONSE, 502, "provider_bad_response", None),
    (FailureKind.UNREACHABLE, 502, "provider_unreachable", None),
]


@pytest.mark.parametrize("stream", [True, False])
@pytest.mark.parametrize(("kind", "status", "code", "retry"), KINDS)
async def test_a_provider_that_refuses_is_told_with_a_status(
    gateway: Harness,
    client: Client,
    kind: FailureKind,
    status: int,
    code: str,
    retry: str | None,
    stream: bool,
) -> None:
    gateway.model.script = (
        ModelFailed(kind, "It failed.", retry_after=2.1, param="temperature", detail="sk-hidden"),
    )

    reply = await client.chat(stream=stream)

    assert reply.status == status
    assert (reply.error["code"], reply.error["param"]) == (code, "temperature")
    assert reply.error["message"] == "It failed."
    assert reply.headers["Retry-After"] == "3"
    assert reply.headers.get("x-should-retry") == retry
    assert reply.headers["x-opensoul-run-id"] == gateway.run_log.runs[0]
    assert reply.headers["x-opensoul-session-key"].startswith("agent:main:openai:")
    assert b"sk-hidden" not in reply.body


def test_every_kind_of_failure_has_its_row() -> None:
    assert {kind for kind, *_ in KINDS} == set(FailureKind)


@pytest.mark.parametrize("stream", [True, False])
async def test_an_agent_that_takes_too_long_is_a_timeout(
    gateway: Harness, client: Client, stream: bool
) -> None:
    hasty = replace(agent("main"), timeout=0.02)
    gateway.settings = replace(gateway.settings, agents=AgentDirectory([hasty], "main"))
    gateway.model.script = (asyncio.Event(),)

    reply = await client.chat(stream=stream)

    assert (reply.status, reply.error["code"]) == (504, "run_timeout")


@pytest.mark.parametrize("stream", [True, False])
async def test_a_surprise_is_an_internal_error_without_internals(
    gateway: Harness, client: Client, access_log: AccessLog, stream: bool
) -> None:
    gateway.model.script = (ZeroDivisionError("secret detail"),)

    reply = await client.chat(stream=stream)

    assert reply.status == 500
    assert reply.error["type"] == "server_error"
    assert b"secret detail" not in reply.body
    assert (await access_log.line())["outcome"] == "failed"


async def test_a_surprise_before_the_run_is_logged_and_hidden(
    gateway: Harness, client: Client, caplog: pytest.LogCaptureFixture
) -> None:
    gateway.app.before_request(_divide)

    reply = await client.chat()

    assert (reply.status, reply.error["code"]) == (500, "internal_error")
    assert b"division" not in reply.body
    assert "a request failed unexpectedly" in caplog.text
    assert "ZeroDivisionError" in caplog.text


def _divide() -> None:
    _ = 1 // 0


@pytest.mark.parametrize(
    ("refusal", "status", "code"),
    [(ImATeapot, 418, "i'm_a_teapot"), (BadGateway, 500, "internal_error")],
)
async def test_what_the_framework_refuses_has_the_same_envelope(
    gateway: Harness, client: Client, refusal: type[HTTPException], status: int, code: str
) -> None:
    def refuse() -> None:
        raise refusal

    gateway.app.before_request(refuse)

    reply = await client.chat()

    assert (reply.status, reply.error["code"]) == (status, code)


@pytest.mark.parametrize(
    ("error", "status"),
    [
        (StoreFailed("disk full"), 503),
        (UnknownRun("no run"), 404),
        (EventsExpired("too far behind"), 410),
        (RunFailed("no answer"), 500),
        (GatewayError("something"), 500),
    ],
)
def test_other_errors_have_a_status_too(error: GatewayError, status: int) -> None:
    problem = problem_of(error)

    assert problem.status == status
    assert problem.code == error.code


def test_waiting_is_told_in_whole_seconds_and_never_as_none() -> None:
    error = ModelFailed(FailureKind.RATE_LIMIT, "Slow down.", retry_after=0.0)

    assert answer(problem_of(error)).headers["Retry-After"] == "1"
