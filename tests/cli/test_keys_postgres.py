"""`opensoul keys` on a machine without a Gateway, where the nodes have a database."""

from __future__ import annotations

from typing import Any

import pytest

from .command import Home
from .test_running_gateway import CHAT_ON, running, status


@pytest.fixture
def with_database(home: Home, emptied_postgres: str, monkeypatch: pytest.MonkeyPatch) -> Home:
    monkeypatch.setenv("OPENSOUL_DATABASE_URL", emptied_postgres)
    home.configure(CHAT_ON)
    return home


def created(home: Home, *options: str) -> Any:
    outcome = home.opensoul("keys", "create", *options, "--json")
    assert outcome.code == 0, outcome.err
    return outcome.json


def test_keys_are_those_of_the_database(
    with_database: Home, monkeypatch: pytest.MonkeyPatch
) -> None:
    home = with_database
    made = created(home, "--name", "web", "--rpm", "3")
    assert not (home.state / "keys.sqlite3").exists()
    monkeypatch.setenv("OPENSOUL_STATE_DIR", str(home.path / "another"))
    (row,) = home.opensoul("keys", "list", "--json").json["keys"]
    assert (row["id"], row["limits"]["requestsPerMinute"]) == (made["id"], 3)
    assert home.opensoul("keys", "rotate", "web", "--json").json["key"] != made["key"]
    assert home.opensoul("keys", "usage", "--json").json["keys"] == []
    assert home.opensoul("keys", "revoke", "web").out == "The key web is revoked.\n"
    assert home.opensoul("keys", "list", "--json").json["keys"] == []
    refused = home.opensoul("keys", "create", "--name", " ")
    assert (refused.code, "name of the key" in refused.err) == (1, True)


def test_a_node_accepts_and_refuses_what_another_machine_has_changed(
    with_database: Home, monkeypatch: pytest.MonkeyPatch
) -> None:
    home = with_database
    with running() as (_, printed):
        monkeypatch.setenv("OPENSOUL_STATE_DIR", str(home.path / "another"))
        key = created(home, "--name", "web")["key"]
        assert status(printed, key) == 200
        fresh = home.opensoul("keys", "rotate", "web", "--json").json["key"]
        assert status(printed, fresh) == 200
        assert status(printed, key) == 401
        home.opensoul("keys", "revoke", "web")
        while status(printed, fresh) == 200:
            pass  # The message is on its way.


def test_without_the_database_nothing_is_created(
    home: Home, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OPENSOUL_DATABASE_URL", "postgresql://me:s3cret@127.0.0.1:1/x")
    refused = home.opensoul("keys", "create", "--name", "web")
    assert refused.code == 1
    assert "s3cret" not in refused.err
    assert not (home.state / "keys.sqlite3").exists()
