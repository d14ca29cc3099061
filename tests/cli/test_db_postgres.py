"""`opensoul db` and what other commands say where the Gateway has a database."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import socket
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import psycopg
import pytest

from opensoul.adapters.persistence.postgres import database_status
from opensoul.adapters.system.files import StateLock
from opensoul.app.cli.diagnosis.database import of_server
from opensoul.app.container import Container
from opensoul.domain.errors import StoreFailed
from tests.persistence.odd_state import fill
from tests.persistence.pooler import pooled

from .command import Home, process
from .test_doctor import SECTIONS


@pytest.fixture
def with_database(home: Home, postgres_url: str, monkeypatch: pytest.MonkeyPatch) -> Home:
    """A node's home, with a schema of its own that is empty."""
    monkeypatch.setenv("OPENSOUL_DATABASE_URL", postgres_url)
    return home


def test_migrate_runs_what_is_pending_and_names_it(with_database: Home) -> None:
    before = with_database.opensoul("db", "status", "--json").json
    assert before["version"] == 0
    first = with_database.opensoul("db", "migrate")
    assert first.code == 0
    assert first.out.splitlines() == [f"migrated: {name}" for name in before["pending"]]
    again = with_database.opensoul("db", "migrate")
    assert (again.code, again.out) == (0, "The schema is complete: no migration is pending.\n")
    assert with_database.opensoul("db", "migrate", "--json").json == {"migrations": []}


def test_status_shows_server_schema_and_sizes(with_database: Home) -> None:
    with_database.opensoul("db", "migrate")
    shown = with_database.opensoul("db", "status").out
    for part in ("PostgreSQL", "pending         none", "runs running    0", "sessions "):
        assert part in shown
    found = with_database.opensoul("db", "status", "--json").json
    assert found["needsListenUrl"] is False
    assert found["maxConnections"] > found["connections"] > 0


def test_without_a_database_the_setting_is_named(home: Home) -> None:
    for command in ("migrate", "status"):
        refused = home.opensoul("db", command, "--json")
        assert refused.code == 1
        assert refused.json_error["code"] == "no_database"
        assert "store.url" in refused.json_error["message"]


def test_a_failure_of_the_database_has_exit_code_1(
    home: Home, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OPENSOUL_DATABASE_URL", "postgresql://me:s3cret@127.0.0.1:1/x")
    refused = home.opensoul("db", "migrate")
    assert refused.code == 1
    assert "Start the server, or correct host and port" in refused.err
    assert "s3cret" not in refused.err


@pytest.mark.parametrize("module", ["psycopg", "psycopg_pool"])
def test_where_the_driver_is_not_installed_the_extra_is_named(
    home: Home, monkeypatch: pytest.MonkeyPatch, module: str
) -> None:
    monkeypatch.setenv("OPENSOUL_DATABASE_URL", "postgresql://me@127.0.0.1:1/x")
    for name in list(sys.modules):
        if "persistence.postgres" in name or name == "opensoul.app.factories.postgres":
            monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, module, None)
    refused = home.opensoul("db", "status")
    assert refused.code == 1
    assert "pip install 'opensoul[postgres]'" in refused.err
    assert "database_driver_missing" in findings(home)
    with pytest.raises(StoreFailed, match=r"pip install 'opensoul\[postgres\]'"):
        Container().shared()  # At the start of a Gateway.


def test_a_gateway_that_cannot_use_its_database_says_why_and_ends(
    with_database: Home, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OPENSOUL_DATABASE_URL", "postgresql://me:s3cret@127.0.0.1:1/x")
    with_database.configure("{ gateway: { auth: { token: 'x1' } } }")
    ended = process("gateway", "run", "--port", "0")
    assert ended.code == 1
    assert "Start the server, or correct host and port" in ended.err
    assert "Traceback" not in ended.err
    assert "s3cret" not in ended.err + ended.out


def test_a_local_turn_is_refused_where_nodes_execute_runs(with_database: Home) -> None:
    refused = with_database.opensoul("agent", "--local", "-m", "hello")
    assert refused.code == 1
    assert "would make this process one of its nodes" in refused.err


def test_on_the_machine_of_a_worker_the_address_of_another_node_is_needed(
    with_database: Home,
) -> None:
    with_database.configure("{ node: { role: 'worker' }, gateway: { auth: { token: 'x1' } } }")
    for command in ("status", "sessions", "runs", "health"):
        refused = with_database.opensoul(command, "--json")
        assert refused.code == 1
        assert refused.json_error["code"] == "worker"
        assert "--url" in refused.json_error["message"]


@pytest.fixture(scope="module")
def full(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A state directory with many sessions, which the tests only read."""
    directory = tmp_path_factory.mktemp("full")
    asyncio.run(fill(directory, more_sessions=300))
    return directory


def test_import_copies_a_directory_once(with_database: Home, full: Path) -> None:
    source = ("--from", str(full))
    dry = with_database.opensoul("db", "import", *source, "--dry-run")
    assert (dry.code, dry.out.splitlines()[-1]) == (0, "Nothing was copied: --dry-run.")
    assert with_database.opensoul("db", "status", "--json").json["version"] == 0

    first = with_database.opensoul("db", "import", *source)
    assert first.code == 0
    assert "sessions: 304 of 304 copied" in first.err
    assert first.out.splitlines()[-1] == "All of it is in the database, and was compared."
    again = with_database.opensoul("db", "import", *source, "--json")
    assert again.code == 0
    assert again.json["complete"]
    assert {kind["copied"] for kind in again.json["kinds"]} == {0}
    assert {kind["name"] for kind in again.json["kinds"] if not kind["total"]} == set()
    assert {kind["total"] - kind["there"] for kind in again.json["kinds"]} == {0}


def test_import_goes_on_where_it_was_killed(with_database: Home, full: Path) -> None:
    url = os.environ["OPENSOUL_DATABASE_URL"]
    command = [sys.executable, "-m", "opensoul.app", "db", "import", "--from", str(full)]
    with psycopg.connect(url) as connection:
        killed = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
        assert killed.stderr is not None
        assert killed.stderr.readline() == "sessions: 20 of 304 copied\n"
        # From now on it waits in a transaction.
        connection.execute("LOCK TABLE sessions IN SHARE MODE")
        killed.send_signal(signal.SIGKILL)
        killed.wait(60)
        killed.stderr.close()
    with psycopg.connect(url) as connection:
        (there,) = connection.execute("SELECT count(*) FROM sessions").fetchone() or (0,)
    assert 20 <= there < 304

    second = with_database.opensoul("db", "import", "--from", str(full), "--json").json
    sessions = second["kinds"][0]
    assert (second["complete"], sessions["there"]) == (True, there)
    assert sessions["copied"] == 304 - there


def test_import_names_what_differs_and_copies_nothing_unless_told(
    with_database: Home, full: Path
) -> None:
    source = ("--from", str(full))
    with_database.opensoul("db", "import", *source)
    with psycopg.connect(os.environ["OPENSOUL_DATABASE_URL"]) as connection:
        connection.execute("UPDATE sessions SET model = 'x' WHERE key = 'agent:main:plain-7'")
        connection.execute("DELETE FROM sessions WHERE key = 'agent:main:plain-8'")

    refused = with_database.opensoul("db", "import", *source)
    assert refused.code == 1
    assert (
        "sessions that the database has with another content:\n  agent:main:plain-7" in refused.err
    )
    assert "Nothing was copied. --skip-different" in refused.out
    rest = with_database.opensoul("db", "import", *source, "--skip-different", "--json")
    sessions = rest.json["kinds"][0]
    assert (rest.code, sessions["copied"], sessions["different"]) == (1, 1, ["agent:main:plain-7"])
    assert sessions["lacking"] == []


def test_import_waits_for_no_process_that_has_the_directory(
    with_database: Home, full: Path
) -> None:
    lock = StateLock(full)
    lock.acquire()
    try:
        refused = with_database.opensoul("db", "import", "--from", str(full), "--json")
    finally:
        lock.release()
    assert refused.code == 1
    assert refused.json_error["code"] == "state_locked"


def test_a_directory_without_a_database_is_named(with_database: Home, tmp_path: Path) -> None:
    refused = with_database.opensoul("db", "import", "--from", str(tmp_path))
    assert refused.code == 1
    assert "There is no database of a Gateway at" in refused.err


def enter_node(url: str, name: str, *, configuration: str, silent: bool = False) -> None:
    """A row of a node, as its heartbeats write it."""
    values = (name, name.encode(), "all", "1.2.3", b"machine", 7, b"127.0.0.1:1", configuration)
    with psycopg.connect(url) as connection:
        marks = ", ".join(["%s"] * len(values))
        connection.execute(f"SELECT node_heartbeat({marks}, 10, 300)", values)
        if silent:
            connection.execute("UPDATE nodes SET heartbeat_at = 0 WHERE id = %s", (name,))


def test_nodes_shows_who_is_there_and_whose_configuration_differs(with_database: Home) -> None:
    before = with_database.opensoul("nodes")
    assert before.code == 1
    assert "opensoul db migrate" in before.err
    with_database.opensoul("db", "migrate")
    assert with_database.opensoul("nodes").out == "No node is running.\n"

    url = os.environ["OPENSOUL_DATABASE_URL"]
    for name in ("a", "b"):
        enter_node(url, name, configuration="1111111122222222")
    enter_node(url, "c", configuration="3333333344444444")
    enter_node(url, "gone", configuration="1111111122222222", silent=True)
    shown = with_database.opensoul("nodes")
    lines = shown.out.splitlines()
    assert [line.split()[0] for line in lines] == ["NAME", "a", "b", "c", "gone"]
    assert [line.endswith(" *") for line in lines[1:]] == [False, False, True, False]
    assert "(dead)" in lines[4]
    assert "another configuration" in shown.err
    listed = with_database.opensoul("nodes", "--json").json["nodes"]
    assert [(row["name"], row["alive"], row["differs"]) for row in listed] == [
        ("a", True, False),
        ("b", True, False),
        ("c", True, True),
        ("gone", False, False),
    ]


@pytest.fixture
def node_place(with_database: Home, monkeypatch: pytest.MonkeyPatch) -> Home:
    """The home of a node with nothing wrong, and its database with the schema."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        monkeypatch.setenv("OPENSOUL_GATEWAY_PORT", str(free.getsockname()[1]))
    with_database.state.mkdir(mode=0o700)
    whole = f"{{ gateway: {{ auth: {{ token: 'x1' }} }}, {SECTIONS} }}"
    with_database.configure(whole).chmod(0o600)
    with_database.opensoul("db", "migrate")
    return with_database


def findings(home: Home) -> dict[str, str]:
    listed = home.opensoul("doctor", "--json").json["findings"]
    return {finding["code"]: finding["message"] for finding in listed}


def test_doctor_finds_nothing_wrong_with_a_good_database(node_place: Home) -> None:
    outcome = node_place.opensoul("doctor")
    assert (outcome.code, outcome.out) == (0, "Everything is in order.\n")


def test_doctor_notes_files_that_are_not_used(node_place: Home) -> None:
    (node_place.state / "opensoul.sqlite3").touch(mode=0o600)
    outcome = node_place.opensoul("doctor", "--json").json
    assert outcome["ok"]
    assert "`opensoul db import` copies it" in outcome["notes"][0]


def test_doctor_finds_pending_migrations_and_nodes_that_differ(node_place: Home) -> None:
    url = os.environ["OPENSOUL_DATABASE_URL"]
    for name, configuration in (("a", "1"), ("b", "1"), ("c", "2")):
        enter_node(url, name, configuration=configuration)
    assert findings(node_place) == {
        "node_configurations": "The configuration of these nodes is not that of the others: c."
    }
    with psycopg.connect(url) as connection:
        connection.execute("DELETE FROM schema_migrations WHERE number = 50")
    assert "0050 schema_floor" in findings(node_place)["database_schema"]


def test_doctor_compares_the_connections_of_all_nodes_with_those_of_the_server(
    node_place: Home,
) -> None:
    url = os.environ["OPENSOUL_DATABASE_URL"]
    with psycopg.connect(url) as connection:
        (most,) = connection.execute("SHOW max_connections").fetchone() or ("0",)
    for number in range(int(most) // 11 + 1):
        enter_node(url, f"node-{number}", configuration="1")
    assert "max_connections of the server is" in findings(node_place)["database_connections"]


def test_doctor_recognises_a_pooler_and_a_wrong_listen_url(
    node_place: Home, postgres_url: str, postgres_server: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pooled(postgres_url) as pooler:
        monkeypatch.setenv("OPENSOUL_DATABASE_URL", pooler)
        assert "pooler in transaction mode" in findings(node_place)["database_listen_url"]
        assert node_place.opensoul("db", "status", "--json").json["needsListenUrl"] is True
        whole = node_place.config_file.read_text()
        for listen_url, problem in (
            (postgres_url, None),
            (pooler, "too"),
            (postgres_server, "another database or schema"),
        ):
            store = json.dumps({"listenUrl": listen_url, "url": pooler})
            node_place.configure(whole.replace("{ gateway", f"{{ store: {store}, gateway", 1))
            found = findings(node_place)
            assert (problem is None) == ("database_listen_url" not in found)
            assert problem is None or problem in found["database_listen_url"]


def test_doctor_says_why_the_database_cannot_be_used(
    node_place: Home, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OPENSOUL_DATABASE_URL", "postgresql://me:s3cret@127.0.0.1:1/x")
    message = findings(node_place)["database_unusable"]
    assert "Start the server" in message
    assert "s3cret" not in message


@pytest.mark.parametrize(
    ("changes", "code", "words"),
    [
        ({"clock_ahead": 60.0}, "clock", "60.0 s behind that of the database"),
        ({"clock_ahead": -3.0}, "clock", "3.0 s ahead of that of the database"),
        ({"replica": True}, "database_replica", "which only reads"),
        ({"encoding": "LATIN1"}, "database_encoding", "LATIN1"),
    ],
)
def test_doctor_names_what_is_wrong_with_the_server(
    postgres_url: str, changes: dict[str, Any], code: str, words: str
) -> None:
    good = asyncio.run(database_status(postgres_url))
    assert list(of_server(good)) == []
    (finding,) = of_server(replace(good, **changes))
    assert finding.code == code
    assert words in finding.message
