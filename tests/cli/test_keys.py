"""`opensoul keys`, without a Gateway and beside one that runs."""

from __future__ import annotations

import re
import time
from datetime import UTC, datetime
from typing import Any

import pytest

from opensoul.domain.api_keys import key_digest

from .command import Home
from .test_running_gateway import CHAT_ON, running, status

AGENTS = "{agents: {list: [{id: 'main'}, {id: 'guide'}]}}"


def created(home: Home, *options: str) -> Any:
    outcome = home.opensoul("keys", "create", *options, "--json")
    assert outcome.code == 0, outcome.err
    return outcome.json


def listed(home: Home, *options: str) -> list[dict[str, Any]]:
    rows: list[dict[str, Any]] = home.opensoul("keys", "list", *options, "--json").json["keys"]
    return rows


def test_a_key_is_created_listed_shown_rotated_and_revoked(home: Home) -> None:
    home.configure(AGENTS)
    made = created(home, "--name", "web", "--agents", "main,guide", "--rpm", "3")
    assert set(made) == {"id", "name", "key"}
    assert re.fullmatch(r"osk_[A-Za-z0-9_-]{43}", made["key"])
    [row] = listed(home)
    assert (row["id"], row["name"], row["status"]) == (made["id"], "web", "active")
    assert row["agents"] == ["guide", "main"]
    assert row["scopes"] == ["operator.read", "operator.write"]
    assert row["limits"]["requestsPerMinute"] == 3
    for name in ("web", made["id"]):
        assert home.opensoul("keys", "show", name, "--json").json == row
    rotated = home.opensoul("keys", "rotate", "web", "--json").json
    assert (rotated["id"], rotated["name"]) == (made["id"], "web")
    assert rotated["key"] != made["key"]
    assert home.opensoul("keys", "revoke", made["id"], "--json").json["status"] == "revoked"
    assert listed(home) == []
    assert [row["status"] for row in listed(home, "--all")] == ["revoked"]
    assert created(home, "--name", "web")["id"] != made["id"]


def test_a_key_is_printed_alone_on_standard_output(home: Home) -> None:
    outcome = home.opensoul("keys", "create", "--name", "web")
    assert re.fullmatch(r"osk_\S+\n", outcome.out)
    assert "shown only now" in outcome.err
    table = home.opensoul("keys")
    assert "web" in table.out
    assert outcome.out.strip() not in table.out
    assert "name: web" in home.opensoul("keys", "show", "web").out
    assert home.opensoul("keys", "revoke", "web").out == "The key web is revoked.\n"
    assert home.opensoul("keys").out == "There are no API keys.\n"
    assert home.opensoul("keys", "usage").out == "No key was used in 30 days.\n"


def test_no_file_has_the_key(home: Home) -> None:
    key = created(home, "--name", "web")["key"]
    for file in home.state.rglob("*"):
        assert not file.is_file() or key.encode() not in file.read_bytes()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--name", " "], "name of the key"),
        (["--name", "a\x07b"], "control characters"),
        (["--name", "x" * 65], "1 to 64 characters"),
        (["--name", "taken"], "named 'taken' already"),
        (["--name", "web", "--agents", "nobody"], "nobody"),
        (["--name", "web", "--agents", ","], "at least one agent"),
        (["--name", "web", "--scopes", "root"], "unknown scope: root"),
        (["--name", "web", "--scopes", "pairing"], "concerns the whole Gateway"),
        (["--name", "web", "--scopes", "admin", "--agents", "main"], "concerns the whole Gateway"),
        (["--name", "web", "--expires", "2001-01-01"], "in the past"),
        (["--name", "web", "--expires", "soon"], "Expected something like 30d"),
        (["--name", "web", "--cost-per-month", "-1"], "greater than 0"),
    ],
)
def test_what_is_wrong_with_a_key_is_said(home: Home, options: list[str], message: str) -> None:
    home.configure(AGENTS)
    created(home, "--name", "taken")
    outcome = home.opensoul("keys", "create", *options)
    assert outcome.code in (1, 2)
    assert message in outcome.err
    assert [row["name"] for row in listed(home)] == ["taken"]


@pytest.mark.parametrize("command", ["show", "rotate", "revoke"])
def test_an_unknown_key_is_an_error(home: Home, command: str) -> None:
    outcome = home.opensoul("keys", command, "absent", "--json")
    assert outcome.code == 1
    assert outcome.json_error["code"] == "key_not_found"


@pytest.mark.parametrize(
    ("when", "seconds"), [("30d", 30 * 86_400), ("12h", 43_200), ("2w", 14 * 86_400)]
)
def test_a_key_expires_after_a_duration(home: Home, when: str, seconds: int) -> None:
    before = time.time()
    created(home, "--name", "brief", "--expires", when)
    at = datetime.fromisoformat(listed(home)[0]["expiresAt"]).timestamp()
    assert before + seconds - 1 <= at <= time.time() + seconds


def test_a_key_expires_at_a_date(home: Home) -> None:
    created(home, "--name", "brief", "--expires", "2999-01-31")
    at = datetime.fromisoformat(listed(home)[0]["expiresAt"])
    assert at == datetime(2999, 1, 31, tzinfo=UTC)


def test_keys_of_the_configuration_are_shown_and_changed_there(home: Home) -> None:
    hashed = "sha256:" + key_digest(b"osk_something-random-of-someone")
    entries = f"[{{name: 'ci', key: 'osk_0123456789abcdef'}}, {{name: 'x', keyHash: '{hashed}'}}]"
    home.configure(f"{{gateway: {{auth: {{keys: {entries}}}}}}}")
    assert {(row["name"], row["source"]) for row in listed(home)} == {
        ("ci", "config"),
        ("x", "config"),
    }
    for command in ("rotate", "revoke"):
        outcome = home.opensoul("keys", command, "ci")
        assert (outcome.code, "gateway.auth.keys" in outcome.err) == (1, True)
    shown = home.opensoul("config", "show").out
    assert "0123456789abcdef" not in shown
    assert hashed not in shown


def test_without_a_store_keys_need_a_gateway(home: Home) -> None:
    home.configure("{session: {store: ':memory:'}}")
    outcome = home.opensoul("keys", "create", "--name", "web", "--json")
    assert outcome.json_error["code"] == "no_store"


@pytest.mark.e2e
def test_keys_have_effect_at_once_in_a_gateway_that_runs(home: Home) -> None:
    home.configure(CHAT_ON)
    before = created(home, "--name", "before")["key"]
    with running() as (_, printed):
        assert status(printed, before) == 200
        made = created(home, "--name", "during", "--rpm", "2")
        assert status(printed, made["key"]) == 200
        fresh = home.opensoul("keys", "rotate", "during", "--json").json["key"]
        assert status(printed, made["key"]) == 401
        assert status(printed, fresh) == 200
        assert home.opensoul("keys", "show", made["id"], "--json").json["name"] == "during"
        assert home.opensoul("keys", "usage", "--json").json["keys"] == []
        assert home.opensoul("keys", "revoke", "before").out == "The key before is revoked.\n"
        assert status(printed, before) == 401
    assert [row["name"] for row in listed(home)] == ["during"]
