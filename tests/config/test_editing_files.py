"""Showing and replacing the configuration file, and how it is written."""

from __future__ import annotations

import hashlib
import json
import os
import stat
from pathlib import Path
from typing import Any

import pytest
from filelock import FileLock

from opensoul.adapters.config import REDACTED
from opensoul.domain.errors import InvalidRequest
from opensoul.domain.ports.configuration import ConfigRefused, ConfigUnwritable

from .editable import COMMENTED, editor
from .place import Place


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def replaced(place: Place, raw: str) -> str:
    file = editor(place)
    file.replace(raw, file.snapshot().hash)
    return place.file.read_text()


def test_a_snapshot_has_the_file_the_configuration_and_the_hash(place: Place) -> None:
    place.write(COMMENTED)
    snapshot = editor(place).snapshot()
    parsed: Any = snapshot.parsed
    config: Any = snapshot.config
    assert (snapshot.path, snapshot.exists, snapshot.valid) == (str(place.file), True, True)
    assert snapshot.hash == hashlib.sha256(COMMENTED.encode()).hexdigest()
    assert parsed["gateway"]["port"] == 18789
    assert "bind" not in parsed["gateway"]
    assert config["gateway"]["bind"] == "loopback"
    assert snapshot.issues == ()


def test_no_secret_is_in_a_snapshot_and_numbers_are(place: Place) -> None:
    place.write(COMMENTED)
    snapshot = editor(place).snapshot()
    text = json.dumps([snapshot.raw, snapshot.parsed, snapshot.config])
    for secret in ("token-from-outside", "quoted", "sk-"):
        assert secret not in text
    parsed: Any = snapshot.parsed
    assert parsed["gateway"]["auth"] == {"token": REDACTED, "password": REDACTED}
    assert parsed["models"]["providers"]["demo"]["models"][0]["maxTokens"] == 5
    assert snapshot.raw is not None
    assert "// the usual one" in snapshot.raw


def test_comments_give_no_secret_away(place: Place) -> None:
    place.write(
        """{ // token: "old-sesame", and 'https://me:pass@host/' too
             gateway: { auth: { token: "sesame-now" } }, /* sesame-now; was abc123def456ghi789jkl */
             hooks: { token: "x", token: "y" } }"""
    )
    raw = editor(place).snapshot().raw
    assert raw is not None
    for secret in ("sesame", "pass", "abc123def456ghi789jkl", '"x"', '"y"'):
        assert secret not in raw


def test_without_a_file_the_defaults_are_shown(place: Place) -> None:
    snapshot = editor(place).snapshot()
    assert (snapshot.exists, snapshot.raw, snapshot.parsed) == (False, None, {})
    assert snapshot.valid
    assert snapshot.hash == hashlib.sha256(b"").hexdigest()
    assert snapshot.warnings
    assert not place.state.exists()


@pytest.mark.parametrize("data", [b"{ a: ", b"\xff{}", b'{ gateway: { port: "x" } }'])
def test_an_invalid_file_is_shown_with_what_is_wrong(place: Place, data: bytes) -> None:
    place.write("").write_bytes(data)
    snapshot = editor(place).snapshot()
    assert not snapshot.valid
    assert snapshot.config == {}
    assert snapshot.hash == hashlib.sha256(data).hexdigest()
    assert [issue.file for issue in snapshot.issues] == [str(place.file)]


def test_a_file_that_is_a_directory_is_shown_and_cannot_be_written(place: Place) -> None:
    place.file.mkdir(parents=True)
    file = editor(place)
    snapshot = file.snapshot()
    assert (snapshot.exists, snapshot.valid) == (True, False)
    with pytest.raises(ConfigUnwritable):
        file.replace("{}", snapshot.hash)


def test_half_characters_in_a_file_do_not_spoil_its_snapshot(place: Place) -> None:
    place.write('{ channels: { a: "\\ud800" } }')
    snapshot = editor(place).snapshot()
    assert not snapshot.valid
    json.dumps(snapshot.parsed, ensure_ascii=False).encode()


def test_replacing_writes_the_text_as_it_is_given(place: Place) -> None:
    place.write(COMMENTED)
    text = "{ /* all new */ gateway: { port: 0x401, auth: { token: '${TOKEN}' } } }"
    assert replaced(place, text) == text


def test_the_text_that_was_shown_comes_back_with_every_secret(place: Place) -> None:
    text = COMMENTED.replace("// Ours.", '// token: "former-secret"')
    text = text.replace("gateway: {", 'gateway: { remote: { url: "ws://me:pass@host/?key=a" },')
    place.write(text)
    shown = editor(place).snapshot().raw
    assert shown is not None
    assert shown != text
    assert replaced(place, shown.replace("18789", "18790")) == text.replace("18789", "18790")


def test_secrets_of_a_list_follow_their_elements(place: Place) -> None:
    place.write(COMMENTED)
    file = editor(place)
    parsed: Any = file.snapshot().parsed
    models = parsed["models"]["providers"]["demo"]["models"]
    models.insert(0, {"id": "zero"})
    models[1], models[2] = models[2], models[1]
    file.replace(json.dumps(parsed), file.snapshot().hash)
    written: Any = json.loads(place.file.read_text())
    assert written["gateway"]["auth"] == {"token": "${TOKEN}", "password": "quoted"}
    demo = written["models"]["providers"]["demo"]
    assert demo["apiKey"] == "sk-demo"
    assert demo["models"][1]["headers"] == {"X-Two": "sk-two"}


@pytest.mark.parametrize(
    ("raw", "path"),
    [
        (f'{{ gateway: {{ remote: {{ token: "{REDACTED}" }} }} }}', "gateway.remote.token"),
        (f'{{ logging: {{ file: "{REDACTED}" }} }}', "logging.file"),
        (f'{{ agents: {{ list: [{{ id: "{REDACTED}" }}] }} }}', "agents.list.0.id"),
        (f'{{ gateway: {{ auth: {{ token: "x{REDACTED}" }} }} }}', "gateway.auth.token"),
    ],
)
def test_a_placeholder_for_nothing_is_refused(place: Place, raw: str, path: str) -> None:
    place.write(COMMENTED)
    with pytest.raises(ConfigRefused) as refused:
        replaced(place, raw)
    assert [issue.path for issue in refused.value.issues] == [path]
    assert place.file.read_text() == COMMENTED


@pytest.mark.parametrize("raw", ["{", "", '"{}", 1'])
def test_what_is_no_json5_is_refused(place: Place, raw: str) -> None:
    with pytest.raises(InvalidRequest, match="raw is not valid JSON5"):
        editor(place).replace(raw, None)
    assert not place.file.exists()


def test_an_invalid_text_is_refused_and_nothing_is_written(place: Place) -> None:
    place.write(COMMENTED)
    for raw in ("[]", "{ gateway: { port: 0 } }", '{ $include: "absent.json5" }'):
        with pytest.raises(ConfigRefused, match="invalid config: "):
            replaced(place, raw)
    assert place.file.read_text() == COMMENTED
    assert not list(place.state.glob("*.bak*"))


def test_an_unreadable_file_can_be_replaced(place: Place) -> None:
    place.write("{ broken")
    assert replaced(place, "{}") == "{}"
    place.write("{ broken")
    with pytest.raises(ConfigRefused):
        replaced(place, f'{{ gateway: {{ auth: {{ token: "{REDACTED}" }} }} }}')


def test_a_new_file_and_its_directory_are_private(place: Place) -> None:
    editor(place).replace("{}", None)
    assert mode(place.file) == 0o600
    assert mode(place.state) == 0o700


def test_five_former_texts_are_kept_and_are_private(place: Place) -> None:
    place.write("{} // 0").chmod(0o644)
    for i in range(1, 8):
        replaced(place, f"{{}} // {i}")
    names = ["", ".bak", ".bak.1", ".bak.2", ".bak.3", ".bak.4"]
    files = [place.file.with_name(f"opensoul.json{name}") for name in names]
    assert [file.read_text() for file in files] == [f"{{}} // {i}" for i in range(7, 1, -1)]
    assert {mode(file) for file in files} == {0o600}
    others = {path.name for path in place.state.iterdir()} - {file.name for file in files}
    assert others <= {".opensoul.json.lock"}


def test_behind_a_link_the_file_itself_is_replaced(place: Place, tmp_path: Path) -> None:
    real = tmp_path / "dotfiles" / "gateway.json5"
    real.parent.mkdir()
    real.write_text('{ $include: "part.json5" }')
    place.write("{}", "part.json5")
    place.file.symlink_to(real)
    replaced(place, '{ $include: "part.json5", gateway: {} }')
    assert place.file.is_symlink()
    assert real.read_text() == '{ $include: "part.json5", gateway: {} }'
    assert real.with_name("gateway.json5.bak").read_text() == '{ $include: "part.json5" }'


def test_an_edit_waits_for_other_programs_only_so_long(place: Place) -> None:
    place.write("{}")
    with (
        FileLock(place.state / ".opensoul.json.lock"),
        pytest.raises(ConfigUnwritable, match="another program"),
    ):
        editor(place, lock_timeout=0.01).change({"gateway": {"port": 1024}})


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write anywhere")
def test_a_directory_that_cannot_be_written_is_reported(place: Place) -> None:
    place.write("{}")
    place.state.chmod(0o500)
    with pytest.raises(ConfigUnwritable, match="cannot be written"):
        editor(place).change({"gateway": {"port": 1024}})


def test_the_schema_comes_with_hints_for_a_form(place: Place) -> None:
    described: Any = editor(place).schema()
    assert described["generatedAt"] == "1970-01-01T00:00:00Z"
    assert "gateway" in described["schema"]["properties"]
    hints = described["uiHints"]
    assert hints["gateway.auth.token"]["sensitive"] is True
    body = hints["gateway.http.endpoints.chatCompletions.maxBodyBytes"]
    assert body["label"] == "Max body bytes"
    assert body["help"] == ("The largest request body, in bytes, both compressed and decompressed.")
    assert hints["gateway.tailscale"]["advanced"] is True
    assert "sensitive" not in hints["models.providers.*.models.*.maxTokens"]
