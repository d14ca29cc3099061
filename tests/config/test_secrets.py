"""Secrets of a configuration: placeholders in them, and references in their place."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from opensoul.adapters.config import REDACTED, Applied, ConfigSource, redacted
from opensoul.domain.models.calls import Secret

from .place import Place, agent

TOKEN = "{ gateway: { auth: { token: %s } } }"
PROVIDER = """{ agents: { defaults: { model: "p/m" } }, secrets: %s,
  models: { providers: { p: { baseUrl: "http://127.0.0.1:9/v1", apiKey: %s, headers: %s } } } }"""


def token(place: Place, written: str) -> str:
    secret = place.load(TOKEN % written).settings.auth.secret
    assert secret is not None
    return secret.reveal()


def key(place: Place, reference: str, secrets: str = "{}") -> str:
    """The key that a provider with this reference gets."""
    found = agent(place.load(PROVIDER % (secrets, reference, "{}"))).models[0].provider.api_key
    assert found is not None
    return found.reveal()


def refusal(place: Place, reference: str, secrets: str = "{}") -> str:
    """Why a reference leads to nothing."""
    issue = place.issue(PROVIDER % (secrets, reference, "{}"))
    assert issue.path == "models.providers.p.apiKey"
    return issue.message


@pytest.mark.parametrize(
    ("written", "meant"),
    [
        ("'${lower}'", "from-outside"),
        ("'${NOT_SET:-fallback}'", "fallback"),
        ("'${EMPTY:-fallback}'", "fallback"),
        ("'${lower:-fallback}'", "from-outside"),
        ("'$${lower}'", "${lower}"),
        ("'$$word'", "$word"),
        ("'se$NAME%of%{all}'", "se$NAME%of%{all}"),
    ],
)
def test_a_token_may_have_a_default_and_a_name_in_lower_case(
    place: Place, written: str, meant: str
) -> None:
    place.env |= {"lower": "from-outside", "EMPTY": ""}
    assert token(place, written) == meant


@pytest.mark.parametrize(
    ("text", "path"),
    [
        (TOKEN % "'$VAR'", "gateway.auth.token"),
        (TOKEN % "'${env:X}'", "gateway.auth.token"),
        (TOKEN % "'%VAR%'", "gateway.auth.token"),
        ("{ gateway: { auth: { mode: 'password', password: '{{ PASSWORD }}' } } }",
         "gateway.auth.password"),
        (PROVIDER % ("{}", "'$OPENROUTER_API_KEY'", "{}"), "models.providers.p.apiKey"),
        (PROVIDER % ("{}", "'<your key>'", "{}"), "models.providers.p.apiKey"),
        (PROVIDER % ("{}", "'__OPENCLAW_REDACTED__'", "{}"), "models.providers.p.apiKey"),
        (PROVIDER % ("{}", "'k'", "{ 'X-Key': 'Bearer %KEY%' }"),
         "models.providers.p.headers.X-Key"),
        ("{ models: { providers: { p: { baseUrl: 'https://$HOST/v1' } } } }",
         "models.providers.p.baseUrl"),
        ("{ agents: { defaults: { workspace: '$HOME/x' } } }", "agents.defaults.workspace"),
        ("{ logging: { file: '%APPDATA%/x.log' } }", "logging.file"),
        ("{ env: { KEY: '${env:OTHER}' } }", "env.KEY"),
    ],
)  # fmt: skip
def test_what_looks_like_a_placeholder_is_an_error_where_one_was_meant(
    place: Place, text: str, path: str
) -> None:
    issue = place.issue(text)
    assert issue.path == path
    assert "looks like a placeholder" in issue.message
    assert "write `${NAME}`" in issue.message
    assert "put a `$` in front" in issue.message


def test_free_text_and_keys_without_effect_may_hold_anything(place: Place) -> None:
    place.env["OPENAI_API_KEY"] = "k"
    text = "costs $5, 100% of $HOME, `${name}` or {{it}}"
    loaded = place.load(
        json.dumps(
            {
                "agents": {
                    "defaults": {"instructions": text},
                    "list": [{"id": "main", "name": text, "identity": {"theme": text}}],
                },
                "models": {
                    "providers": {"openai": {"models": [
                        {"id": "gpt-5.2", "name": text, "params": {"stop": [text, "${lower}"]}}
                    ]}}
                },
                "channels": {"telegram": {"botToken": "${NOT_SET}", "proxy": "${env:X}"}},
                "someday": {"text": "${NOT_SET}", "ref": {"source": "exec", "id": "x"}},
            }
        )
    )  # fmt: skip
    assert text in agent(loaded).instructions
    assert agent(loaded).name == text
    assert dict(agent(loaded).models[0].params)["stop"] == [text, "${lower}"]
    assert redacted(loaded)["someday"]["text"] == "${NOT_SET}"


def test_a_variable_that_only_names_itself_is_left_out_with_a_note(place: Place) -> None:
    place.env["SET"] = "x"
    loaded = place.load("{ env: { BRAVE_API_KEY: '${BRAVE_API_KEY}', SET: '${SET}' } }")
    assert "env.BRAVE_API_KEY has no value: the variable BRAVE_API_KEY is not set." in (
        loaded.settings.notes
    )
    assert "BRAVE_API_KEY" not in loaded.env
    assert place.issue("{ env: { A: '${A}' }, logging: { file: '${A}' } }").path == "logging.file"


@pytest.mark.parametrize(
    "reference",
    [
        "{ source: 'env', id: 'MY_KEY' }",
        "{ source: 'env', provider: 'default', id: 'MY_KEY' }",
        "{ source: 'file', id: '~/key.txt' }",
        "{ source: 'file', path: '~/key.txt' }",
        "{ source: 'file', provider: 'single', id: 'value' }",
        "{ source: 'file', provider: 'many', id: '/a~1b/key' }",
        "{ source: 'env', provider: 'some', id: 'MY_KEY' }",
    ],
)
def test_a_reference_stands_for_its_secret(place: Place, reference: str) -> None:
    place.env["MY_KEY"] = "the-key"
    (place.home / "key.txt").write_text("the-key\n")
    (place.home / "keys.json").write_text('{"a/b": {"key": "the-key"}}')
    secrets = """{ providers: {
      single: { source: "file", path: "~/key.txt", mode: "singleValue" },
      many: { source: "file", path: "~/keys.json", timeoutMs: 5000 },
      some: { source: "env", allowlist: ["MY_KEY"] } } }"""
    assert key(place, reference, secrets) == "the-key"


def test_a_reference_without_a_provider_has_the_usual_one(place: Place) -> None:
    (place.home / "keys.json").write_text('{"k": "the-key"}')
    secrets = """{ defaults: { file: "many" },
      providers: { many: { source: "file", path: "~/keys.json" } } }"""
    assert key(place, "{ source: 'file', id: '/k' }", secrets) == "the-key"


def test_every_secret_may_be_a_reference(place: Place) -> None:
    place.env["S"] = "the-secret"
    ref = "{ source: 'env', id: 'S' }"
    assert token(place, ref) == "the-secret"
    auth = place.load(f"{{ gateway: {{ auth: {{ password: {ref} }} }} }}").settings.auth
    assert auth.secret == Secret("the-secret")
    (target,) = agent(place.load(PROVIDER % ("{}", ref, f"{{ 'X-Key': {ref} }}"))).models
    assert target.provider.headers == (("X-Key", Secret("the-secret")),)


@pytest.mark.parametrize("data", [b"the-key", b"the-key\n", b"the-key\r\n"])
def test_only_the_end_of_the_last_line_is_left_out(place: Place, data: bytes) -> None:
    (place.home / "key.txt").write_bytes(data)
    assert key(place, "{ source: 'file', id: '~/key.txt' }") == "the-key"


@pytest.mark.parametrize(
    ("reference", "why"),
    [
        ("{ source: 'exec', provider: 'vault', id: 'x' }", "names a program"),
        ("{ source: 'env', provider: 'vault', id: 'x' }", "none is ever run"),
        ("{ source: 'keychain', id: 'x' }", "the source must be env, file"),
        ("{ source: 'env', id: 'NOT_SET' }", "the environment variable NOT_SET is not set"),
        ("{ source: 'env', id: 'no name' }", "must be the name of an environment variable"),
        ("{ source: 'env' }", "must be the name of an environment variable"),
        ("{ source: 'env', id: 5 }", "a reference to a secret is"),
        ("{ source: 'env', id: 'X', key: 'y' }", "a reference to a secret is"),
        ("{ source: 'env', provider: 'single', id: 'X' }", "has the source `file`"),
        ("{ source: 'env', provider: 'some', id: 'OTHER' }", "does not have OTHER"),
        ("{ source: 'file', provider: 'singel', id: 'x' }", "did you mean `single`?"),
        ("{ source: 'file', id: '/none/such' }", "there is no file /none/such"),
        ("{ source: 'file', id: '' }", "must be the path of a file"),
        ("{ source: 'file', id: '/dev/null' }", "is not a file"),
        ("{ source: 'file', id: '~' }", "cannot be read: Is a directory"),
        ("{ source: 'file', id: '~/binary' }", "is not UTF-8 text"),
        ("{ source: 'file', id: '~/large' }", "more than 1048576 bytes"),
        ("{ source: 'file', id: '~/open' }", "can be changed by every user"),
        ("{ source: 'file', provider: 'many', id: '/none' }", "has no text at /none"),
        ("{ source: 'file', provider: 'many', id: 'k' }", "must be a JSON pointer"),
        ("{ source: 'file', provider: 'broken', id: '/k' }", "is not JSON"),
    ],
)  # fmt: skip
def test_a_reference_that_leads_nowhere_is_an_error(place: Place, reference: str, why: str) -> None:
    home = place.home
    (home / "keys.json").write_text('{"k": "sesame"}')
    (home / "single").write_text("sesame")
    (home / "binary").write_bytes(b"sesame\xff")
    (home / "large").write_bytes(b"s" * 1_048_577)
    (home / "open").write_text("sesame")
    (home / "open").chmod(0o666)
    secrets = """{ providers: {
      vault: { source: "exec", command: "/bin/vault", args: [] },
      single: { source: "file", path: "~/single", mode: "singleValue" },
      many: { source: "file", path: "~/keys.json" },
      broken: { source: "file", path: "~/single" },
      some: { source: "env", allowlist: ["MY_KEY"] } } }"""
    message = refusal(place, reference, secrets)
    assert why in message
    assert "sesame" not in message


def test_what_a_secret_file_holds_is_checked_as_the_secret_is(place: Place) -> None:
    (place.home / "key.txt").write_text("two\nlines\n")
    message = refusal(place, "{ source: 'file', id: '~/key.txt' }")
    assert "control characters" in message


def test_a_pipe_is_no_secret_and_nobody_waits_for_it(place: Place) -> None:
    os.mkfifo(place.home / "pipe")
    assert "is not a file" in refusal(place, "{ source: 'file', id: '~/pipe' }")


def test_neither_a_reference_nor_its_secret_is_shown(place: Place) -> None:
    place.env["S"] = "sesame"
    loaded = place.load(PROVIDER % ("{}", "{ source: 'env', id: 'S' }", "{}"))
    assert redacted(loaded)["models"]["providers"]["p"]["apiKey"] == REDACTED
    assert "sesame" not in repr(loaded)


def test_a_secret_file_is_a_file_of_the_configuration(place: Place) -> None:
    file = place.home / "key.txt"
    file.write_text("one")
    loaded = place.load(PROVIDER % ("{}", "{ source: 'file', id: '~/key.txt' }", "{}"))
    assert str(file) in loaded.files
    missing = place.home / "missing.txt"
    place.write(PROVIDER % ("{}", "{ source: 'file', id: '~/missing.txt' }", "{}"))
    (issue,) = place.issues()
    assert str(missing) in issue.message


def test_a_changed_secret_file_is_taken_over(place: Place, tmp_path: Path) -> None:
    file = tmp_path / "key.txt"
    file.write_text("one")
    place.write(PROVIDER % ("{}", "{ source: 'file', id: '~/key.txt' }", "{}"))
    events: list[object] = []
    source = ConfigSource.open(place.inputs(), on_event=events.append)
    file.write_text("another")
    source.check()
    assert events == [Applied(("models.providers.p.apiKey",))]
