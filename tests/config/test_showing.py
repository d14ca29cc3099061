"""Showing a configuration: redacted, as a schema, as a page, as an example."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

import opensoul.adapters.config as package
from opensoul.adapters.config import REDACTED, json_schema, redacted, render_reference
from opensoul.adapters.config.reference import type_text
from opensoul.adapters.config.schema import INERT, Root, schema_at
from opensoul.adapters.config.schema.walk import entries

from .place import Place

PROJECT = Path(__file__).parents[2]
EXAMPLE = PROJECT / "config" / "opensoul.example.json5"


def test_secrets_are_replaced_and_nothing_else_is(place: Place) -> None:
    place.env |= {"SESAME": "sesame", "HOST": "sesame.example.com"}
    shown = redacted(
        place.load(
            """{ gateway: { auth: { token: "sesame", password: "${SESAME}" },
                            remote: { token: "sesame", url: "ws://u:sesame@h?x=1&token=sesame" } },
                 models: { providers: { p: { baseUrl: "https://${HOST}/v1", apiKey: "${SESAME}",
                   headers: { "X-Any": "sesame" },
                   models: [{ id: "m", maxTokens: 5, compat: { maxTokensField: "max_tokens" },
                              params: { api_key: "sesame", max_tokens: 7 } }] } } },
                 env: { vars: { A: "sesame" }, B: "sesame" },
                 channels: { telegram: { botToken: "sesame", tokens: ["sesame", 5, null],
                             client_secret: { value: "sesame" }, list: [{ PASSWORD: "sesame" }] } },
                 hooks: { token: "sesame" }, tools: { web: { search: { apiKey: "sesame" } } },
               }"""
        )
    )
    assert "sesame" not in json.dumps(shown)
    assert shown["gateway"]["auth"]["token"] == REDACTED
    assert shown["gateway"]["auth"]["password"] == REDACTED
    assert shown["gateway"]["remote"]["url"] == f"ws://{REDACTED}@h?x=1&token={REDACTED}"
    provider = shown["models"]["providers"]["p"]
    assert provider["baseUrl"] == "https://${HOST}/v1"
    assert provider["headers"] == {"X-Any": REDACTED}
    assert provider["models"][0]["maxTokens"] == 5
    assert provider["models"][0]["params"] == {"api_key": REDACTED, "max_tokens": 7}
    assert provider["models"][0]["compat"]["maxTokensField"] == "max_tokens"
    assert shown["channels"]["telegram"]["tokens"] == [REDACTED, 5, None]
    assert shown["env"] == {"vars": {"A": REDACTED}, "B": REDACTED}


def test_defaults_are_shown_and_what_is_not_set_is_not(place: Place) -> None:
    shown = redacted(place.load("{}"))
    assert shown["gateway"]["port"] == 18789
    assert "token" not in shown["gateway"]["auth"]
    assert "channels" not in shown


def test_a_loaded_configuration_does_not_print_its_secrets(place: Place) -> None:
    place.env["SESAME"] = "sesame"
    loaded = place.load(
        """{ gateway: { auth: { token: "${SESAME}", password: "sesame" } },
             models: { providers: { openai: { apiKey: "sesame", headers: { A: "sesame" } } } },
             env: { vars: { A: "sesame" } } }"""
    )
    assert "sesame" not in repr(loaded)
    assert "sesame" not in repr(loaded.config.gateway)
    assert "sesame" not in repr(loaded.config.models)


def test_the_schema_is_json_schema_with_marks() -> None:
    schema = json.loads(json.dumps(json_schema()))
    gateway = schema["$defs"]["GatewaySection"]["properties"]
    assert gateway["port"]["default"] == 18789
    assert gateway["port"]["x-restart"] is True
    assert gateway["tailscale"]["x-effect"] == "none"
    for name in ("ListedAgent", "NamedAgent"):
        assert schema["$defs"][name]["properties"]["memorySearch"]["x-effect"] == "none"
    model = schema["$defs"]["AgentDefaults"]["properties"]["model"]
    assert "anyOf" in model


def test_the_reference_page_is_up_to_date() -> None:
    page = (PROJECT / "docs" / "configuration.md").read_text(encoding="utf-8")
    assert page == render_reference(), "print it anew: python -m opensoul.adapters.config.reference"


def test_the_reference_page_prints_itself() -> None:
    command = [sys.executable, "-W", "error", "-m", "opensoul.adapters.config.reference"]
    printed = subprocess.run(command, capture_output=True, check=True, text=True)
    assert printed.stdout == render_reference()


def test_the_reference_page_has_every_key() -> None:
    page = render_reference()
    for entry in entries(Root):
        if len(entry.path) > 1 and not _in_agents_tools(entry.path):
            assert f"| `{'.'.join(entry.path)}` |" in page
        else:
            assert f"### `{entry.path[0]}`" in page
    for path in INERT:
        assert f"- `{'.'.join(path)}`: " in page or _like_in_list(path)


def test_types_are_described_in_words() -> None:
    schema = json_schema()
    by_path = {".".join(e.path): type_text(schema_at(schema, e.path)) for e in entries(Root)}
    assert by_path["gateway.port"] == "whole number, 1 to 65535"
    assert by_path["agents.defaults.model"] == "string or object"
    assert by_path["session.reset.atHour"] == "whole number, 0 to 23"
    assert by_path["secrets.providers.*.mode"] == '`"json"`, `"singleValue"`'
    assert by_path["models.providers.*.headers"] == "object"
    assert by_path["session.oneOffRetentionDays"] == "number, 0 to 36600"


def uncommented() -> str:
    """The example with every key that is commented out put in force."""
    text = EXAMPLE.read_text(encoding="utf-8")
    return re.sub(r'^(\s*)// ((?:[$\w-]+|"[^"]+"): .*)$', r"\1\2", text, flags=re.MULTILINE)


def test_the_example_loads_and_holds_the_defaults(place: Place) -> None:
    loaded = place.load(EXAMPLE.read_text(encoding="utf-8"))
    missing_key = [note for note in loaded.settings.notes if "OPENAI_API_KEY" not in note]
    assert missing_key == []
    defaults, shown = place.load("{}").config, loaded.config
    assert shown.gateway == defaults.gateway
    assert shown.session == defaults.session
    assert shown.logging == defaults.logging
    assert shown.agents.defaults == defaults.agents.defaults


def test_every_default_in_the_example_is_the_schemas(place: Place) -> None:
    written = place.load(EXAMPLE.read_text(encoding="utf-8")).tree.plain()
    for entry in entries(Root):
        default = entry.field.get_default(call_default_factory=True)
        if isinstance(default, bool | int | float | str):
            for value in _at(written, entry.path):
                assert value == default, entry.path


def test_the_example_has_every_key_that_has_an_effect(place: Place) -> None:
    place.env |= dict.fromkeys(
        ("OPENSOUL_GATEWAY_TOKEN", "OPENSOUL_GATEWAY_PASSWORD", "EXAMPLE_API_KEY"), "x"
    )
    loaded = place.load(uncommented())
    written = loaded.tree.plain()
    missing = [
        ".".join(entry.path)
        for entry in entries(Root)
        if not _like_in_list(entry.path) and not list(_at(written, entry.path))
    ]
    assert missing == []


def test_the_example_names_every_key_that_has_none() -> None:
    text = EXAMPLE.read_text(encoding="utf-8")
    _, behind = text.split("---- Accepted without an effect")
    words = set(re.findall(r"[$\w.*]+", behind))
    for path, row in INERT.items():
        if not row.silent and not _like_in_list(path):
            assert ".".join(path) in words, path


def _like_in_list(path: tuple[str, ...]) -> bool:
    """Whether a key is the same in `agents.list` or in `tools`, where the example has it."""
    return _in_agents_tools(path) or (path[:2] == ("agents", "entries") and len(path) > 3)


def _in_agents_tools(path: tuple[str, ...]) -> bool:
    """Whether a key of an agent is the same in `tools`, where the page has it."""
    return path[0] == "agents" and "tools" in path[3:-1]


def _at(value: Any, path: tuple[str, ...]) -> list[Any]:
    """The values at a path of the schema."""
    if not path:
        return [value]
    if path[0] == "*" and isinstance(value, dict | list):
        inner = value.values() if isinstance(value, dict) else value
        return [found for item in inner for found in _at(item, path[1:])]
    if isinstance(value, dict) and path[0] in value:
        return _at(value[path[0]], path[1:])
    return []


def test_the_package_gives_what_it_promises() -> None:
    for name in package.__all__:
        assert getattr(package, name) is not None
    with pytest.raises(AttributeError, match="no attribute 'nonsense'"):
        _ = package.nonsense


def test_importing_the_package_does_not_import_pydantic() -> None:
    program = "import sys, opensoul.adapters.config; sys.exit('pydantic' in sys.modules)"
    subprocess.run([sys.executable, "-c", program], check=True)
