"""The examples of docs/extending.md work as they are printed."""

from __future__ import annotations

import asyncio
import re
import sys
from collections.abc import Callable
from importlib.metadata import EntryPoint
from pathlib import Path
from typing import Any

import pytest
from dependency_injector import providers
from quart import Blueprint, Response

from examples.json_lines_store import JsonLinesStore
from examples.phone_book_tools import PhoneBook
from opensoul import api
from opensoul.adapters.python_agents import GROUP
from opensoul.adapters.transports import Route, Transport
from opensoul.app import plugins
from opensoul.app.cli.root import run
from opensoul.domain.ports import AgentRunner, SessionStore
from opensoul.domain.services import Gateway
from scripts.embed_examples import PAGE, with_examples
from tests.app.serving import SECRET, config, serving
from tests.fakes.behaviours import answer
from tests.fakes.provider import FakeProvider
from tests.test_architecture import ROOT, imports

EXAMPLES = ROOT / "examples"
LOUD = {"list": [{"id": "loud", "runner": "shout"}]}


def installed(group: str) -> list[EntryPoint]:
    """The examples, as if a package that declares them were installed."""
    points = {
        plugins.RUNNERS: EntryPoint("shout", "examples.shouting_runner:ShoutingRunner", group),
        plugins.TRANSPORTS: EntryPoint("plain", "examples.plain_text_transport:transport", group),
        plugins.TOOLS: EntryPoint("phone_book", "examples.phone_book_tools:PhoneBook", group),
        GROUP: EntryPoint("rule-books", "examples.rule_book_framework:RuleBooks", group),
    }
    return [points[group]]


def alone(point: EntryPoint) -> providers.Provider[Any]:
    """One plugin, as if nothing else were installed."""
    return providers.Object(lambda group: [point] if group == point.group else [])


FIND = providers.Object(installed)


def test_the_page_shows_the_examples_as_they_are() -> None:
    page = PAGE.read_text()

    assert with_examples(page) == page, "stale: run `make docs`"
    assert page.count("```python") == 6


@pytest.mark.parametrize("example", sorted(EXAMPLES.glob("*.py")), ids=lambda path: path.stem)
def test_an_example_imports_the_public_api_alone(example: Path) -> None:
    found = imports(example.read_text("utf-8"))
    ours = {name.rpartition(".")[0] for name in found if name.split(".")[0] == "opensoul"}

    assert ours == {"opensoul.api"}


def test_every_name_of_the_public_api_is_there() -> None:
    assert [name for name in api.__all__ if not hasattr(api, name)] == []


async def test_the_example_runner_answers_for_an_agent_that_names_it(tmp_path: Path) -> None:
    async with serving(tmp_path, config(agents=LOUD), find_plugins=FIND) as served:
        assert await served.text(messages=[{"role": "user", "content": "hello"}]) == "HELLO!"


RULES = """
from examples.rule_book_framework import RuleBook
book = RuleBook({"refund": "Refunds take five days."})
"""


async def test_agents_of_the_example_framework_are_recognised(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "path", [*sys.path])
    (tmp_path / "rules_of_the_desk.py").write_text(RULES)
    target = {"use": "python", "target": "rules_of_the_desk:book", "path": str(tmp_path)}
    agents = {"list": [{"id": "desk", "runner": target}]}
    question = [{"role": "user", "content": "Where is my refund?"}]

    async with serving(tmp_path, config(agents=agents), find_plugins=FIND) as served:
        state = await served.container.python_agents().loaded("desk")
        answer = await served.text(messages=question)

    assert state.what == "rule-books: a book of 1 rules"
    assert answer == "Refunds take five days."


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
        async with served.client.post("/plain/loud", data="x" * 65_537, headers=known) as large:
            pass

    assert (answered.status, text) == (200, "WELL!")
    assert [unknown.status, stranger.status, large.status] == [404, 401, 413]


@pytest.mark.parametrize(
    ("arguments", "result"),
    [
        ('{"name": "ada"}', "ada: 1815"),
        ('{"name": "eve"}', "There is no colleague of this name."),
        (
            '{"name"',
            "The arguments must be a JSON object, but they are no valid JSON (Expecting ':' "
            "delimiter: line 1 column 8 (char 7)): '{\"name\"'.",
        ),
        (
            '{"name": 7}',
            "The arguments do not fit the parameters of look_up_extension: name: 7 is not of type "
            "'string'",
        ),
    ],
)
async def test_the_result_of_the_example_tool_reaches_the_model(
    tmp_path: Path, arguments: str, result: str
) -> None:
    function = {"name": "look_up_extension", "arguments": arguments}
    call = {"index": 0, "id": "c1", "type": "function", "function": function}
    async with FakeProvider() as provider:
        provider.will(
            answer(tool_calls=[call], finish_reason="tool_calls"), answer("It is ", "1815.")
        )
        content = config(provider.base_url, tools={"alsoAllow": ["group:plugins"]})
        async with serving(tmp_path, content, find_plugins=FIND) as served:
            assert await served.text(user="alice") == "It is 1815."
            assert await served.text(user="alice") == "Hello there"
        asked, resumed, later = [request.json for request in provider.requests]

    (offered,) = asked["tools"]
    assert offered["function"]["name"] == "look_up_extension"
    assert resumed["messages"][-1] == {
        "role": "tool",
        "name": "look_up_extension",
        "tool_call_id": "c1",
        "content": result,
    }
    assert [message["role"] for message in later["messages"]] == [
        *("system", "user", "assistant", "tool", "assistant", "user")
    ]
    assert "`look_up_extension`" in asked["messages"][0]["content"]


@pytest.mark.parametrize(
    "tools",
    [
        pytest.param({}, id="no rules"),
        pytest.param({"profile": "coding"}, id="a profile"),
        pytest.param({"allow": ["*"], "deny": ["look_up_*"]}, id="a deny"),
    ],
)
async def test_an_installed_tool_that_no_rule_allows_is_not_offered(
    tmp_path: Path, tools: dict[str, Any]
) -> None:
    async with FakeProvider() as provider:
        content = config(provider.base_url, tools=tools)
        async with serving(tmp_path, content, find_plugins=FIND) as served:
            assert await served.text() == "Hello there"
        request = provider.requests[0].json

    offered = [tool["function"]["name"] for tool in request.get("tools", [])]
    assert "look_up_extension" not in offered
    assert ("tools" in request) == bool(offered)


async def test_a_tool_plugin_is_made_and_closed_once(tmp_path: Path) -> None:
    book = ClosingBook()

    class Installed(EntryPoint):
        def load(self) -> Callable[[], ClosingBook]:
            return book.made

    find = alone(Installed("phone_book", "phone_book:PhoneBook", plugins.TOOLS))
    async with serving(tmp_path, config(), find_plugins=find):
        assert book.happened == ["made"]

    assert book.happened == ["made", "closed"]


class ClosingBook(PhoneBook):
    def __init__(self) -> None:
        self.happened: list[str] = []

    def made(self) -> ClosingBook:
        self.happened.append("made")
        return self

    async def close(self) -> None:
        self.happened.append("closed")


@pytest.mark.parametrize(
    ("value", "problem"),
    [
        ("no_such_module:Tools", "(no_such_module:Tools) cannot be made: ModuleNotFoundError"),
        (f"{__name__}:broken_tools", "cannot be made: OSError: no such device"),
    ],
)
async def test_a_tool_plugin_that_cannot_be_made_is_named(
    tmp_path: Path, value: str, problem: str
) -> None:
    find = alone(EntryPoint("mine", value, plugins.TOOLS))

    with pytest.raises(plugins.PluginInvalid, match=re.escape(problem)) as raised:
        async with serving(tmp_path, config(), find_plugins=find):
            pass
    assert str(raised.value).startswith("The tool plugin 'mine' ")


@pytest.mark.parametrize("name", ["builtin", "mcp"])
async def test_a_tool_plugin_cannot_pass_for_a_source_of_the_gateways_own(
    tmp_path: Path, name: str
) -> None:
    find = alone(EntryPoint(name, "examples.phone_book_tools:PhoneBook", plugins.TOOLS))

    with pytest.raises(plugins.PluginInvalid, match="Give its entry point another name"):
        async with serving(tmp_path, config(), find_plugins=find):
            pass


def broken_tools() -> PhoneBook:
    raise OSError("no such device")


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


def old_plugin(gateway: Gateway) -> Blueprint:
    """What the interface was before transports listed their routes."""
    return Blueprint("old", __name__)


def greedy(gateway: Gateway) -> Transport:
    return Transport("greedy", routes=(Route("/readyz", "GET", None, never),))


async def never() -> Response:
    raise AssertionError("no client was served")


@pytest.mark.parametrize(
    ("plugin", "problem"),
    [
        (
            "old_plugin",
            "'Blueprint'. It has to return an opensoul.adapters.transports.Transport",
        ),
        ("greedy", "two routes answer GET /readyz"),
    ],
)
async def test_a_transport_that_cannot_be_served_says_what_to_change(
    tmp_path: Path, plugin: str, problem: str
) -> None:
    content = config()
    content["gateway"]["transports"] = ["mine"]
    point = EntryPoint("mine", f"{__name__}:{plugin}", plugins.TRANSPORTS)

    with pytest.raises(plugins.PluginInvalid, match=re.escape(problem)):
        async with serving(tmp_path, content, find_plugins=alone(point)):
            pass


async def test_a_transport_is_started_and_stopped_with_the_gateway(tmp_path: Path) -> None:
    happened: list[str] = []

    def transports(name: str) -> Transport:
        async def start() -> None:
            happened.append(f"start {name}")

        async def stop() -> None:
            happened.append(f"stop {name}")

        return Transport(name, start=start, stop=stop)

    both = providers.Object([transports("a"), transports("b")])
    async with serving(tmp_path, config(), transports=both):
        assert happened == ["start a", "start b"]
    assert happened == ["start a", "start b", "stop b", "stop a"]


async def test_a_transport_that_fails_to_start_stops_those_before_it(tmp_path: Path) -> None:
    stopped = asyncio.Event()

    async def stop() -> None:
        stopped.set()

    async def fail() -> None:
        raise ConnectionError("no such chat server")

    both = providers.Object([Transport("a", stop=stop), Transport("b", start=fail)])
    with pytest.raises(ConnectionError, match="no such chat server"):
        async with serving(tmp_path, config(), transports=both):
            pass
    assert stopped.is_set()


def test_runners_are_loaded_when_they_are_needed_and_once() -> None:
    runners = plugins.Runners({}, installed)

    shout: AgentRunner = runners["shout"]

    assert runners["shout"] is shout
    assert list(runners) == ["native", "echo", "python", "shout"]
    assert len(runners) == 4
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
