"""Patching the configuration file: what changes, and what stays as it is written."""

from __future__ import annotations

from threading import Thread
from typing import Any

import pytest

from opensoul.adapters.config import REDACTED
from opensoul.domain.errors import InvalidRequest
from opensoul.domain.ports.configuration import ConfigConflict, ConfigFile, ConfigRefused

from .editable import COMMENTED, editor
from .place import Place


def patched(place: Place, patch: str) -> str:
    """The file's text after a patch."""
    file = editor(place)
    file.patch(patch, file.snapshot().hash)
    return place.file.read_text()


def refusal(place: Place, patch: str) -> ConfigRefused:
    """Why a patch is refused; nothing may have been written."""
    before = place.file.read_bytes()
    file = editor(place)
    with pytest.raises(ConfigRefused) as caught:
        file.patch(patch, file.snapshot().hash)
    assert place.file.read_bytes() == before
    assert not list(place.state.glob("*.bak*"))
    return caught.value


def test_a_patch_changes_its_value_and_not_a_character_more(place: Place) -> None:
    place.write(COMMENTED)
    text = patched(place, "{ gateway: { port: 18790 } }")
    assert text == COMMENTED.replace("18789", "18790")


def test_a_removed_key_takes_the_comment_on_its_line_along(place: Place) -> None:
    place.write(COMMENTED)
    text = patched(place, '{ "gateway": { "port": null } }')
    assert text == COMMENTED.replace("    port: 18789, // the usual one\n", "")


def test_a_new_key_stands_last_and_looks_like_the_others(place: Place) -> None:
    place.write(COMMENTED)
    text = patched(place, '{ logging: { level: "debug" }, gateway: { bind: "loopback" } }')
    assert '// both\n    bind: "loopback",\n  },\n' in text
    assert text.endswith('  },\n  logging: {\n    level: "debug",\n  },\n}\n')


def test_a_list_is_replaced_and_its_unchanged_elements_keep_their_comments(place: Place) -> None:
    place.write(COMMENTED)
    patch = '{ agents: { list: [{ id: "main", model: "demo/one" }, { id: "new" }] } }'
    text = patched(place, patch)
    assert '      { id: "main", model: "demo/one" }, // the first\n' in text
    assert '      {\n        id: "new",\n      },\n    ],\n' in text


def test_a_strict_json_file_stays_strict_json(place: Place) -> None:
    place.write('{\n\t"gateway": {\n\t\t"port": 1024\n\t}\n}\n')
    text = patched(place, '{ logging: { level: "info" } }')
    assert text == (
        '{\n\t"gateway": {\n\t\t"port": 1024\n\t},\n\t"logging": {\n\t\t"level": "info"\n\t}\n}\n'
    )


def test_variables_and_strange_spellings_outside_the_patch_stay(place: Place) -> None:
    text = "{\r\n  gateway: { port: 0x401, auth: { token: '${TOKEN}' } }, // c\r\n}\r\n"
    place.file.parent.mkdir()
    place.file.write_bytes(text.encode())
    patched(place, '{ logging: { level: "info" } }')
    added = '  logging: {\r\n    level: "info",\r\n  },\r\n}\r\n'
    assert place.file.read_bytes().decode() == text[:-3] + added


def test_a_patch_of_what_is_there_already_writes_nothing(place: Place) -> None:
    place.write(COMMENTED)
    before = place.file.stat()
    text = patched(place, "{ gateway: { port: 18789, tls: null }, agents: {} }")
    assert text == COMMENTED
    assert place.file.stat() == before
    assert not list(place.state.glob("*.bak*"))


def test_without_a_file_a_patch_makes_one(place: Place) -> None:
    file = editor(place)
    snapshot = file.patch("{ gateway: { port: 1024 } }", None)
    assert place.file.read_text() == '{\n  "gateway": {\n    "port": 1024\n  }\n}\n'
    assert snapshot == file.snapshot()


@pytest.mark.parametrize(
    ("main", "included", "patch", "path"),
    [
        ('{ agents: { $include: "part.json5" } }', "{ list: [] }",
         '{ agents: { list: [{ id: "x" }] } }', "agents.list"),
        ('{ agents: { $include: "part.json5" } }', "{ list: [] }", "{ agents: null }", "agents"),
        ('{ $include: "part.json5", logging: {} }', "{ gateway: { port: 1024 } }",
         "{ gateway: { port: 1025 } }", "gateway.port"),
        ('{ $include: "part.json5", logging: {} }', "{ gateway: { port: 1024 } }",
         '{ gateway: { bind: "auto" } }', "gateway.bind"),
        ('{ agents: { list: [{ $include: "part.json5" }] } }', '{ id: "main" }',
         '{ agents: { list: [{ id: "main", name: "M" }] } }', "agents.list"),
        ('{ agents: { $include: "part.json5", list: [{ id: "b" }] } }', '{ list: [{ id: "a" }] }',
         '{ agents: { list: [{ id: "b" }, { id: "c" }] } }', "agents.list"),
    ],
)  # fmt: skip
def test_a_value_in_an_included_file_is_refused_by_that_files_name(
    place: Place, main: str, included: str, patch: str, path: str
) -> None:
    place.write(main)
    other = place.write(included, "part.json5")
    refused = refusal(place, patch)
    assert [(issue.path, issue.file) for issue in refused.issues] == [(path, str(other))]
    assert str(other) in refused.message
    assert other.read_text() == included


def test_keys_beside_an_include_can_be_patched_and_the_include_stays(place: Place) -> None:
    place.write('{ gateway: { $include: "part.json5", port: 1024 } }')
    place.write('{ auth: { token: "sesame" }, bind: "auto" }', "part.json5")
    text = patched(place, '{ gateway: { port: 1025, mode: "local", bind: "auto" } }')
    assert text == '{ gateway: { $include: "part.json5", port: 1025, mode: "local" } }'


def test_a_list_with_an_included_element_can_grow(place: Place) -> None:
    place.write('{ agents: { list: [{ $include: "part.json5" }] } }')
    place.write('{ id: "main" }', "part.json5")
    text = patched(place, '{ agents: { list: [{ $include: "part.json5" }, { id: "b" }] } }')
    assert text == '{ agents: { list: [{ $include: "part.json5" }, { id: "b" }] } }'


def test_a_placeholder_in_a_patch_leaves_the_secret_as_it_is(place: Place) -> None:
    place.write(COMMENTED)
    text = patched(place, f'{{ gateway: {{ port: 18790, auth: {{ token: "{REDACTED}" }} }} }}')
    assert text == COMMENTED.replace("18789", "18790")


def test_a_placeholder_in_a_patched_list_belongs_to_the_element_of_that_id(place: Place) -> None:
    place.write(COMMENTED)
    models = f'[{{ id: "two", headers: {{ "X-Two": "{REDACTED}" }} }}]'
    text = patched(place, f"{{ models: {{ providers: {{ demo: {{ models: {models} }} }} }},"
                   ' agents: { list: [{ id: "main", model: "demo/two" }] } }')  # fmt: skip
    assert '{ id: "two", headers: { "X-Two": "sk-two" } },' in text
    assert REDACTED not in text


def test_a_placeholder_for_a_secret_in_an_included_file_is_no_change_of_it(place: Place) -> None:
    place.write('{ gateway: { auth: { $include: "part.json5" } } }')
    place.write('{ token: "sesame" }', "part.json5")
    patch = f'{{ gateway: {{ port: 1024, auth: {{ token: "{REDACTED}" }} }} }}'
    assert patched(place, patch) == '{ gateway: { auth: { $include: "part.json5" }, port: 1024 } }'


def test_a_placeholder_for_nothing_is_refused_by_its_path(place: Place) -> None:
    place.write("{}")
    refused = refusal(place, f'{{ gateway: {{ auth: {{ token: "{REDACTED}" }} }} }}')
    assert [issue.path for issue in refused.issues] == ["gateway.auth.token"]


def test_an_invalid_result_is_refused_with_everything_that_is_wrong(place: Place) -> None:
    place.write(COMMENTED)
    refused = refusal(place, '{ gateway: { port: "x" }, loging: 1 }')
    assert [issue.path for issue in refused.issues] == ["gateway.port", "loging"]
    assert refused.message.startswith("invalid config: gateway.port: ")


def test_an_unset_variable_is_refused_before_it_is_written(place: Place) -> None:
    place.write(COMMENTED)
    refused = refusal(place, '{ gateway: { auth: { token: "${NOT_THERE}" } } }')
    assert "NOT_THERE" in refused.message


def test_a_patch_may_mend_an_invalid_file_but_not_an_unreadable_one(place: Place) -> None:
    place.write("{ loging: 1, gateway: { port: 1024 } }")
    assert patched(place, "{ loging: null }") == "{ gateway: { port: 1024 } }"
    place.write("{ nonsense: ")
    file = editor(place)
    with pytest.raises(ConfigRefused, match="invalid config; fix before patching"):
        file.patch("{ nonsense: null }", file.snapshot().hash)


def test_a_patch_keeps_keys_that_are_spelled_like_values(place: Place) -> None:
    text = '{ gateway: { port: 1024 }, env: { vars: { NaN: "x" } }, channels: { null: 1 } }'
    place.write(text)
    assert patched(place, "{ gateway: { port: 1025 } }") == text.replace("1024", "1025")


@pytest.mark.parametrize(
    ("raw", "message"),
    [
        ("[]", "config.patch raw must be an object"),
        ("{", "config.patch raw is not valid JSON5"),
        ("{ a: '\ud800' }", "surrogate"),
    ],
)
def test_what_is_no_patch_is_refused(place: Place, raw: str, message: str) -> None:
    with pytest.raises(InvalidRequest, match=message):
        editor(place).patch(raw, None)


def test_an_edit_of_a_file_needs_the_hash_that_it_has_now(place: Place) -> None:
    place.write("{}")
    file = editor(place)
    old = file.snapshot().hash
    edits: list[Any] = [file.patch, file.replace]
    for edit in edits:
        with pytest.raises(ConfigConflict) as required:
            edit("{ logging: {} }", None)
        assert str(required.value) == "config base hash required; re-run config.get and retry"
    file.patch("{ gateway: { port: 1024 } }", old)
    for edit in edits:
        with pytest.raises(ConfigConflict) as changed:
            edit("{ logging: {} }", old)
        assert str(changed.value) == "config changed since last load; re-run config.get and retry"


def test_a_change_needs_no_hash_and_may_be_made_from_what_is_there(place: Place) -> None:
    place.write(COMMENTED)
    file = editor(place)
    file.change({"gateway": {"port": 18790}})
    snapshot = file.change(lambda held: {"env": {"vars": {"FOUND_KEY": ", ".join(held)}}})
    assert snapshot.valid
    assert 'FOUND_KEY: "gateway, models, agents"' in place.file.read_text()


def test_edits_at_the_same_time_lose_nothing(place: Place) -> None:
    place.write("{ env: { vars: {} } }")
    # Two editors share no lock but that of the file, as two programs do.
    editors = [editor(place), editor(place)]

    def add(file: ConfigFile, name: str) -> None:
        file.change(lambda held: {"wizard": {"all": [*_names(held), name]}})

    threads = [Thread(target=add, args=(editors[i % 2], f"name-{i}")) for i in range(12)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    parsed: Any = editors[0].snapshot().parsed
    assert sorted(parsed["wizard"]["all"]) == sorted(f"name-{i}" for i in range(12))


def _names(held: Any) -> list[str]:
    return list(held.get("wizard", {}).get("all", []))
