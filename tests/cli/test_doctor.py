"""`opensoul doctor`: what it finds, explains and repairs."""

from __future__ import annotations

import json
import socket
import socketserver
import sqlite3
import stat
import threading
from contextlib import closing
from pathlib import Path

import pytest

from opensoul.adapters.system.files.state_lock import HOLDER_FILE
from tests.sandbox.available import needs_bubblewrap

from .command import Home, Outcome

SECTIONS = """
  agents: { defaults: { model: { primary: "scripted/echo" } } },
  models: { providers: { scripted: { api: "scripted", models: [{ id: "echo" }] } } },
"""


@pytest.fixture
def place(home: Home, monkeypatch: pytest.MonkeyPatch) -> Home:
    """An installation with nothing wrong; no other Gateway of this machine is near its port."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        monkeypatch.setenv("OPENSOUL_GATEWAY_PORT", str(free.getsockname()[1]))
    home.state.mkdir(mode=0o700)
    home.configure(f"{{ gateway: {{ auth: {{ token: 'x1' }} }}, {SECTIONS} }}").chmod(0o600)
    return home


def codes(outcome: Outcome) -> list[str]:
    return [finding["code"] for finding in outcome.json["findings"]]


def test_where_all_is_well_it_says_so(place: Home) -> None:
    outcome = place.opensoul("doctor")
    assert (outcome.code, outcome.out) == (0, "Everything is in order.\n")
    assert place.opensoul("doctor", "--json").json == {"ok": True, "findings": [], "notes": []}


def test_a_place_that_was_never_used_is_prepared(home: Home) -> None:
    found = home.opensoul("doctor", "--json")
    assert found.code == 1
    assert codes(found)[:2] == ["state_dir_missing", "token_missing"]
    assert not home.state.exists()
    fixed = home.opensoul("doctor", "--fix")
    assert "repaired: There is no token yet" in fixed.out
    assert stat.S_IMODE(home.state.stat().st_mode) == 0o700
    assert home.opensoul("token", "show").code == 0


def test_what_others_can_read_is_closed(place: Home) -> None:
    identity = place.state / "identity"
    identity.mkdir()
    device = identity / "device.json"
    device.write_text("{}")
    link = place.state / "link"
    link.symlink_to(place.path)
    for path, mode in ((place.config_file, 0o644), (device, 0o640), (place.state, 0o755)):
        path.chmod(mode)
    found = place.opensoul("doctor")
    assert found.code == 1
    assert f"chmod 600 {device}" in found.out
    assert "`opensoul doctor --fix` repairs 3 of these." in found.out
    assert place.opensoul("doctor", "--fix").code == 0
    assert stat.S_IMODE(device.stat().st_mode) == 0o600
    assert place.opensoul("doctor").code == 0


def test_a_file_without_secrets_may_be_read_by_all(
    place: Home, monkeypatch: pytest.MonkeyPatch
) -> None:
    place.configure(f"{{ gateway: {{ auth: {{ token: '${{MINE}}' }} }}, {SECTIONS} }}").chmod(0o644)
    monkeypatch.setenv("MINE", "x1")
    assert place.opensoul("doctor").out == "Everything is in order.\n"
    place.configure(f"{{ gateway: {{ auth: {{ token: '${{MINE:-x2}}' }} }}, {SECTIONS} }}")
    assert codes(place.opensoul("doctor", "--json")) == ["permissions"]
    place.configure(f"{{ gateway: {{ auth: {{ token: '${{MINE}}' }} }}, {SECTIONS} }}")
    place.config_file.chmod(0o666)
    assert codes(place.opensoul("doctor", "--json")) == ["permissions"]


def test_a_wrong_configuration_is_explained(place: Home) -> None:
    place.configure("{ gateway: { port: 'x', prot: 1 } }")
    found = place.opensoul("doctor", "--json")
    assert codes(found) == ["config_invalid", "config_invalid"]
    assert "gateway.port" in found.out
    # Nothing is safe to change in what somebody wrote.
    assert place.opensoul("doctor", "--fix").code == 1


def test_keys_without_an_effect_are_listed_and_leave_nothing_to_do(place: Home) -> None:
    place.configure(
        f"{{ commands: {{ ownerDisplay: 'raw' }}, gateway: {{ auth: {{ token: 'x1' }}, zzz: 1 }}, "
        f"{SECTIONS} }}"
    ).chmod(0o600)
    notes = [
        "commands.ownerDisplay has no effect here yet.",
        "gateway.zzz is not known here and has no effect.",
    ]
    found = place.opensoul("doctor")
    assert (found.code, found.out.splitlines()) == (
        0,
        ["Everything is in order.", *(f"note: {note}" for note in notes)],
    )
    assert place.opensoul("doctor", "--json").json["notes"] == notes


@pytest.mark.parametrize("api", ["openai-completions", "anthropic-messages"])
def test_providers_without_a_key_and_out_of_reach_are_reported(place: Home, api: str) -> None:
    models = [{"id": "m", "api": api}]
    providers = {
        "near": {"baseUrl": "http://127.0.0.1:9/v1", "models": models},
        "far": {"baseUrl": "http://provider.invalid/v1", "models": models},
        "behind": {
            "baseUrl": "http://provider.invalid/v1",
            "apiKey": "k",
            "proxy": "http://ann:sesame@127.0.0.1:9",
            "models": models,
        },
    }
    primary = {"primary": "near/m", "fallbacks": ["far/m", "behind/m"]}
    config = {
        "gateway": {"auth": {"token": "x1"}},
        "agents": {"defaults": {"model": primary}},
        "models": {"providers": providers},
    }
    place.configure(json.dumps(config))
    found = place.opensoul("doctor", "--json")
    assert codes(found) == [
        "provider_key_missing",
        "provider_unreachable",
        "provider_unreachable",
        "proxy_unreachable",
    ]
    assert "models.providers.far.apiKey" in found.out
    assert "models.providers.behind.proxy" in found.out
    assert "sesame" not in found.out


def test_a_package_that_an_endpoint_needs_is_reported(
    place: Home, monkeypatch: pytest.MonkeyPatch
) -> None:
    endpoints = {"a2a": {"enabled": True}}
    place.configure(
        json.dumps({"gateway": {"auth": {"token": "x1"}, "http": {"endpoints": endpoints}}})
    )
    assert "package_missing" not in codes(place.opensoul("doctor", "--json"))
    monkeypatch.setattr("opensoul.adapters.transports.a2a.extra.find_spec", lambda name: None)
    found = place.opensoul("doctor")
    assert "a2a-sdk" in found.out
    assert "pip install 'opensoul[a2a]'" in found.out


def test_a_port_in_use_is_reported(place: Home, monkeypatch: pytest.MonkeyPatch) -> None:
    class Other(socketserver.BaseRequestHandler):
        def handle(self) -> None:
            self.request.sendall(b"220 another program\r\n")

    with socketserver.ThreadingTCPServer(("127.0.0.1", 0), Other) as other:
        threading.Thread(target=other.serve_forever, daemon=True).start()
        port = other.server_address[1]
        monkeypatch.setenv("OPENSOUL_GATEWAY_PORT", str(port))
        found = place.opensoul("doctor", "--json")
        other.shutdown()
    assert codes(found) == ["port_taken"]
    assert f"port {port} is in use by another program" in found.out


def test_a_run_log_that_was_put_aside_is_reported(place: Home) -> None:
    for name in ("runs.sqlite3.damaged-20260101T000000Z", "runs.sqlite3.damaged-x-wal"):
        (place.state / name).write_bytes(b"")
        (place.state / name).chmod(0o600)
    found = place.opensoul("doctor", "--json")
    assert codes(found) == ["store_put_aside"]
    assert "runs.sqlite3.damaged-20260101T000000Z" in found.out


def test_a_damaged_store_is_reported(place: Home) -> None:
    good, bad = place.state / "runs.sqlite3", place.state / "opensoul.sqlite3"
    for path in (good, bad):
        with closing(sqlite3.connect(path)) as database:
            database.execute("PRAGMA journal_mode=WAL")
            database.execute("CREATE TABLE t (x)")
            database.executemany("INSERT INTO t VALUES (?)", [("y" * 500,)] * 200)
            database.commit()
        path.chmod(0o600)
    before = good.read_bytes()
    assert place.opensoul("doctor").code == 0
    assert good.read_bytes() == before
    content = bytearray(bad.read_bytes())
    content[4096:12288] = b"\xff" * 8192
    bad.write_bytes(content)
    found = place.opensoul("doctor", "--json")
    assert codes(found) == ["store_damaged"]
    assert str(bad) in found.out
    bad.write_bytes(b"no database" * 1_000)
    assert "not a database" in place.opensoul("doctor").out
    bad.unlink()
    with closing(sqlite3.connect(good, isolation_level=None)) as writer:
        writer.execute("PRAGMA locking_mode=EXCLUSIVE")
        writer.execute("BEGIN EXCLUSIVE")
        writer.execute("INSERT INTO t VALUES ('x')")
        good.with_name("runs.sqlite3-wal").chmod(0o600)
        assert place.opensoul("doctor").out == "Everything is in order.\n"


def test_what_a_killed_gateway_left_is_tidied_away(place: Home) -> None:
    note = place.state / HOLDER_FILE
    holder = {"pid": 2**22 + 1, "host": socket.gethostname(), "since": "then", "address": ""}
    note.write_text(json.dumps(holder))
    note.chmod(0o600)
    assert codes(place.opensoul("doctor", "--json")) == ["stale_lock"]
    assert place.opensoul("doctor", "--fix").code == 0
    assert not note.exists()


def test_a_token_file_that_holds_none_is_reported(place: Home) -> None:
    place.configure(f"{{ {SECTIONS} }}")
    file: Path = place.state / "gateway-token"
    file.write_text("two words")
    file.chmod(0o600)
    found = place.opensoul("doctor", "--json")
    assert codes(found) == ["token_invalid"]


@pytest.mark.parametrize(
    ("sandbox", "problem"),
    [
        ('{ mode: "bubblewrap" }', "there is no program `bwrap`"),
        ('{ mode: "all", docker: { image: "x" } }', 'the sandbox mode "all" does not exist here'),
    ],
)
def test_a_sandbox_that_is_not_available_is_found(
    place: Home, monkeypatch: pytest.MonkeyPatch, sandbox: str, problem: str
) -> None:
    monkeypatch.setenv("PATH", str(place.path))
    agents = f'[{{ id: "one", sandbox: {sandbox} }}, {{ id: "two" }}]'
    sections = SECTIONS.replace("agents: {", f"agents: {{ list: {agents},", 1)
    place.configure(f"{{ gateway: {{ auth: {{ token: 'x1' }} }}, {sections} }}").chmod(0o600)

    found = place.opensoul("doctor", "--json")

    assert codes(found) == ["sandbox_unavailable"]
    (finding,) = found.json["findings"]
    assert finding["message"].startswith("`exec` of one refuses to run. ")
    assert problem in finding["message"]
    assert not (place.state / "workspace-two").exists()


@needs_bubblewrap
def test_a_sandbox_that_is_available_is_in_order(place: Home) -> None:
    sections = SECTIONS.replace("defaults: {", 'defaults: { sandbox: { mode: "bubblewrap" },', 1)
    place.configure(f"{{ gateway: {{ auth: {{ token: 'x1' }} }}, {sections} }}").chmod(0o600)

    assert place.opensoul("doctor").out == "Everything is in order.\n"
    assert not (place.state / "workspace").exists()
