"""What of a configuration is shown to whom, and that everything hidden comes back where it was."""

from __future__ import annotations

import json
from typing import Any

import pyjson5
import pytest

from opensoul.adapters.config import REDACTED, redacted
from opensoul.adapters.config.edit.redaction import redacted_value
from opensoul.adapters.config.schema import Root
from opensoul.adapters.config.schema.walk import entries, mark
from opensoul.adapters.config.secret_texts import masked, sounds_secret
from opensoul.domain.ports.configuration import ConfigRefused, ConfigSnapshot

from .editable import editor
from .place import Place
from .plants import FOR_ADMINISTRATORS, PLANTED, channel, text


def shown(snapshot: ConfigSnapshot) -> str:
    return json.dumps(
        [snapshot.raw, snapshot.parsed, snapshot.config]
        + [issue.message for issue in (*snapshot.issues, *snapshot.warnings)]
    )


def seen(snapshot: ConfigSnapshot) -> list[str]:
    """What was planted and is shown."""
    return [what for what, secret in PLANTED.items() if secret in shown(snapshot)]


def test_a_reader_sees_no_planted_secret(place: Place) -> None:
    place.write(text())
    snapshot = editor(place).snapshot(reader=True)
    assert snapshot.valid
    assert seen(snapshot) == []
    for number in ("4711", "48213", "171", "c4f9Zt7Qk2Lm8Xw3Vb6N"):
        assert number not in shown(snapshot)
    config: Any = snapshot.config
    assert config["agents"]["list"][0]["name"] == "Molty"
    assert config["agents"]["defaults"]["model"] == {"primary": "p/m"}
    assert config["channels"]["some"]["nickname"] == REDACTED


def test_an_administrator_sees_only_what_nothing_marks_as_a_secret(place: Place) -> None:
    place.write(text())
    snapshot = editor(place).snapshot()
    assert snapshot.valid
    assert sorted(seen(snapshot)) == sorted(FOR_ADMINISTRATORS)
    for number in ("4711", "c4f9Zt7Qk2Lm8Xw3Vb6N"):
        assert number not in shown(snapshot)
    assert len(PLANTED) > 80


def test_what_is_shown_on_the_machine_hides_the_same(place: Place) -> None:
    dumped = json.dumps(redacted(place.load(text())))
    assert {what for what, secret in PLANTED.items() if secret in dumped} <= set(FOR_ADMINISTRATORS)


@pytest.mark.parametrize("reader", [True, False])
def test_everything_that_was_hidden_comes_back(place: Place, reader: bool) -> None:
    # Without what hides the text from a reader as a whole: keys that may be secrets.
    held = {key: item for key, item in channel.items() if key not in PLANTED.values()}
    held.pop("accounts")
    written = '{ // the psk is so-and-so\n "channels": { "some": ' + json.dumps(held) + " } }"
    place.write(written)
    file = editor(place)
    snapshot = file.snapshot(reader=reader)
    assert snapshot.raw is not None
    assert pyjson5.decode(snapshot.raw) == snapshot.parsed
    file.replace(snapshot.raw, snapshot.hash)
    assert place.file.read_text() == written
    raw = snapshot.raw.replace("{ //", "{ gateway: { port: 1024 }, //")
    file.replace(raw, snapshot.hash)
    assert place.file.read_text() == written.replace("{ //", "{ gateway: { port: 1024 }, //")
    file.patch(json.dumps({"channels": {"some": {"pin": REDACTED}}}), file.snapshot().hash)


def test_a_reader_gets_no_text_whose_keys_may_be_secrets(place: Place) -> None:
    place.write('{ channels: { telegram: { "123456:abc": { on: true } } } }')
    snapshot = editor(place).snapshot(reader=True)
    assert snapshot.raw is None
    assert "123456" not in shown(snapshot)
    assert "123456:abc" in (editor(place).snapshot().raw or "")


def parsed_of(place: Place, held: list[Any]) -> tuple[Any, Any]:
    """An editor of a file with that list, and the list as it is shown."""
    place.write(json.dumps({"channels": {"list": held}}))
    file = editor(place, on_machine=True)
    parsed: Any = file.snapshot().parsed
    return file, parsed["channels"]["list"]


def kept(place: Place, file: Any, given: list[Any]) -> Any:
    file.replace(json.dumps({"channels": {"list": given}}), file.snapshot().hash)
    return json.loads(place.file.read_text())["channels"]["list"]


A = {"url": "https://a", "port": 1, "token": "of-a"}
B = {"url": "https://b", "port": 2, "token": "of-b"}


def test_a_secret_stays_with_its_address_when_a_list_is_reordered(place: Place) -> None:
    for held in ([A, B], [A | {"url": "https://b"}, B], [A | {"id": "x"}, B | {"id": "x"}]):
        file, (a, b) = parsed_of(place, held)
        assert kept(place, file, [b, a]) == held[::-1]
        assert kept(place, file, [b]) == [held[1]]
    file, (a, b) = parsed_of(place, [A, B])
    assert kept(place, file, [{"url": "https://new", "token": "new"}, b, a])[1:] == [B, A]
    file, (a, b) = parsed_of(place, [A | {"id": ""}, None])
    assert kept(place, file, [None, a]) == [None, A | {"id": ""}]
    file, (a, b) = parsed_of(place, [A, B])
    assert kept(place, file, [a | {"port": 3}, b])[0] == A | {"port": 3}


@pytest.mark.parametrize(
    ("held", "given"),
    [
        ([A, B], lambda a, b: [a | {"url": "https://evil"}, b]),
        ([A, B], lambda a, b: [b | {"url": "https://evil"}]),
        ([A, A | {"port": 2, "token": "of-b"}], lambda a, b: [b, a | {"port": 3}]),
        ([{"token": "of-a"}, {"token": "of-b"}], lambda a, b: [b]),
        ([{"tokens": ["of-a", "of-b"]}, B], lambda a, b: [{"tokens": [REDACTED]}, b]),
        ([A | {"id": "x"}, B | {"id": "x"}], lambda a, b: [a | {"port": 9, "url": "https://c"}, b]),
        ([A, B], lambda a, b: [a, b, {"token": REDACTED}]),
    ],
)
def test_a_secret_that_looks_like_another_is_not_guessed(
    place: Place, held: list[Any], given: Any
) -> None:
    file, (a, b) = parsed_of(place, held)
    before = place.file.read_bytes()
    with pytest.raises(ConfigRefused, match="contains the placeholder of a secret"):
        kept(place, file, given(a, b))
    assert place.file.read_bytes() == before


def test_comments_that_look_alike_come_back_in_their_order(place: Place) -> None:
    written = '{ // token: "one"\n // token: "two"\n gateway: {} }'
    place.write(written)
    file = editor(place)
    for reader in (True, False):
        raw = file.snapshot(reader=reader).raw
        assert raw is not None
        file.replace(raw.replace("gateway: {}", "gateway: { port: 1024 }"), file.snapshot().hash)
        assert place.file.read_text() == written.replace("{} }", "{ port: 1024 } }")
        file.replace(file.snapshot().raw or "", file.snapshot().hash)
        place.write(written)


def test_secrets_at_wrong_places_are_hidden_from_a_reader(place: Place) -> None:
    value = {
        "gateway": {"auth": "hunter2", "port": "hunter2", "mode": "hunter2", "bind": ["hunter2"]},
        "agents": {"list": ["hunter2"], "entries": "hunter2", "defaults": {"model": ["hunter2"]}},
        "models": {"providers": "hunter2", "mode": {"x": "hunter2"}},
        "session": {"idleMinutes": "hunter2", "resetByType": {"dm": "hunter2"}},
    }
    assert "hunter2" not in json.dumps(redacted_value(value, reader=True))
    place.write(json.dumps(value))
    assert "hunter2" not in shown(editor(place).snapshot(reader=True))
    assert "hunter2" not in json.dumps([str(issue) for issue in place.issues()])


@pytest.mark.parametrize(
    "text",
    [
        "anthropic/claude-3-5-sonnet-20241022", "Qwen2.5-Coder-32B-Instruct-GGUF",
        "meta-llama/Llama-3.2-90B-Vision-Instruct:free", "mixtral-8x22b-instruct-v0.1",
        "https://api.openai.com/v1", "http://[::1]:8080/x@y", "https://h/v1?api-version=2024-06-01",
        "/srv/people/some-long-directory-name/workspace-ops", "America/Argentina/Buenos_Aires",
        "You are kind. Keep it short: two lines.", "127.0.0.1:8080", "a basic understanding",
        "anthropic.claude-3-5-sonnet-20241022-v2:0", "${HOME}/x", "10:30", "",
    ],
)  # fmt: skip
def test_what_is_no_secret_is_shown_as_it_is(text: str) -> None:
    assert masked(text) == text


def test_every_key_of_the_schema_that_sounds_secret_is_marked() -> None:
    def hidden(path: tuple[str, ...]) -> bool:
        above = {entry.path: mark(entry.field, "x-secret") for entry in entries(Root)}
        return any(above.get(path[:end]) for end in range(1, len(path) + 1))

    harmless = {
        "gateway.auth",
        "gateway.auth.keys",
        "gateway.tls.keyPath",
        "secrets",
        "secrets.defaults.env",
    }
    harmless |= {"session.bind.headers"}
    harmless |= {"agents.defaults.contextTokens", "models.providers.*.models.*.maxTokens"}
    tokens = ("reserveTokens", "reserveTokensFloor", "keepRecentTokens")
    harmless |= {f"agents.defaults.compaction.{name}" for name in tokens}
    harmless |= {f"gateway.auth.keys.*.tokensPer{period}" for period in ("Day", "Month")}
    agents = ("agents.defaults", "agents.list.*", "agents.entries.*")
    harmless |= {f"{agent}.limits.maxOutputTokens" for agent in agents}
    found = {
        ".".join(e.path) for e in entries(Root) if sounds_secret(e.path[-1]) and not hidden(e.path)
    }
    assert found - harmless == set()


@pytest.mark.parametrize("secret", ["$uperSecret1", "%hunter2two%", "<hunter2two>", "op://hunter2"])
def test_a_secret_that_has_the_form_of_a_placeholder_is_not_repeated(
    place: Place, secret: str
) -> None:
    for whole in (
        {"gateway": {"auth": {"token": secret}}},
        {"models": {"providers": {"openai": {"headers": {"X": f"Bearer {secret}"}}}}},
        {"env": {"A_KEY": secret}},
    ):
        place.write(json.dumps(whole))
        for issue in editor(place).snapshot().issues:
            assert secret.strip("$%<>") not in issue.message


def test_what_errors_repeat_is_bounded(place: Place) -> None:
    long = "x" * 50_000
    for whole in (
        {long: {}, "gateway": {long: 1}},
        {"agents": {"list": [{"id": "main", "model": f"{long}/y"}]}},
        {"models": {"providers": {"p": {"baseUrl": "http://h", "api": long}}}},
        {"agents": {"defaults": {"workspace": f"%{long}%"}}},
        {"env": {"A_KEY": f"${{{long}}}"}},
        {"gateway": {"tls": {"enabled": True, "certPath": long}}},
        {"gateway": {"bind": long, "auth": {long: long}}},
    ):
        place.write(json.dumps(whole))
        snapshot = editor(place).snapshot()
        for issue in (*snapshot.issues, *snapshot.warnings):
            assert len(issue.message) < 2_500
            assert len(issue.path) < 500
