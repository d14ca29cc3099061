"""What providers say when they refuse is sorted into the kinds that decide what happens next."""

from __future__ import annotations

from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from opensoul.adapters.providers.http import FailureFactory
from opensoul.adapters.providers.http.errors import read_error, retry_after
from opensoul.adapters.providers.openai import CHAT_COMPLETIONS
from opensoul.domain.errors import FailureKind, ModelFailed

from .calls import call

NOW = 1_800_000_000.0
"""Unix time of every refusal here: 2027-01-15 08:00:00 UTC."""


def refused(status: int, body: object = b"", **headers: str) -> ModelFailed:
    data = body if isinstance(body, bytes) else orjson.dumps(body)
    spelled = {name.replace("_", "-"): value for name, value in headers.items()}
    return FailureFactory(call().target, CHAT_COMPLETIONS).refused(status, data, spelled, NOW)


def openai(message: str, **fields: Any) -> dict[str, Any]:
    return {"error": {"message": message, **fields}}


@pytest.mark.parametrize(
    ("status", "kind"),
    [
        (301, FailureKind.BAD_RESPONSE),
        (400, FailureKind.BAD_REQUEST),
        (401, FailureKind.AUTH),
        (402, FailureKind.BILLING),
        (403, FailureKind.AUTH),
        (404, FailureKind.BAD_RESPONSE),
        (405, FailureKind.BAD_RESPONSE),
        (408, FailureKind.TIMEOUT),
        (413, FailureKind.BAD_REQUEST),
        (422, FailureKind.BAD_REQUEST),
        (429, FailureKind.RATE_LIMIT),
        (500, FailureKind.OVERLOADED),
        (502, FailureKind.OVERLOADED),
        (503, FailureKind.OVERLOADED),
        (504, FailureKind.TIMEOUT),
        (524, FailureKind.TIMEOUT),
        (529, FailureKind.OVERLOADED),
        (599, FailureKind.BAD_RESPONSE),
    ],
)
@pytest.mark.parametrize("body", [b"", b"<html>no</html>", b"no", b"{}", b"[]", b"7", b"\xff"])
def test_a_status_alone_tells_the_kind(status: int, kind: FailureKind, body: bytes) -> None:
    error = refused(status, body)
    assert (error.kind, error.status) == (kind, status)
    assert error.message.startswith("The provider of acme/tiny ")


@pytest.mark.parametrize(
    ("status", "body"),
    [
        (400, openai("This is too much.", code="context_length_exceeded")),
        (
            400,
            openai(
                "the request exceeds the available context size, try increasing it",
                code=400,
                type="exceed_context_size_error",
            ),
        ),
        (
            400,
            {
                "object": "error",
                "message": "This model's maximum context length is 4096 tokens. However, ...",
                "type": "BadRequestError",
                "code": 400,
            },
        ),
        (400, openai("prompt is too long: 210000 tokens > 200000 maximum")),
        (400, openai("Requested tokens (5000) exceed context window of 2048")),
        (400, openai("Please reduce the length of the messages or completion.")),
        (400, openai("This model's maximum prompt length is 131072 but the request has more.")),
        (400, [openai("The input token count (9) exceeds the maximum number of tokens.")]),
        (413, openai("The input is too long for this model")),
        (500, openai("the request exceeds the available context size")),
    ],
)
def test_a_conversation_too_long_is_told_from_other_refusals(status: int, body: object) -> None:
    error = refused(status, body)
    assert error.kind is FailureKind.CONTEXT_TOO_LONG
    assert error.message.startswith("The conversation is too long for acme/tiny: ")


@pytest.mark.parametrize(
    ("status", "body"),
    [
        (429, openai("Too much.", code="insufficient_quota", type="insufficient_quota")),
        (400, openai("Your credit balance is too low to access the API.")),
        (403, openai("Please check your billing.")),
        (402, {"error": "Insufficient Balance"}),
        (400, openai("No.", code="billing_hard_limit_reached")),
    ],
)
def test_missing_credit_is_told_from_other_refusals(status: int, body: object) -> None:
    error = refused(status, body)
    assert error.kind is FailureKind.BILLING
    assert error.message == (
        "The provider of acme/tiny refused the Gateway's account for lack of credit."
    )


@pytest.mark.parametrize(
    ("status", "body", "kind"),
    [
        # A rate limit, although its text mentions billing or tokens.
        (429, openai("Rate limit reached; see https://x/account/billing"), FailureKind.RATE_LIMIT),
        (413, openai("Too large on TPM", code="rate_limit_exceeded"), FailureKind.RATE_LIMIT),
        (400, openai("API key not valid. Please pass a valid API key."), FailureKind.AUTH),
        (400, openai("Incorrect API key provided: sk-..."), FailureKind.AUTH),
        (400, openai("max_tokens is too large: 9", param="max_tokens"), FailureKind.BAD_REQUEST),
    ],
)
def test_words_decide_where_the_status_is_vague(
    status: int, body: object, kind: FailureKind
) -> None:
    assert refused(status, body).kind is kind


@pytest.mark.parametrize(
    "body",
    [
        openai("The model `tiny` does not exist", code="model_not_found"),
        {"error": "model 'tiny' not found, try pulling it first"},
    ],
)
def test_an_unknown_model_is_a_fault_of_the_configuration(body: object) -> None:
    error = refused(404, body)
    assert error.kind is FailureKind.BAD_RESPONSE
    assert error.message == "The provider of acme/tiny does not know the model 'tiny'."


@pytest.mark.parametrize("status", [404, 405])
@pytest.mark.parametrize(
    ("base_url", "asked", "advice"),
    [
        ("http://h:8080", "http://h:8080/chat/completions", "try adding /v1 to"),
        ("http://h:8080/", "http://h:8080/chat/completions", "try adding /v1 to"),
        ("https://h/api?key=secret", "https://h/api/chat/completions", "try adding /v1 to"),
        ("http://u:secret@h/v1", "http://h/v1/chat/completions", "check"),
        ("http://h/v1beta/openai", "http://h/v1beta/openai/chat/completions", "check"),
    ],
)
def test_nothing_at_an_address_names_it_and_what_to_do(
    status: int, base_url: str, asked: str, advice: str
) -> None:
    body = b'{"detail":"Not Found"}'
    error = FailureFactory(call(base_url).target, CHAT_COMPLETIONS).refused(status, body, {}, NOW)
    assert error.message == (
        f"The provider of acme/tiny gave an unusable answer: status {status}, so there is no chat "
        f"completions API at {asked}: {advice} models.providers.acme.baseUrl."
    )
    assert error.reason == error.message


@pytest.mark.parametrize(
    ("body", "said"),
    [
        (openai("That is wrong."), ": That is wrong."),
        ({"error": "That is wrong."}, ": That is wrong."),
        ({"detail": "That is wrong."}, ": That is wrong."),
        ({"message": "That is  wrong."}, ": That is wrong."),
        ({"detail": [{"loc": ["body"]}]}, ': [{"loc":["body"]}]'),
        ({"object": "error", "message": {"detail": "wrong"}}, ': {"detail":"wrong"}'),
        (b"That\nis wrong.", ": That is wrong."),
        (b"<p>That is wrong.</p>", "."),
        ({"error": {}}, "."),
        ({"error": {"message": 7}}, ": 7"),
    ],
)
def test_a_refused_request_is_told_in_the_providers_words(body: object, said: str) -> None:
    assert refused(400, body).message == "The provider of acme/tiny refused the request" + said


def test_the_parameter_at_fault_is_passed_on() -> None:
    assert refused(400, openai("wrong", param="stop")).param == "stop"
    assert refused(400, openai("wrong", param=None)).param is None
    assert refused(429, openai("wrong", param="stop")).param is None


@given(st.integers(300, 599))
def test_the_reason_is_never_empty_and_quotes_nothing(status: int) -> None:
    error = refused(status, openai("You said: my secret.", code="x", param="my secret"))
    assert "acme/tiny" in error.reason
    assert "my secret" not in error.reason


@pytest.mark.parametrize("status", [401, 402, 403])
def test_clients_learn_nothing_of_the_gateways_account(status: int) -> None:
    error = refused(status, openai("Organisation org-123 of ann@example.org has no credit."))
    assert "org-123" not in error.message
    assert "org-123" in error.detail


@pytest.mark.parametrize(
    ("fields", "kind"),
    [
        ({"code": 429}, FailureKind.RATE_LIMIT),
        ({"code": "502"}, FailureKind.OVERLOADED),
        ({"type": "rate_limit_error"}, FailureKind.RATE_LIMIT),
        ({"type": "overloaded_error"}, FailureKind.OVERLOADED),
        ({"type": "server_error"}, FailureKind.OVERLOADED),
        ({"type": "timeout_error"}, FailureKind.TIMEOUT),
        ({"type": "permission_error"}, FailureKind.AUTH),
        ({"type": "authentication_error"}, FailureKind.AUTH),
        ({"type": "invalid_request_error"}, FailureKind.BAD_REQUEST),
        ({"code": "context_length_exceeded"}, FailureKind.CONTEXT_TOO_LONG),
        ({"code": "insufficient_quota"}, FailureKind.BILLING),
        ({"code": 7, "type": ["odd"]}, FailureKind.BAD_RESPONSE),
    ],
)
def test_an_error_without_a_status_is_told_by_its_code(
    fields: dict[str, Any], kind: FailureKind
) -> None:
    document = openai("x", **fields)
    error = read_error(document)
    assert error is not None
    assert FailureFactory(call().target, CHAT_COMPLETIONS).reported(error, document).kind is kind


@pytest.mark.parametrize(
    ("headers", "seconds"),
    [
        ({}, None),
        ({"retry-after": "7"}, 7.0),
        ({"retry-after": "0.5"}, 0.5),
        ({"retry-after": "-3"}, 0.0),
        ({"retry-after-ms": "1500", "retry-after": "9"}, 1.5),
        ({"retry-after": "Fri, 15 Jan 2027 08:00:30 GMT"}, 30.0),
        ({"retry-after": "Fri, 15 Jan 2027 08:00:30 -0000"}, 30.0),
        ({"retry-after": "Fri, 15 Jan 2027 07:00:00 GMT"}, 0.0),
        ({"retry-after": "soon"}, None),
        ({"retry-after": "nan"}, None),
        ({"retry-after": "inf"}, None),
    ],
)
def test_the_time_to_wait_is_read(headers: dict[str, str], seconds: float | None) -> None:
    assert retry_after(headers, NOW) == seconds


def test_the_time_to_wait_is_passed_on() -> None:
    assert refused(429, Retry_After="7").retry_after == 7.0


def test_a_base_url_that_cannot_be_read_is_not_shown() -> None:
    base_url = "http://[secret"
    error = FailureFactory(call(base_url).target, CHAT_COMPLETIONS).refused(
        400, base_url.encode(), {}, NOW
    )
    assert "secret" not in error.message + error.detail


@given(st.integers(300, 599), st.binary(max_size=60) | st.text(max_size=20))
def test_no_refusal_fails_to_be_told(status: int, body: bytes | str) -> None:
    assert refused(status, body).message


@given(st.text(max_size=40))
def test_no_header_fails_to_be_read(value: str) -> None:
    seconds = retry_after({"retry-after": value}, NOW)
    assert seconds is None or seconds >= 0
