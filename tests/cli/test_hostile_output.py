"""Whatever a Gateway, a model, a file or an argument holds: none of it steers the terminal."""

from __future__ import annotations

import json
import logging
from collections.abc import Iterator
from typing import Any
from unicodedata import category

import click
import pytest

from opensoul.app.cli.root import opensoul, run
from opensoul.client import results
from tests.client.fake_gateway import (
    FakeGateway,
    FakeRun,
    aborted,
    failed,
    finished,
    started,
    text,
)

from .command import Home, Outcome
from .fake_beside import beside

EVIL = (
    "<\x1b]0;title\x07\x1b[31m\x9b2J\x85\r\x08\x7f\u202e\u2066\u200f\u200b\u00ad\u2028\ufeff"
    "\ufff9\U000e0041>"
)
SHOWN = "<]0;title[31m2J>"
"""What a person sees of it."""

ROW: dict[str, Any] = {
    **dict.fromkeys(
        (
            *("key", "label", "displayName", "sessionId", "sessionKey", "agentId", "runId", "id"),
            *("name", "model", "modelProvider", "provider", "status", "thinkingLevel", "role"),
            *("tool", "arguments", "decision", "grantedBy"),
            *("host", "version", "configuration"),
            *("platform", "deviceId", "requestId", "clientId", "clientMode", "address"),
        ),
        EVIL,
    ),
    "roles": [EVIL],
    "scopes": [EVIL],
    "content": [{"type": "text", "text": EVIL}],
    "updatedAt": 1e300,
    "startedAt": -1e300,
    EVIL: EVIL,
}
LISTS = (
    "approvals",
    "standing",
    "sessions",
    "runs",
    "models",
    "agents",
    "keys",
    "pending",
    "paired",
    "messages",
    "nodes",
)
ANSWER: dict[str, Any] = {
    **ROW,
    **{name: [ROW] for name in LISTS},
    "session": ROW,
    "failing": {EVIL: EVIL},
    "deleted": False,
    "reason": EVIL,
    "nextCursor": EVIL,
    "token": EVIL,
    "lines": [EVIL, json.dumps({"level": EVIL, "message": EVIL, EVIL: [EVIL]})],
    "cursor": 1,
    "runtimeVersion": EVIL,
}
SERVER = {"name": EVIL, "state": EVIL, "problem": EVIL, "tools": [EVIL]}
STATUS = {
    **ANSWER,
    "mcp": {"servers": [SERVER]},
    "pythonAgents": [{"agentId": EVIL, "state": EVIL, "problem": EVIL}],
    "sandboxes": [{"agentId": EVIL, "mode": EVIL}, {"agentId": EVIL, "problem": EVIL}],
    "sessions": {"recent": [ROW], "defaults": ROW, "count": EVIL},
    "runs": ROW,
}

WIRE = {
    "agent": ("-m", EVIL),
    "approvals allow": (EVIL,),
    "approvals deny": (EVIL,),
    "approvals get": (EVIL,),
    "approvals list": (),
    "approvals revoke": (EVIL,),
    "approvals standing": (),
    "devices approve": (EVIL,),
    "devices list": (),
    "devices pair": (),
    "devices reject": (EVIL,),
    "devices remove": (EVIL,),
    "devices revoke": (EVIL,),
    "devices rotate": (EVIL,),
    "gateway call": ("health",),
    "gateway probe": (),
    "gateway stop": (),
    "health": (),
    "keys create": ("--name", EVIL),
    "keys list": (),
    "keys revoke": (EVIL,),
    "keys rotate": (EVIL,),
    "keys show": (EVIL,),
    "keys usage": (EVIL,),
    "logs": (),
    "mcp status": (),
    "models list": (),
    "nodes": (),
    "runs abort": (EVIL,),
    "runs follow": ("R",),
    "runs list": (),
    "runs show": (EVIL,),
    "sessions compact": (EVIL,),
    "sessions delete": (EVIL,),
    "sessions list": (),
    "sessions reset": (EVIL,),
    "sessions show": (EVIL,),
    "status": (),
}
"""Every command that prints what a Gateway answers, with arguments."""
LOCAL = {
    "agents check": (EVIL,),
    "agents list": (),
    "agents new": (EVIL,),
    "agents prompt": (EVIL,),
    "agents tools": (EVIL,),
    "config check": (),
    "config get": ("agents.list[0].name",),
    "config set": ("agents.list[0].name", EVIL),
    "config show": (),
    "config unset": (f'agents["{EVIL}"]',),
    "db import": ("--from", EVIL),
    "db migrate": (),
    "db status": (),
    "dev": (EVIL,),
    "doctor": (),
    "gateway run": (),
    "gateway status": ("--timeout", "1"),
    "mcp add": (EVIL, "--", EVIL),
    "mcp list": (),
    "mcp probe": (EVIL,),
    "mcp set": (EVIL, EVIL),
    "mcp tools": (EVIL,),
    "mcp unset": (EVIL,),
    "models fetch": (EVIL,),
    "models files": (),
    "token rotate": (),
    "token show": (),
}
"""Every command that prints what is on this machine."""
NOTHING_FOREIGN = {"config reference", "config schema", "tui"}
"""The chat draws its screen itself, and has tests of its own."""


def leaves(group: click.Group, path: tuple[str, ...] = ()) -> Iterator[str]:
    ctx = click.Context(group)
    for name in group.list_commands(ctx):
        command = group.get_command(ctx, name)
        if isinstance(command, click.Group):
            yield from leaves(command, (*path, name))
        else:
            yield " ".join((*path, name))


def steering(printed: str) -> set[str]:
    bad = ("Cc", "Cf", "Cs", "Zl", "Zp")
    return {hex(ord(char)) for char in printed if category(char) in bad and char != "\n"}


def check(outcome: Outcome) -> Outcome:
    assert (steering(outcome.out), steering(outcome.err)) == (set(), set()), outcome
    assert outcome.out + outcome.err != ""
    return outcome


@pytest.fixture
def fake() -> Iterator[FakeGateway]:
    with beside(FakeGateway()) as served:
        served.hello_auth = {"scopes": [EVIL]}
        yield served


def wire(home: Home, fake: FakeGateway, name: str, *more: str) -> Outcome:
    address = ("--url", fake.url, "--token", "x", "--timeout", "10")
    return check(home.opensoul(*name.split(), *WIRE[name], *address, *more))


def streaming(fake: FakeGateway, *events: dict[str, Any]) -> None:
    """Whichever run is followed has these events."""

    async def send_events(_: Any, method: str) -> bool:
        if method == "runs.follow":
            run = list(fake.runs.values())[-1]
            await run.tell(*events[len(run.events) :])
        return False

    fake.before_answer = send_events


class Answers(dict[str, Any]):
    """The same answer to every method but those that start and follow a run."""

    def __contains__(self, method: object) -> bool:
        return method not in ("agent", "runs.follow")

    def __missing__(self, method: str) -> Any:
        return {"ok": True, "payload": STATUS if method == "status" else ANSWER}


def test_no_command_is_left_out() -> None:
    assert {*WIRE, *LOCAL, *NOTHING_FOREIGN} == set(leaves(opensoul))


@pytest.mark.parametrize("name", WIRE)
def test_no_answer_of_a_gateway_steers_the_terminal(
    home: Home, fake: FakeGateway, name: str
) -> None:
    fake.runs["R"] = FakeRun("R")
    fake.answers = Answers()
    streaming(fake, started(), text(EVIL), finished())
    plain = wire(home, fake, name)
    assert "Traceback" not in plain.err
    assert "unexpected" not in plain.err
    as_json = wire(home, fake, name, "--json")
    for line in as_json.out.splitlines() if name == "runs follow" else [as_json.out]:
        json.loads(line)


@pytest.mark.parametrize(
    ("name", "more"),
    [
        *((name, ()) for name in WIRE),
        *((name, ("--json",)) for name in ("agent", "gateway probe", "health", "logs")),
        ("health", ("--verbose",)),
    ],
)
def test_no_refusal_of_a_gateway_steers_the_terminal(
    home: Home, fake: FakeGateway, name: str, more: tuple[str, ...]
) -> None:
    details = {"code": EVIL, "requestId": EVIL, "reason": EVIL}
    fake.refusal = {"code": EVIL, "message": f"{EVIL}\n{EVIL}", "details": details}
    refused = wire(home, fake, name, *more)
    if "--json" in more and refused.err:
        assert EVIL in refused.json_error["message"]
    fake.refusal = None
    fake.close_with = (1008, EVIL)
    wire(home, fake, name, *more)


@pytest.mark.parametrize("more", [(), ("--json",)])
def test_a_request_that_fails_with_a_hostile_text_is_reported(
    home: Home, fake: FakeGateway, more: tuple[str, ...]
) -> None:
    error = {"code": EVIL, "message": EVIL, "details": {"code": EVIL}}
    fake.answers["health"] = {"ok": False, "error": error}
    failure = wire(home, fake, "gateway call", *more)
    assert (failure.code, SHOWN in failure.err) == (1, not more)


def test_json_means_what_the_gateway_answered(home: Home, fake: FakeGateway) -> None:
    fake.answers["health"] = {"ok": True, "payload": ANSWER}
    assert wire(home, fake, "gateway call").json == ANSWER


@pytest.mark.parametrize("name", ["agent", "runs follow"])
@pytest.mark.parametrize("more", [("--stream",), ("--json",)])
def test_an_escape_sequence_in_pieces_reaches_nobody(
    home: Home, fake: FakeGateway, name: str, more: tuple[str, ...]
) -> None:
    if name == "runs follow":
        fake.runs["R"] = FakeRun("R")
        more = tuple(option for option in more if option != "--stream")
    pieces = ["a\x1b", "[31", "m\r", "\nb\xc2", "\x9b", "\u202e", "👩", "\u200d", "👧", "\ud83d"]
    streaming(fake, started(), *map(text, pieces), text("\ude00"), finished())
    # Lone halves of a pair and joiners: what belongs together is put together.
    outcome = home.opensoul(
        *name.split(), *WIRE[name], "--url", fake.url, "--token", "x", "--timeout", "10", *more
    )
    if "--json" in more:
        check(outcome)
    else:
        assert outcome.out == "a[31m\nb\xc2👩\u200d👧😀\n"
        assert steering(outcome.out) == {"0x200d"}


@pytest.mark.parametrize("ending", [failed(EVIL), aborted(EVIL)])
@pytest.mark.parametrize("name", ["agent", "runs follow"])
@pytest.mark.parametrize("more", [(), ("--json",)])
def test_an_error_of_a_provider_is_printed_without_its_escapes(
    home: Home, fake: FakeGateway, name: str, more: tuple[str, ...], ending: dict[str, Any]
) -> None:
    if name == "runs follow":
        fake.runs["R"] = FakeRun("R")
    streaming(fake, started(), text(EVIL), ending)
    status = "aborted" if ending["data"].get("aborted") else "error"
    fake.last_answer = {"status": status, "summary": EVIL, "error": EVIL}
    outcome = wire(home, fake, name, *more)
    assert outcome.code == 1
    assert more or SHOWN in outcome.err


CONFIG = {
    "agents": {"list": [{"id": "main", "name": EVIL, "model": "scripted/evil"}]},
    "models": {
        "providers": {
            "scripted": {
                "api": "scripted",
                "models": [{"id": "evil", "name": EVIL}],
            },
            "far": {
                "baseUrl": "http://127.0.0.1:9/v1",
                "api": "openai-completions",
                "models": [{"id": f"x{EVIL}", "name": EVIL}],
            },
        }
    },
}


@pytest.mark.parametrize("name", LOCAL)
@pytest.mark.parametrize("more", [(), ("--json",)])
def test_nothing_in_a_configuration_steers_the_terminal(
    home: Home, name: str, more: tuple[str, ...]
) -> None:
    for config in (CONFIG, {EVIL: EVIL}, {"gateway": {"port": EVIL, "auth": {"mode": EVIL}}}):
        home.configure(json.dumps(config))
        outcome = home.opensoul(*name.split(), *LOCAL[name], *more)
        assert (steering(outcome.out), steering(outcome.err)) == (set(), set())
        if "--json" in more and outcome.out:
            json.loads(outcome.out)


@pytest.mark.parametrize("more", [(), ("--json",)])
@pytest.mark.parametrize(
    "arguments",
    [
        (EVIL,),
        (f"--{EVIL}",),
        ("agent", EVIL),
        ("agent", "-m", "x", "--timeout", EVIL),
        ("agents", EVIL),
        ("health", "--url", EVIL),
        ("health", f"--password-file={EVIL}"),
        ("config", "get", EVIL),
        ("config", "set", EVIL, EVIL),
        ("config", "check", "--config", f"{EVIL}.json"),
        ("gateway", "call", "x", "--params", EVIL),
        ("gateway", "run", "--bind", EVIL),
        ("gateway", "run", "--config", "half \udc9b"),
        ("models", "fetch", EVIL),
    ],
)
def test_no_argument_steers_the_terminal(
    home: Home, arguments: tuple[str, ...], more: tuple[str, ...]
) -> None:
    home.serve.ends_with = RuntimeError(EVIL)
    outcome = check(home.opensoul(*arguments, *more))
    assert outcome.code != 0


@pytest.mark.parametrize("more", [(), ("--json",), ("--stream",)])
def test_a_model_asked_without_a_gateway_steers_nothing(home: Home, more: tuple[str, ...]) -> None:
    config = json.loads(json.dumps(CONFIG))
    chunks = {"chunks": [*EVIL, EVIL, "\n"]}
    config["agents"]["defaults"] = {"models": {"scripted/evil": {"params": chunks}}}
    home.configure(json.dumps(config))
    outcome = check(home.opensoul("agent", "--local", "-m", "x", *more))
    if "--json" in more:
        assert outcome.json["result"]["payloads"] == [{"text": f"[scripted] {EVIL}{EVIL}\n"}]
    else:
        assert outcome.out == f"[scripted] {SHOWN}{SHOWN}\n" + ("" if more else "\n")


def test_a_warning_of_a_library_is_one_clean_line(
    home: Home, monkeypatch: pytest.MonkeyPatch
) -> None:
    library = logging.getLogger("a library")
    # As outside of the tests, where nobody listens to the root logger.
    monkeypatch.setattr(library, "propagate", False)

    def warn(*_: Any) -> int:
        library.error("%s", EVIL, exc_info=ValueError(f"{EVIL}\nx"))
        return 0

    home.capsys.readouterr()
    assert run(["gateway", "run"], serve=warn) == 0
    printed = home.capsys.readouterr().err
    assert steering(printed) == set()
    assert r"<\x1b]0;title\x07" in printed


def test_a_time_that_no_clock_shows_is_no_failure() -> None:
    from opensoul.app.terminal import when

    assert [when(moment) for moment in (None, 1e300, -1e300, float("nan"))] == [""] * 4
    assert results.session_info(ROW).updated_at == 1e297
