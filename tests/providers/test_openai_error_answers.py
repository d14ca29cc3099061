"""An error within a successful answer is the provider's own, in whichever form it comes."""

from __future__ import annotations

from typing import Any

import orjson
import pytest

from opensoul.adapters.providers.http import FailureFactory
from opensoul.adapters.providers.openai import CHAT_COMPLETIONS
from opensoul.adapters.providers.openai.answer.stream import Answer
from opensoul.domain.errors import FailureKind, ModelFailed
from opensoul.domain.models.calls import ModelEvent
from tests.fakes.behaviours import chunk

from .answers import DONE, event, read, read_into, read_whole, refusal
from .calls import KEY, call, text_of

STOP = event(chunk({}, "stop"))
TEXT = event(chunk({"content": "a"}))
TOO_LONG = "This model's maximum context length is 4096 tokens."
RATE = {"code": 429, "message": "Slow down."}


def line(name: str, value: object) -> bytes:
    return name.encode() + b": " + orjson.dumps(value) + b"\n\n"


def named(error: object, *, event_last: bool = False, line_end: str = "\n") -> bytes:
    lines = ["event: error", f"data: {orjson.dumps(error).decode()}"]
    ordered = reversed(lines) if event_last else lines
    return "".join(f"{each}{line_end}" for each in [*ordered, ""]).encode()


def minimax(code: object, message: str) -> dict[str, Any]:
    base = {"status_code": code, "status_msg": message}
    return {"id": "1", "choices": None, "base_resp": base}


FORMS = [
    pytest.param(named(RATE), id="a bare error in an event of that name"),
    pytest.param(named(RATE, event_last=True), id="the name behind the data"),
    pytest.param(named(RATE, line_end="\r\n"), id="with carriage returns"),
    pytest.param(named({"error": RATE}), id="an error in an event of that name"),
    pytest.param(line("error", RATE), id="an error line"),
    pytest.param(b"error:" + orjson.dumps(RATE) + b"\n", id="an error line and no blank line"),
    pytest.param(line("error", {"error": RATE}), id="an error in an error line"),
    pytest.param(orjson.dumps({"error": RATE}) + b"\n\n", id="JSON without a field name"),
    pytest.param(event({"error": RATE}), id="as OpenAI does"),
    pytest.param(event({"error": "Slow down.", "code": 429}), id="a text with a code"),
    pytest.param(event({"error": True, "message": "Slow down.", "status": 429}), id="a flag"),
    pytest.param(event({"code": 429, "msg": "Slow down."}), id="code and msg"),
    pytest.param(event({"code": "429", "message": "Slow down."}), id="a code as a string"),
    pytest.param(event({"statusCode": 429, "message": "Slow down."}), id="statusCode"),
    pytest.param(event({"error_code": 429, "error_msg": "Slow down."}), id="error_code"),
    pytest.param(event({"type": "rate_limit_error", "message": "Slow down."}), id="a type"),
    pytest.param(event({**chunk({}), **RATE}), id="beside empty content"),
    pytest.param(event(minimax(1002, "Slow down.")), id="MiniMax"),
    pytest.param(event({"choices": [{"delta": {}, "error": RATE}]}), id="OpenRouter"),
    pytest.param(
        event({"choices": [{"delta": {"content": ""}, "error": RATE, "finish_reason": "error"}]}),
        id="OpenRouter, with a finish reason",
    ),
    pytest.param(event({"success": False, "errors": [RATE]}), id="a list of errors"),
    pytest.param(event({"errors": RATE}), id="errors"),
    pytest.param(event({"status": "449", "msg": "Slow down."}), id="iFlow"),
    pytest.param(event({**chunk({}), "x_groq": {"error": "Rate limit: Slow down."}}), id="Groq"),
]


@pytest.mark.parametrize("error", FORMS)
def test_an_error_is_understood_in_each_form(error: bytes) -> None:
    failure = refusal(error)
    assert failure.kind is FailureKind.RATE_LIMIT
    assert failure.message.endswith("Slow down.")


@pytest.mark.parametrize("error", FORMS)
def test_an_error_is_understood_however_it_is_cut(error: bytes) -> None:
    stream = TEXT + error
    for cut in range(1, len(stream)):
        events: list[ModelEvent] = []
        with pytest.raises(ModelFailed, match=r"Slow down\.$") as caught:
            read_into(events, stream[:cut], stream[cut:])
        assert (text_of(events), caught.value.kind) == ("a", FailureKind.RATE_LIMIT)


def test_an_error_behind_many_alike_chunks_is_not_overlooked() -> None:
    many = b"".join(event(chunk({"content": f"{number} "})) for number in range(40))
    answer = Answer(FailureFactory(call().target, CHAT_COMPLETIONS))
    assert len(answer.feed(many + named(RATE))) == 40
    with pytest.raises(ModelFailed, match="Slow down"):
        answer.check()


@pytest.mark.parametrize(
    "document",
    [
        {"error": RATE},
        {"code": 429, "msg": "Slow down."},
        {"error": {"message": "Slow down.", "code": 429}, "choices": []},
        [{"error": RATE}],
        minimax(1002, "Slow down."),
        minimax("1002", "Slow down."),
        {"message": "Too many requests: Slow down."},
        {"detail": "Rate limit. Slow down."},
        {"success": False, "errors": [RATE], "result": {}},
    ],
)
def test_a_body_may_be_an_error(document: object) -> None:
    with pytest.raises(ModelFailed, match=r"Slow down\.$") as caught:
        read_whole(orjson.dumps(document))
    assert caught.value.kind is FailureKind.RATE_LIMIT


@pytest.mark.parametrize(
    "error",
    [
        named({"message": TOO_LONG, "code": "x"}),
        line("error", {"code": 400, "message": TOO_LONG, "type": "exceed_context_size_error"}),
        event({"code": 400, "msg": TOO_LONG}),
        event(minimax(2013, "invalid params, context window exceeds limit")),
        event({"error": {"message": "No.", "code": 400, "metadata": {"raw": TOO_LONG}}}),
        event({"code": "InvalidParameter", "message": "Range of input length should be [1, 9]"}),
    ],
)
def test_a_conversation_too_long_is_recognised_in_each_form(error: bytes) -> None:
    failure = refusal(error)
    assert failure.kind is FailureKind.CONTEXT_TOO_LONG
    assert failure.message.startswith("The conversation is too long for acme/tiny: ")


@pytest.mark.parametrize(
    ("code", "kind"),
    [
        (1000, FailureKind.OVERLOADED),
        (1001, FailureKind.TIMEOUT),
        (1002, FailureKind.RATE_LIMIT),
        (1004, FailureKind.AUTH),
        (1008, FailureKind.BILLING),
        (1027, FailureKind.BAD_REQUEST),
        (1039, FailureKind.RATE_LIMIT),
        (2013, FailureKind.BAD_REQUEST),
        (2049, FailureKind.AUTH),
        (7777, FailureKind.BAD_RESPONSE),
    ],
)
def test_the_codes_of_minimax_are_kinds_of_failure(code: int, kind: FailureKind) -> None:
    assert refusal(event(minimax(code, "no"))).kind is kind
    assert refusal(event({**chunk({"content": "a"}), **minimax(code, "no")})).kind is kind


def test_a_list_of_details_is_quoted() -> None:
    with pytest.raises(ModelFailed, match="field required"):
        read_whole(orjson.dumps({"detail": [{"loc": ["body"], "msg": "field required"}]}))


@pytest.mark.parametrize(
    ("message", "kind"),
    [
        ("Too many requests", FailureKind.RATE_LIMIT),
        ("QPS request limit reached", FailureKind.RATE_LIMIT),
        ("The engine is overloaded", FailureKind.OVERLOADED),
        ("upstream timed out", FailureKind.TIMEOUT),
        ("Invalid API key", FailureKind.AUTH),
        ("It broke", FailureKind.BAD_RESPONSE),
    ],
)
def test_words_decide_where_there_is_no_code(message: str, kind: FailureKind) -> None:
    failure = refusal(named({"message": message}))
    assert failure.kind is kind
    assert message in failure.message or kind is FailureKind.AUTH
    assert message in failure.detail


@pytest.mark.parametrize("secret", [KEY])
def test_the_providers_words_show_no_secret(secret: str) -> None:
    errors: list[dict[str, Any]] = [
        {"message": f"{secret} broke"},
        {"message": secret, "code": 503},
    ]
    for error in errors:
        failure = refusal(named(error))
        assert secret not in failure.message + failure.detail


ADVICE: list[tuple[dict[str, Any], float | None]] = [
    ({**RATE}, None),
    ({**RATE, "retry_after": 7}, 7.0),
    ({**RATE, "retry_after": "7"}, 7.0),
    ({**RATE, "retry_after_ms": 1500}, 1.5),
    ({**RATE, "metadata": {"headers": {"Retry-After": "7"}}}, 7.0),
    ({**RATE, "details": [{"@type": "x"}, {"retryDelay": "34s"}]}, 34.0),
    ({"code": 429, "message": "Please try again in 20s."}, 20.0),
    ({"code": 429, "message": "Please try again in 1m30.5s. Visit us."}, 90.5),
    ({"code": 429, "message": "Please try again in 250ms"}, 0.25),
    ({"code": 429, "message": "Retry after 6 seconds, please"}, 6.0),
    ({"code": 429, "message": "Please try again later"}, None),
    ({"code": 429, "message": "Try again in a moment, 5s is no advice"}, None),
    ({"code": 429, "message": "no", "retry_after": "nan"}, None),
]


@pytest.mark.parametrize(("error", "seconds"), ADVICE)
def test_the_time_to_wait_is_read_from_the_error(
    error: dict[str, Any], seconds: float | None
) -> None:
    for form in (named(error), line("error", error), event({"error": error})):
        assert refusal(form).retry_after == seconds
    refused = FailureFactory(call().target, CHAT_COMPLETIONS).refused(
        429, orjson.dumps({"error": error}), {}, 0.0
    )
    assert refused.retry_after == seconds


_NO_ERRORS: list[object] = [
    *({}, None, "", [], False, 0, {"code": 0}, {"code": "0", "message": ""}),
    *({"message": None, "type": None, "code": None}, {"code": 200, "message": "OK"}),
    *({"code": 0, "message": "success"}, {"error": {}}, {"code": 0, "message": "Success."}),
    {"code": None, "message": "No error"},
]
QUIET: list[dict[str, Any]] = [{"error": error} for error in _NO_ERRORS]
QUIET += [
    *({"code": 0}, {"code": 0, "msg": "ok"}, {"code": 200, "message": "success"}, {"code": "0"}),
    *({"base_resp": {"status_code": 0, "status_msg": ""}}, {"base_resp": None}),
    *({"base_resp": {"status_code": 0, "status_msg": "success"}}, {"base_resp": {}}),
    *({"x_groq": {"id": "1", "error": None}}, {"x_groq": None}, {"status": "in_progress"}),
    *({"code": 0, "message": "Success", "sid": "x"}, {"errors": []}, {"errors": None}),
]


@pytest.mark.parametrize("beside", QUIET)
def test_an_error_that_is_none_does_no_harm(beside: dict[str, Any]) -> None:
    whole = {"message": {"content": "a"}, "finish_reason": "stop"}
    assert text_of(read_whole(orjson.dumps({"choices": [whole], **beside}))) == "a"
    chunks = [{**chunk({"content": text}), **beside} for text in "ab"]
    last = {**chunk({}, "stop"), **beside}
    assert text_of(read(*map(event, [*chunks, last]), DONE)) == "ab"
    assert text_of(read(TEXT, event(beside), STOP, DONE)) == "a"


@pytest.mark.parametrize("value", [b"null", b"{}", b'""', b"", b'{"code": 0}', b'{"error": {}}'])
def test_an_error_line_or_event_without_an_error_does_no_harm(value: bytes) -> None:
    for form in (b"error: %b\n\n", b"event: error\ndata: %b\n\n", b"data: %b\nevent: error\n\n"):
        for beside in (TEXT + form % value + STOP, form % value + TEXT + STOP):
            assert text_of(read(beside, DONE)) == "a"


def test_an_event_of_another_name_is_an_ordinary_one() -> None:
    assert text_of(read(b"event: message\n" + TEXT, b"event: error\n\n" + TEXT, STOP)) == "aa"


def test_a_stray_line_that_is_no_json_does_no_harm() -> None:
    assert text_of(read(TEXT, b"{\n", b"{half\n\n", b"hello\n\n", STOP, DONE)) == "a"


@pytest.mark.parametrize("mark", [b"data: [DONE]\n", b"data:[DONE]", b"[DONE]\n", b"data: [DONE]"])
def test_the_mark_of_the_end_needs_nothing_behind_it(mark: bytes) -> None:
    for cut in range(len(mark.rstrip())):
        answer = Answer(FailureFactory(call().target, CHAT_COMPLETIONS))
        events = list(answer.feed(TEXT + mark[:cut]))
        assert not answer.done
        events += answer.feed(mark[cut:])
        assert answer.done
        assert text_of(events) == "a"
