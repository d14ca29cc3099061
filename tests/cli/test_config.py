"""`opensoul config`, `agents` and `models`: what is there, for people and for programs."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from opensoul.adapters.providers.local import files as model_files

from .command import Home

TWO_AGENTS = """{
  agents: {
    defaults: { model: { primary: "demo/one", fallbacks: ["demo/two"] } },
    list: [{ id: "main" }, { id: "beta", name: "Beta", default: true, model: "demo/two" }],
  },
  models: { providers: { demo: {
    baseUrl: "http://127.0.0.1:9/v1", apiKey: "sk-very-secret",
    models: [{ id: "one", name: "One" }, { id: "two", name: "Two" }],
  } } },
}"""


def test_no_file_at_all_is_valid(home: Home) -> None:
    checked = home.opensoul("config", "check")
    assert checked.code == 0
    assert checked.out.startswith("Valid: defaults, as there is no ")
    assert "1 agent.\n" in checked.out
    assert not home.state.exists()


def test_a_valid_file_is_named_with_its_agents_and_notes(home: Home) -> None:
    file = home.configure(TWO_AGENTS.replace("agents:", "channels: {}, agents:", 1))
    checked = home.opensoul("config", "check")
    assert checked.code == 0
    first, *notes = checked.out.splitlines()
    assert first == f"Valid: {file}; 2 agents."
    assert all(note.startswith("- ") for note in notes)
    answer = home.opensoul("config", "check", "--json").json
    assert answer == {"valid": True, "issues": [], "notes": [note[2:] for note in notes]}


def test_every_error_is_reported_at_once_with_its_place(home: Home) -> None:
    file = home.configure('{\n  gateway: { port: "x" },\n  loging: 1,\n}')
    checked = home.opensoul("config", "check")
    assert (checked.code, checked.out) == (1, "")
    assert checked.err.startswith("opensoul: The configuration is not valid, 2 findings:\n")
    assert f"{file}:2 gateway.port" in checked.err
    assert f"{file}:3 loging" in checked.err
    answer = home.opensoul("--json", "config", "check")
    assert (answer.code, answer.err) == (1, "")
    assert answer.json["valid"] is False
    assert [issue["path"] for issue in answer.json["issues"]] == ["gateway.port", "loging"]
    assert {issue["line"] for issue in answer.json["issues"]} == {2, 3}
    assert set(answer.json["issues"][0]) == {"file", "path", "line", "message"}


def test_other_commands_refuse_an_invalid_file_in_the_same_words(home: Home) -> None:
    home.configure("{ loging: 1 }")
    for command in (["config", "show"], ["agents", "list"], ["token", "show"], ["token", "rotate"]):
        refused = home.opensoul(*command)
        assert (refused.code, refused.out) == (1, "")
        assert "loging" in refused.err
        error = home.opensoul(*command, "--json").json_error
        assert error["code"] == "config_invalid"
        assert error["issues"][0]["path"] == "loging"


@pytest.mark.parametrize(
    "arguments",
    [
        ["--config", "other.json5", "config", "check"],
        ["config", "--config", "other.json5", "check"],
        ["config", "check", "--config", "other.json5"],
        ["--config", "never.json5", "config", "check", "--config", "other.json5"],
    ],
)
def test_the_file_may_be_named_before_or_after_the_command(
    home: Home, arguments: list[str]
) -> None:
    (home.path / "other.json5").write_text("{}")
    checked = home.opensoul(*arguments)
    assert checked.code == 0
    assert str(home.path / "other.json5") in checked.out


def test_a_named_file_has_to_exist(home: Home) -> None:
    refused = home.opensoul("config", "check", "--config", "absent.json5")
    assert refused.code == 1
    assert "absent.json5" in refused.err


def test_show_prints_json5_with_defaults_and_without_secrets(home: Home) -> None:
    file = home.configure(TWO_AGENTS)
    shown = home.opensoul("config", "show")
    comment, _, body = shown.out.partition("\n")
    assert comment == f"// From: {file}."
    assert "sk-very-secret" not in shown.out
    config = json.loads(body)
    assert config["gateway"]["port"] == 18789
    assert config["agents"]["list"][1]["id"] == "beta"
    answer = home.opensoul("config", "show", "--json").json
    assert answer == {"files": [str(file)], "config": config}


def test_show_without_a_file_shows_the_defaults(home: Home) -> None:
    assert home.opensoul("config", "show").out.startswith("// From: defaults, as there is no ")
    assert home.opensoul("config", "show", "--json").json["files"] == []


def test_the_schema_is_json_schema(home: Home) -> None:
    schema = home.opensoul("config", "schema").json
    assert "gateway" in schema["properties"]


def test_the_reference_names_every_key(home: Home) -> None:
    reference = home.opensoul("config", "reference").out
    assert "gateway.port" in reference
    assert "18789" in reference


def test_agents_are_listed_for_people(home: Home) -> None:
    home.configure(TWO_AGENTS)
    lines = home.opensoul("agents", "list").out.splitlines()
    assert [line.split() for line in lines] == [
        ["ID", "NAME", "DEFAULT", "MODEL", "FALLBACKS"],
        ["main", "main", "demo/one", "demo/two"],
        ["beta", "Beta", "yes", "demo/two"],
    ]


def test_agents_are_listed_for_programs(home: Home) -> None:
    home.configure(TWO_AGENTS)
    before = home.opensoul("--json", "agents", "list")
    after = home.opensoul("agents", "list", "--json")
    assert before == after
    assert before.json["default"] == "beta"
    assert before.json["agents"][0] == {
        "id": "main",
        "name": "main",
        "default": False,
        "runner": "native",
        "model": "demo/one",
        "fallbacks": ["demo/two"],
    }


def test_known_models_are_listed_with_their_place(home: Home) -> None:
    [model] = model_files.KNOWN_MODELS
    assert f"not here; opensoul models fetch {model.id}" in home.opensoul("models", "files").out
    path = model.path_in(home.state / "models")
    path.parent.mkdir(parents=True)
    path.write_bytes(b"")
    assert str(path) in home.opensoul("models", "files").out
    [listed] = home.opensoul("models", "files", "--json").json["models"]
    assert listed["present"] is True
    assert (listed["id"], listed["file"]) == (model.id, str(path))


def fake_fetch(models_dir: Path, model_id: str, *, report: Callable[[str], object]) -> Path:
    report(f"Fetching {model_id}.")
    return models_dir / f"{model_id}.gguf"


def test_fetching_prints_the_path_alone_and_the_rest_on_standard_error(
    home: Home, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(model_files, "fetch", fake_fetch)
    fetched = home.opensoul("models", "fetch")
    path = home.state / "models" / f"{model_files.DEFAULT_MODEL}.gguf"
    assert (fetched.code, fetched.out) == (0, f"{path}\n")
    assert fetched.err == f"Fetching {model_files.DEFAULT_MODEL}.\n"
    other = home.opensoul("models", "fetch", "other", "--json").json
    assert other == {"id": "other", "file": str(home.state / "models" / "other.gguf")}


def test_an_unknown_model_is_refused(home: Home) -> None:
    refused = home.opensoul("models", "fetch", "gpt-9000")
    assert refused.code == 1
    assert "gpt-9000" in refused.err
    assert model_files.DEFAULT_MODEL in refused.err
    assert home.opensoul("models", "fetch", "x", "--json").json_error["code"] == "fetch_failed"
