"""What commands make of a Gateway's answers, of every kind that one can give."""

from __future__ import annotations

import os
import signal
import subprocess
import threading
from collections.abc import Iterator
from typing import Any

import pytest

from opensoul.app.cli.common.errors import CommandError
from opensoul.app.cli.common.state import State
from opensoul.app.cli.remote.reaching import READ, reach
from opensoul.client import DeviceTokens
from tests.client.fake_gateway import FakeGateway, FakeRun, finished, started, text
from tests.e2e.process import OPENSOUL

from .command import Home, Outcome
from .fake_beside import beside

PENDING = {
    "requestId": "r1",
    "deviceId": "d1",
    "displayName": "a \x1b[31mphone",
    "platform": "ios",
    "scopes": ["operator.read"],
}


@pytest.fixture
def fake() -> Iterator[FakeGateway]:
    with beside(FakeGateway()) as served:
        yield served


class Wire:
    """Commands to the fake Gateway."""

    def __init__(self, home: Home, fake: FakeGateway) -> None:
        self._home = home
        self._fake = fake

    def __call__(self, *arguments: str) -> Outcome:
        address = ("--url", self._fake.url, "--token", "x", "--timeout", "10")
        return self._home.opensoul(*arguments, *address)


@pytest.fixture
def wire(home: Home, fake: FakeGateway) -> Wire:
    return Wire(home, fake)


def test_devices_are_approved_and_rejected(fake: FakeGateway, wire: Wire) -> None:
    paired = {"deviceId": "d2", "clientId": "cli", "roles": ["operator"], "scopes": ["a", "b"]}
    fake.answers |= {
        "device.pair.list": {"pending": [PENDING], "paired": [paired]},
        "device.pair.approve": {"requestId": "r1"},
        "device.pair.reject": {"requestId": "r1"},
        "device.pair.remove": {"deviceId": "d2"},
        "device.token.rotate": {"token": "t0"},
        "device.token.revoke": {},
    }
    listed = wire("devices", "list").out
    assert "r1       a [31mphone (ios)" in listed
    assert "d2      cli   operator  a, b" in listed
    assert wire("devices", "--json").json["paired"] == [paired]
    assert wire("devices", "approve").out == "The device is approved.\n"
    assert fake.methods("device.pair.approve") == [{"requestId": "r1"}]
    assert fake.connects[-1]["scopes"] == ["operator.pairing", "operator.admin"]
    assert wire("devices", "reject", "r1").code == 0
    assert fake.connects[-1]["scopes"] == ["operator.pairing"]
    assert wire("devices", "remove", "d2").code == 0
    assert wire("devices", "rotate", "d2", "--scope", "operator.read").out == "t0\n"
    assert wire("devices", "revoke", "d2", "--json").json == {}
    assert fake.methods("device.token.rotate")[0]["scopes"] == ["operator.read"]


def test_which_device_is_meant_has_to_be_clear(fake: FakeGateway, wire: Wire) -> None:
    fake.answers["device.pair.list"] = {"pending": [PENDING, PENDING | {"requestId": "r2"}]}
    refused = wire("devices", "approve")
    assert (refused.code, "2 devices request pairing" in refused.err) == (1, True)
    assert "No devices are paired." in wire("devices").out


def test_a_part_that_is_not_fit_is_reported(fake: FakeGateway, wire: Wire) -> None:
    answer = {"payload": {"ok": False, "failing": {"store": "It is full."}}, "ok": True}
    fake.answers |= {"health": answer, "status": {}}
    outcome = wire("health")
    assert (outcome.code, outcome.out) == (1, "store: It is full.\n")
    assert wire("health", "--json").code == 1
    assert "  store  It is full." in wire("status").out


def test_nothing_to_do_is_reported(fake: FakeGateway, wire: Wire) -> None:
    fake.answers |= {
        "sessions.delete": {"deleted": False},
        "sessions.compact": {"compacted": False, "reason": "it is short"},
        "runs.list": {"runs": []},
        "models.list": {"models": []},
    }
    assert "no such session" in wire("sessions", "delete", "k").out
    assert "it is short" in wire("sessions", "compact", "k").out
    assert wire("runs").out == "There are no such runs.\n"
    wire("runs", "--waiting")
    wire("runs", "list", "--waiting", "--agent", "main")
    statuses = [params.get("status") for params in fake.methods("runs.list")]
    assert statuses == [None, "queued", "queued"]
    assert wire("models", "list").out == "No models are configured.\n"


REFUSALS: list[tuple[dict[str, Any], str, str]] = [
    (
        {
            "code": "NOT_PAIRED",
            "message": "pairing required",
            "details": {"code": "PAIRING_REQUIRED", "requestId": "r9"},
        },
        "pairing_required",
        "opensoul devices approve r9",
    ),
    ({"code": "UNAVAILABLE", "message": "starting"}, "unavailable", "starting"),
]


@pytest.mark.parametrize(("refusal", "code", "words"), REFUSALS)
def test_a_refusal_is_reported_with_what_to_do(
    fake: FakeGateway, wire: Wire, refusal: dict[str, Any], code: str, words: str
) -> None:
    fake.refusal = refusal
    error = wire("health", "--json").json_error
    assert error["code"] == code
    assert words in error["message"]


def test_silence_and_a_lost_connection_are_reported(
    fake: FakeGateway, wire: Wire, home: Home
) -> None:
    async def fail(socket: Any, method: str) -> bool:
        if method == "status":
            await socket.close(code=1012, message=b"service restart")
        return method in ("health", "status")

    fake.before_answer = fail
    lost = wire("status", "--json").json_error
    assert lost["code"] == "connection_lost"
    assert "service restart" in lost["message"]
    address = ("--url", fake.url, "--password", "x", "--timeout", "0.2")
    assert home.opensoul("health", *address, "--json").json_error["code"] == "timeout"
    assert fake.connects[-1]["auth"] == {"password": "x"}


def test_an_aborted_answer_is_no_answer(fake: FakeGateway, home: Home) -> None:
    payload = {"runId": "R", "status": "aborted", "summary": "Stopped."}
    fake.answers["agent"] = payload
    asked = home.opensoul("agent", "-m", "/new", "--url", fake.url, "--token", "x", "--json")
    assert asked.json_error == {"code": "run_aborted", "message": "The run was aborted: Stopped."}


@pytest.mark.parametrize(
    ("message", "more"),
    [
        ("hi", []),
        ("/new hello", []),
        ("/help", []),
        ("/think high", []),
        ("/new", ["operator.admin"]),
        (" /RESET ", ["operator.admin"]),
        ("/compact keep the names", ["operator.admin"]),
        ("/status", ["operator.approvals"]),
    ],
)
def test_a_command_is_sent_with_the_scope_that_it_needs(
    fake: FakeGateway, home: Home, message: str, more: list[str]
) -> None:
    fake.answers["agent"] = {"runId": "R", "status": "ok", "result": {"payloads": [], "meta": {}}}
    asked = home.opensoul("agent", "-m", message, "--url", fake.url, "--token", "x", "--json")
    assert asked.code == 0
    assert fake.connects[-1]["scopes"] == ["operator.write", *more]


def process(home: Home, *arguments: str) -> subprocess.Popen[str]:
    """A command that is not waited for."""
    return subprocess.Popen(
        [OPENSOUL, *arguments],
        env=os.environ | {"HOME": str(home.path)},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def test_a_second_interrupt_leaves_at_once(fake: FakeGateway, home: Home) -> None:
    asked = threading.Semaphore(0)

    async def send_events(_: Any, method: str) -> bool:
        # Nothing is ever stopped here.
        if method in ("runs.follow", "runs.abort"):
            asked.release()
        return method == "runs.abort"

    fake.before_answer = send_events
    running = process(home, "agent", "-m", "hi", "--url", fake.url, "--token", "x")
    for _ in range(2):
        assert asked.acquire(timeout=60)
        running.send_signal(signal.SIGINT)
    running.communicate(timeout=60)
    assert running.returncode == 130


def test_a_log_is_followed_over_a_lost_connection(fake: FakeGateway, home: Home) -> None:
    async def lose(socket: Any, method: str) -> bool:
        if method == "logs.tail" and len(fake.methods(method)) == 2:
            fake.answers["logs.tail"] = {"lines": ["after"], "cursor": 2}
            await socket.close(code=1012)
            return True
        return False

    fake.before_answer = lose
    fake.answers["logs.tail"] = {"lines": ["before"], "cursor": 1}
    following = ("logs", "--follow", "--interval", "0.1", "--json")
    running = process(home, *following, "--url", fake.url, "--token", "x")
    assert running.stdout is not None
    assert [running.stdout.readline() for _ in range(2)] == [
        '{"message": "before"}\n',
        '{"message": "after"}\n',
    ]
    running.send_signal(signal.SIGINT)
    running.communicate(timeout=60)
    assert running.returncode == 130
    assert [params.get("cursor") for params in fake.methods("logs.tail")][:3] == [None, 1, 1]


def test_the_configured_gateway_gets_the_configured_secret(
    fake: FakeGateway, home: Home, monkeypatch: pytest.MonkeyPatch
) -> None:
    port = fake.url.rpartition(":")[2]
    monkeypatch.setenv("OPENSOUL_GATEWAY_PORT", port)
    fake.answers["health"] = {"ok": True, "payload": {"ok": True}}
    home.configure("{ gateway: { auth: { mode: 'password', password: 'of the file' } } }")
    for arguments in ((), ("--url", fake.url), ("--url", f"localhost:{port}")):
        assert home.opensoul("health", *arguments).code == 0
        assert fake.connects[-1]["auth"] == {"password": "of the file"}


def test_ones_own_gateway_in_the_network_gets_the_secret_and_needs_no_device(home: Home) -> None:
    home.configure(
        "{ gateway: { bind: 'custom', customBindHost: '192.0.2.7', port: 4,"
        " auth: { token: 'of the file' } } }"
    )
    for given in ({}, {"wire_url": "192.0.2.7:4"}):
        options = reach(State(home.serve, dict(given))).options(READ)
        assert (options.token, options.device) == ("of the file", None)
    # Another program may listen at the same port of another address.
    for url in ("127.0.0.1:4", "192.0.2.8:4", "192.0.2.7:5"):
        with pytest.raises(CommandError, match="not the configured Gateway"):
            reach(State(home.serve, {"wire_url": url}))
    assert not (home.state / "identity").exists()


def test_a_machine_is_paired_once_and_needs_no_secret_then(
    fake: FakeGateway, wire: Wire, home: Home
) -> None:
    fake.hello_auth = {"deviceToken": "t1"}
    assert "Paired with" in wire("devices", "pair").out
    assert fake.connects[-1]["auth"] == {"token": "x"}
    assert fake.connects[-1]["device"]["id"]
    assert "operator.admin" in wire("devices", "pair", "--json").json["scopes"]
    kept = DeviceTokens(home.state / "identity" / "device-auth.json")
    assert kept.get(f"{fake.url}/", "operator") == "t1"
    wire("health")
    assert "device" not in fake.connects[-1]


def test_a_lost_connection_is_reported_to_a_waiting_user(fake: FakeGateway, home: Home) -> None:
    lost: list[str] = []

    async def lose(socket: Any, method: str) -> bool:
        if method == "runs.follow" and not lost:
            lost.append(method)
            await socket.close(code=1012)
            return True
        if method == "runs.follow":
            await fake.runs["R"].tell(started(), text("Hello"), finished())
        return False

    fake.before_answer = lose
    fake.runs["R"] = FakeRun("R")
    outcome = home.opensoul("runs", "follow", "R", "--url", fake.url, "--token", "x")
    assert (outcome.code, outcome.out) == (0, "Hello\n")
    assert outcome.err.startswith("opensoul: the connection is lost; trying again")


@pytest.mark.slow
def test_an_interrupt_without_a_connection_says_that_the_run_may_continue(
    fake: FakeGateway, home: Home
) -> None:
    asked = threading.Event()

    async def lose(socket: Any, method: str) -> bool:
        if method == "runs.follow":
            asked.set()
        elif method == "runs.abort":
            return True
        return False

    fake.before_answer = lose
    running = process(home, "agent", "-m", "hi", "--url", fake.url, "--token", "x")
    assert asked.wait(60)
    running.send_signal(signal.SIGINT)
    _, err = running.communicate(timeout=60)
    assert running.returncode == 130
    assert "the run may continue: opensoul runs abort " in err


def test_from_afar_a_device_says_which_one_it_is(home: Home) -> None:
    url = "wss://gateway.example/"
    identity = home.state / "identity"
    DeviceTokens(identity / "device-auth.json").put(url, "operator", "t0", ["operator.read"])
    state = State(home.serve, {"wire_url": url})
    options = reach(state).options(READ)
    assert (options.url, options.device_token, options.tls) == (url, "t0", True)
    assert options.device is not None
    assert options.device.id in (identity / "device.json").read_text()
    (identity / "device.json").write_text("{}")
    refused = home.opensoul("health", "--url", url, "--json")
    assert refused.json_error["code"] == "device_file_invalid"
