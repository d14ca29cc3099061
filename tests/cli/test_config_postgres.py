"""`opensoul config` where the nodes have one configuration, in the database."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from tests.control.client import Refused, connected

from .command import Home, Outcome
from .test_running_gateway import CHAT_ENABLED, running

pytestmark = pytest.mark.e2e
SECRET = "a secret of both nodes"
CONTENT = f"""
  gateway: {{ auth: {{ token: "${{GATEWAY_TOKEN}}" }}, {CHAT_ENABLED} }},
  agents: {{ list: [{{ id: "main", runner: "echo" }}] }},"""


@dataclass
class Machine:
    """A machine with a state directory and a configuration file of its own, whose node runs."""

    home: Home
    monkeypatch: pytest.MonkeyPatch
    url: str = ""

    def opensoul(self, *arguments: str) -> Outcome:
        self.enter()
        return self.home.opensoul(*arguments)

    def enter(self) -> None:
        """What is started from now on is started here."""
        self.monkeypatch.setenv("HOME", str(self.home.path))
        self.monkeypatch.setenv("OPENSOUL_STATE_DIR", str(self.home.state))

    def value(self, path: str) -> Any:
        return self.opensoul("config", "get", path, "--json").json

    async def agents(self) -> set[str]:
        """Those that the node serves."""
        async with aiohttp.ClientSession(self.url) as client, connected(client, SECRET) as peer:
            return {row["id"] for row in (await peer.call("agents.list"))["agents"]}

    async def call(self, method: str, **params: Any) -> Any:
        async with aiohttp.ClientSession(self.url) as client, connected(client, SECRET) as peer:
            return await peer.call(method, params)


def machine(home: Home, name: str, url: str, content: str = "") -> Machine:
    place = home.path / name
    place.mkdir()
    its = Home(place, home.capsys)
    own = f'store: {{ url: {json.dumps(url)} }}, node: {{ name: "{name}", config: "database" }},'
    its.configure(f"{{ {own} {content} }}")
    return Machine(its, pytest.MonkeyPatch())


@pytest.fixture
def machines(
    home: Home, emptied_postgres: str, monkeypatch: pytest.MonkeyPatch
) -> Iterator[list[Machine]]:
    """Two, of which the first one has the configuration in its file when it starts."""
    monkeypatch.setenv("GATEWAY_TOKEN", SECRET)
    found = [
        machine(home, "one", emptied_postgres, CONTENT),
        machine(home, "other", emptied_postgres),
    ]
    with ExitStack() as stack:
        for one in found:
            stack.callback(one.monkeypatch.undo)
            one.enter()
            _, printed = stack.enter_context(running())
            (one.url,) = re.findall(r"curl -N (http://[^/]+)", printed)
        yield found


async def until_served(machines: list[Machine], agents: set[str]) -> None:
    """Every node looks every 2 s."""
    for one in machines:
        while await one.agents() != agents:
            pass


def test_a_value_that_is_set_before_the_first_node_starts_is_added_to_its_file(
    home: Home, emptied_postgres: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("GATEWAY_TOKEN", SECRET)
    one = machine(home, "one", emptied_postgres, CONTENT)
    try:
        done = one.opensoul("config", "set", "agents.defaults.maxConcurrent", "7")
        assert (done.code, done.err) == (0, "")
        assert one.value("agents.defaults.maxConcurrent") == 7
        assert [row["id"] for row in one.value("agents.list")] == ["main"]
        assert one.value("gateway.auth.token") is not None
    finally:
        one.monkeypatch.undo()


async def test_a_value_that_is_set_on_one_machine_is_in_force_on_all(
    machines: list[Machine],
) -> None:
    one, other = machines
    agent = '{ id: "guide", runner: "echo" }'
    done = other.opensoul("config", "set", "agents.list[1]", agent)
    assert (done.code, done.err) == (0, "")
    assert done.out == "Updated agents.list[1]. A running Gateway applies it at once.\n"
    await until_served(machines, {"main", "guide"})
    for each in machines:
        assert [row["id"] for row in each.value("agents.list")] == ["main", "guide"]
    shown = {(await each.call("config.get"))["hash"] for each in machines}
    assert len(shown) == 1

    again = one.opensoul("config", "set", "agents.list[1].id", "guide")
    assert again.out == "agents.list[1].id has that value already; nothing was written.\n"
    assert one.opensoul("config", "unset", "agents.list[1]").code == 0
    await until_served(machines, {"main"})


async def test_who_has_read_an_older_configuration_than_a_command_has_written_is_refused(
    machines: list[Machine],
) -> None:
    one, other = machines
    read = await other.call("config.get")
    assert one.opensoul("config", "set", "session.idleMinutes", "7").code == 0
    change = {"raw": json.dumps({"session": {"idleMinutes": 9}}), "baseHash": read["hash"]}
    with pytest.raises(Refused, match="config changed since last load"):
        await other.call("config.patch", **change)
    assert [each.value("session.idleMinutes") for each in machines] == [7, 7]

    # A command reads what is there when it writes, so it is never late.
    assert other.opensoul("config", "set", "session.idleMinutes", "8").code == 0
    assert [each.value("session.idleMinutes") for each in machines] == [8, 8]


INVALID = {
    "gateway.port": ("abc", "gateway.port: must be a whole number, not a string"),
    "store.url": ("postgresql://elsewhere/x", "store.url"),
    "node.role": ("worker", "node.role"),
    "gateway.auth.token": ("in the open", "gateway.auth.token"),
}


async def test_an_invalid_value_is_in_force_on_no_machine(machines: list[Machine]) -> None:
    hashes = [(await each.call("config.get"))["hash"] for each in machines]
    for path, (value, problem) in INVALID.items():
        for each in machines:
            refused = each.opensoul("config", "set", path, value)
            assert (refused.code, refused.out) == (1, "")
            assert problem in refused.err
    for each, before in zip(machines, hashes, strict=True):
        snapshot = await each.call("config.get")
        assert (snapshot["hash"], snapshot["appliedConfigHash"]) == (before, before)
        assert await each.agents() == {"main"}


def test_nothing_is_written_while_the_database_is_away(
    home: Home, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("GATEWAY_TOKEN", SECRET)
    away = machine(home, "away", "postgresql://me:s3cret@127.0.0.1:1/x", CONTENT)
    try:
        refused = away.opensoul("config", "set", "session.idleMinutes", "7")
    finally:
        away.monkeypatch.undo()
    assert (refused.code, refused.out) == (1, "")
    assert "The configuration in the database cannot be used" in refused.err
    assert "s3cret" not in refused.err
    assert not Path(away.home.state, "shared-config.json5").exists()
