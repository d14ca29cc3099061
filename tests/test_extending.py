"""The examples of docs/extending.md work as they are printed."""

from __future__ import annotations

from importlib.metadata import EntryPoint
from pathlib import Path
from typing import Any

import pytest
from dependency_injector import providers

from examples.json_lines_store import JsonLinesStore
from opensoul.app import plugins
from opensoul.app.cli.root import run
from opensoul.domain.ports import AgentRunner, SessionStore
from scripts.embed_examples import PAGE, with_examples
from tests.app.serving import SECRET, config, serving

LOUD = {"list": [{"id": "loud", "runner": "shout"}]}


def installed(group: str) -> list[EntryPoint]:
    """The examples, as if a package that declares them were installed."""
    points = {
        plugins.RUNNERS: EntryPoint("shout", "examples.shouting_runner:ShoutingRunner", group),
        plugins.TRANSPORTS: EntryPoint("plain", "examples.plain_text_transport:transport", group),
    }
    return [points[group]]


FIND = providers.Object(installed)


def test_the_page_shows_the_examples_as_they_are() -> None:
    page = PAGE.read_text()

    assert with_examples(page) == page, "stale: run `make docs`"
    assert page.count("```python") == 3


async def test_the_example_runner_answers_for_an_agent_that_names_it(tmp_path: Path) -> None:
    async with serving(tmp_path, config(agents=LOUD), find_plugins=FIND) as served:
        assert await served.text(messages=[{"role": "user", "content": "hello"}]) == "HELLO!"


async def test_the_example_transport_is_served_where_it_is_named(tmp_path: Path) -> None:
    content = config(agents=LOUD)
    content["gateway"]["transports"] = ["plain"]
    async with serving(tmp_path, content, find_plugins=FIND) as served:
        known = {"Authorization": f"Bearer {SECRET}"}
        async with served.client.post("/plain/loud", data="well", headers=known) as answered:
            text = await answered.text()
        async with served.client.post("/plain/nobody", data="well", headers=known) as unknown:
            pass
        async with served.client.post("/plain/loud", data="well") as stranger:
            pass

    assert (answered.status, text) == (200, "WELL!")
    assert unknown.status == 404
    assert stranger.status == 401


async def test_the_example_store_takes_the_place_of_ours(tmp_path: Path) -> None:
    path = tmp_path / "turns.jsonl"
    echo: dict[str, Any] = {"list": [{"id": "main", "runner": "echo"}]}
    for before in (0, 2):
        store: SessionStore = JsonLinesStore(path)
        parts = {"store": providers.Object(store)}
        async with serving(tmp_path, config(agents=echo), **parts) as served:
            assert f"[echo after {before} messages]" in await served.text(user="alice")


async def test_a_transport_that_is_not_installed_is_named(tmp_path: Path) -> None:
    content = config(agents=LOUD)
    content["gateway"]["transports"] = ["telepathy"]

    with pytest.raises(plugins.PluginMissing, match=r"'telepathy'.*installed: plain"):
        async with serving(tmp_path, content, find_plugins=FIND):
            pass


def test_runners_are_loaded_when_they_are_needed_and_once() -> None:
    runners = plugins.Runners({}, installed)

    shout: AgentRunner = runners["shout"]

    assert runners["shout"] is shout
    assert list(runners) == ["native", "echo", "shout"]
    assert len(runners) == 3
    with pytest.raises(plugins.PluginMissing, match="'whisper'"):
        runners["whisper"]


def test_a_runner_that_nobody_offers_is_a_configuration_error(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "opensoul.json"
    path.write_text('{ agents: { list: [{ id: "main", runner: "whisper" }] } }')

    code = run(["config", "check", "--config", str(path)])

    assert code == 1
    told = capsys.readouterr()
    assert "agents.list[0].runner" in (told.out + told.err).replace(".0.", "[0].")
    assert "native" in told.out + told.err
