"""`opensoul config get`, `set` and `unset`: single values, local edits."""

from __future__ import annotations

import json
from io import BytesIO, TextIOWrapper

import pytest

from opensoul.app.cli.common import config_paths as paths

from .command import Home

CONFIG = """{
  // Ours.
  gateway: { port: 18789, auth: { token: "sesame" } },
  agents: { list: [{ id: "main", model: "demo/one" }, { id: "beta", model: "demo/one" }] },
  models: { providers: { demo: {
    baseUrl: "http://127.0.0.1:9/v1", apiKey: "${DEMO_KEY}",
    models: [{ id: "one" }, { id: "two" }],
  } } },
}
"""


@pytest.fixture
def configured(home: Home, monkeypatch: pytest.MonkeyPatch) -> Home:
    monkeypatch.setenv("DEMO_KEY", "sk-demo")
    home.configure(CONFIG)
    return home


def changed(home: Home, old: str, new: str) -> bool:
    """Whether the file differs from CONFIG in this and nothing else."""
    return old in CONFIG and home.config_file.read_text() == CONFIG.replace(old, new)


def test_get_prints_values_in_force_and_no_secret(configured: Home) -> None:
    def get(path: str) -> str:
        return configured.opensoul("config", "get", path).out

    assert get("gateway.port") == "18789\n"
    assert get("gateway.bind") == "loopback\n"
    assert get("agents.list[1].id") == get("agents.list.1.id") == "beta\n"
    assert get('models["providers"].demo.apiKey') == "__OPENSOUL_REDACTED__\n"
    assert json.loads(get("gateway.reload")) == {"mode": "hybrid", "debounceMs": 300}
    assert configured.opensoul("config", "get", "gateway.bind", "--json").json == "loopback"


@pytest.mark.parametrize("path", ["gateway.nothing", "agents.list[7]", "gateway.port.x", "a[0]"])
def test_a_path_that_leads_nowhere_is_reported(configured: Home, path: str) -> None:
    for command in ("get", "unset"):
        refused = configured.opensoul("config", command, path)
        assert (refused.code, refused.out) == (1, "")
        assert refused.err == f"opensoul: Config path not found: {path}\n"
    assert configured.opensoul("config", "get", path, "--json").json_error == {
        "code": "config_path_not_found",
        "message": f"Config path not found: {path}",
    }


def test_a_secret_is_set_from_standard_input(
    configured: Home, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sys.stdin", TextIOWrapper(BytesIO(b"open!\n")))
    assert configured.opensoul("config", "set", "gateway.auth.token", "-").code == 0
    assert changed(configured, '"sesame"', '"open!"')


@pytest.mark.parametrize("path", ["", ".a", "a..b", "a.", "a[", "a[x]", 'a["x]'])
def test_what_is_no_path_is_refused(configured: Home, path: str) -> None:
    refused = configured.opensoul("config", "get", path)
    assert refused.code == 2
    assert "path" in refused.err


def test_set_changes_one_value_and_names_the_time_of_effect(configured: Home) -> None:
    outcome = configured.opensoul("config", "set", "gateway.port", "18790")
    assert outcome.out == "Updated gateway.port. It takes effect after a restart of the Gateway.\n"
    assert changed(configured, "18789", "18790")
    configured.configure(CONFIG)
    outcome = configured.opensoul("config", "set", "gateway.auth.token", "other")
    assert outcome.out == "Updated gateway.auth.token. A running Gateway applies it at once.\n"
    assert changed(configured, '"sesame"', '"other"')


def test_set_takes_json5_or_else_a_text(configured: Home) -> None:
    configured.opensoul("config", "set", "agents.list[1].name", "The Beta")
    assert 'name: "The Beta"' in configured.config_file.read_text()
    configured.opensoul("config", "set", "agents.list[1].name", "'5'")
    assert 'name: "5"' in configured.config_file.read_text()
    configured.opensoul("config", "set", "models.providers.demo.models[2]", "{ id: 'three' }")
    assert '{ id: "three" }' in configured.config_file.read_text()


def test_set_replaces_an_object_instead_of_merging(configured: Home) -> None:
    configured.opensoul("config", "set", "gateway.auth", "{ password: 'p' }")
    assert changed(configured, '{ token: "sesame" }', '{ password: "p" }')


def test_keys_with_dots_are_quoted(configured: Home) -> None:
    path = 'agents.defaults.models["demo/o.ne"].alias'
    configured.opensoul("config", "set", path, "small")
    assert configured.opensoul("config", "get", path).out == "small\n"


def test_unset_removes_a_value_also_from_a_list(configured: Home) -> None:
    outcome = configured.opensoul("config", "unset", "agents.list[1]")
    assert outcome.out == "Removed agents.list[1]. A running Gateway applies it at once.\n"
    assert changed(configured, ', { id: "beta", model: "demo/one" }', "")
    configured.configure(CONFIG)
    configured.opensoul("config", "unset", "agents.list[1].model")
    assert changed(configured, '{ id: "beta", model: "demo/one" }', '{ id: "beta" }')


def test_what_is_there_already_is_not_written_again(configured: Home) -> None:
    outcome = configured.opensoul("config", "set", "gateway.port", "18789")
    assert outcome.out == "gateway.port has that value already; nothing was written.\n"
    assert configured.opensoul("config", "set", "gateway.port", "18789", "--json").json == {
        "path": "gateway.port",
        "file": str(configured.config_file),
        "changed": False,
        "restart": False,
    }


def test_where_reloading_is_off_everything_waits_for_a_start(configured: Home) -> None:
    configured.opensoul("config", "set", "gateway.reload.mode", "off")
    answer = configured.opensoul("config", "set", "logging.level", "debug", "--json").json
    assert (answer["changed"], answer["restart"]) == (True, True)


def test_set_makes_the_file(home: Home) -> None:
    assert home.opensoul("config", "set", "gateway.port", "1024").code == 0
    assert json.loads(home.config_file.read_text()) == {"gateway": {"port": 1024}}


@pytest.mark.parametrize(
    ("path", "value", "words"),
    [
        ("gateway.port", "x", "gateway.port"),
        ("loging", "1", "loging"),
        ("gateway.port", "null", "config unset"),
        ("gateway.auth", "{ token: null }", "config unset"),
        ("agents.list[5]", "{}", "no position `5`"),
        ("agents.list.x", "{}", "no position `x`"),
    ],
)
def test_what_would_be_invalid_is_refused_and_not_written(
    configured: Home, path: str, value: str, words: str
) -> None:
    refused = configured.opensoul("config", "set", path, value)
    assert (refused.code, refused.out) == (1, "")
    assert words in refused.err
    assert configured.config_file.read_text() == CONFIG


def test_a_refusal_lists_its_findings_for_programs(configured: Home) -> None:
    error = configured.opensoul("config", "set", "gateway.port", "x", "--json").json_error
    assert error["code"] == "config_invalid"
    assert error["issues"][0]["path"] == "gateway.port"


def test_a_value_in_an_included_file_is_refused_by_name(home: Home) -> None:
    home.configure('{ gateway: { $include: "gateway.json5" } }')
    other = home.state / "gateway.json5"
    other.write_text("{ port: 1024 }")
    refused = home.opensoul("config", "set", "gateway.port", "1025")
    assert refused.code == 1
    assert str(other) in refused.err


def test_a_file_that_cannot_be_written_is_reported(home: Home) -> None:
    home.config_file.mkdir(parents=True)
    refused = home.opensoul("config", "set", "gateway.port", "1025")
    assert refused.code == 1


def test_a_number_in_a_path_is_a_key_where_no_list_is() -> None:
    assert paths.setting({}, ("a", "0"), 1) == {"a": {"0": 1}}
    assert paths.setting({}, ("a", 0), 1) == {"a": [1]}
    assert paths.setting({"a": {"0": 2}}, ("a", 0), 1) == {"a": {"0": 1}}


def test_agents_by_their_ids_are_listed_and_edited(home: Home) -> None:
    home.configure('{ agents: { entries: { main: {}, ops: { model: "openai/x" } } } } // ours')
    assert home.opensoul("config", "set", "agents.entries.ops.name", "Operations").code == 0
    listed = home.opensoul("agents", "list", "--json").json
    assert [(agent["id"], agent["name"]) for agent in listed["agents"]] == [
        ("main", "main"),
        ("ops", "Operations"),
    ]
    assert home.opensoul("config", "get", "agents.entries.ops.name").out == "Operations\n"
    assert "// ours" in home.config_file.read_text()
