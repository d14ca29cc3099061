"""Where configuration and state are looked for."""

from __future__ import annotations

from pathlib import Path

import pytest

from opensoul.adapters.config import NoPlace, Overrides, locate

from .place import Place


def touch(path: Path) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("{}")
    return path


def test_on_a_fresh_machine_everything_is_in_dot_opensoul(tmp_path: Path) -> None:
    found = locate({}, Overrides(), tmp_path)
    assert found.state_dir == tmp_path / ".opensoul"
    assert found.config_path == tmp_path / ".opensoul" / "opensoul.json"
    assert found.store_path == tmp_path / ".opensoul" / "opensoul.sqlite3"
    assert not found.explicit


@pytest.mark.parametrize("name", [".openclaw", ".clawdbot", ".moltbot", ".moldbot"])
def test_the_directory_of_an_older_product_is_used_where_it_exists(
    tmp_path: Path, name: str
) -> None:
    (tmp_path / name).mkdir()
    assert locate({}, Overrides(), tmp_path).state_dir == tmp_path / name


@pytest.mark.parametrize("name", ["openclaw", "clawdbot", "moltbot", "moldbot"])
def test_the_file_of_an_older_product_is_read_where_there_is_no_newer_one(
    tmp_path: Path, name: str
) -> None:
    older = touch(tmp_path / ".opensoul" / f"{name}.json")
    assert locate({}, Overrides(), tmp_path).config_path == older
    newer = touch(tmp_path / ".opensoul" / "opensoul.json")
    assert locate({}, Overrides(), tmp_path).config_path == newer


def test_a_file_in_an_older_directory_is_found(tmp_path: Path) -> None:
    (tmp_path / ".opensoul").mkdir()
    older = touch(tmp_path / ".clawdbot" / "clawdbot.json")
    assert locate({}, Overrides(), tmp_path).config_path == older


def test_the_named_state_directory_comes_first(tmp_path: Path) -> None:
    touch(tmp_path / ".opensoul" / "opensoul.json")
    env = {"OPENSOUL_STATE_DIR": " ~/elsewhere ", "OPENCLAW_STATE_DIR": "/other"}
    mine = touch(tmp_path / "elsewhere" / "openclaw.json")
    found = locate(env, Overrides(), tmp_path)
    assert found.state_dir == tmp_path / "elsewhere"
    assert found.config_path == mine


def test_the_older_spelling_of_the_state_directory_counts_too(tmp_path: Path) -> None:
    env = {"OPENSOUL_STATE_DIR": "  ", "OPENCLAW_STATE_DIR": str(tmp_path / "claw")}
    found = locate(env, Overrides(), tmp_path)
    assert found.state_dir == tmp_path / "claw"
    assert found.config_path == tmp_path / "claw" / "opensoul.json"


def test_a_relative_state_directory_starts_here(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    found = locate({"OPENSOUL_STATE_DIR": "x/../state"}, Overrides(), Path("/home/nobody"))
    assert found.state_dir == tmp_path / "state"


def test_a_tilde_alone_is_the_home_directory(tmp_path: Path) -> None:
    assert locate({"OPENSOUL_STATE_DIR": "~"}, Overrides(), tmp_path).state_dir == tmp_path


def test_without_a_home_the_state_directory_must_be_named(tmp_path: Path) -> None:
    with pytest.raises(NoPlace, match="HOME is not set"):
        locate({}, Overrides(), None)
    env = {"OPENSOUL_STATE_DIR": str(tmp_path)}
    assert locate(env, Overrides(), None).config_path == tmp_path / "opensoul.json"
    with pytest.raises(NoPlace, match=r"~/x\.json is in the home directory"):
        locate(env, Overrides(config_path="~/x.json"), None)


def test_a_home_that_is_not_utf8_is_refused_where_it_is_used() -> None:
    home = Path("/home/caf\udce9")
    with pytest.raises(NoPlace, match=r"/home/caf\\xe9/\.opensoul is not UTF-8 text"):
        locate({}, Overrides(), home)
    env = {"OPENSOUL_STATE_DIR": "/state"}
    assert locate(env, Overrides(), home).state_dir == Path("/state")


def test_the_option_wins_over_both_variables(tmp_path: Path) -> None:
    env = {"OPENSOUL_CONFIG_PATH": "/a.json", "OPENCLAW_CONFIG_PATH": "/b.json"}
    by_option = locate(env, Overrides(config_path="/c.json"), tmp_path)
    assert (str(by_option.config_path), by_option.explicit) == ("/c.json", True)
    assert str(locate(env, Overrides(), tmp_path).config_path) == "/a.json"
    del env["OPENSOUL_CONFIG_PATH"]
    assert str(locate(env, Overrides(), tmp_path).config_path) == "/b.json"


def test_a_named_file_that_is_missing_is_an_error(place: Place) -> None:
    place.env["OPENSOUL_CONFIG_PATH"] = str(place.home / "nothing.json5")
    issue = place.issue()
    assert str(issue) == f"- {place.home}/nothing.json5 <root>: there is no such file"


def test_without_any_file_the_defaults_hold_and_a_note_says_so(place: Place) -> None:
    loaded = place.load()
    assert not loaded.exists
    assert [agent.id for agent in loaded.settings.agents] == ["main"]
    assert not loaded.settings.chat.enabled
    assert "There is no configuration file" in loaded.settings.notes[0]
    assert str(place.file) in loaded.settings.notes[0]
    assert loaded.sha256 == "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"
    assert loaded.settings.store.path == str(place.state / "opensoul.sqlite3")


def test_an_empty_object_is_a_configuration(place: Place) -> None:
    loaded = place.load("{}")
    assert loaded.exists
    assert loaded.files == (str(place.file),)
    assert loaded.sha256 == "44136fa355b3678a1146ad16f7e8649e94fb4fc21fe77e8310c060f61caaff8a"
    assert not any("no configuration file" in note for note in loaded.settings.notes)
