"""`opensoul token`: what it prints is what the Gateway accepts."""

from __future__ import annotations

import os
import re

import pytest

from opensoul.adapters.config import Inputs, Overrides, load
from opensoul.adapters.system.files.token import TokenFile

from .command import Home, process


def accepted(home: Home) -> str:
    """The secret of a Gateway that starts now."""
    inputs = Inputs(
        env=os.environ,
        home=home.path,
        generated_token=lambda at: TokenFile(at).read_or_create(),
        overrides=Overrides(),
    )
    secret = load(inputs).settings.auth.secret
    assert secret is not None
    return secret.reveal()


def test_the_generated_token_is_made_and_shown_alone(home: Home) -> None:
    shown = home.opensoul("token", "show")
    assert shown.code == 0
    assert shown.err == ""
    assert re.fullmatch(r"[A-Za-z0-9_-]{43}\n", shown.out)
    assert home.opensoul("token", "show").out == shown.out
    assert shown.out.strip() == accepted(home)


@pytest.mark.parametrize(
    ("config", "mode", "secret"),
    [
        ("{gateway: {auth: {token: 'from the file'}}}", "token", "from the file"),
        ("{gateway: {auth: {mode: 'password', password: 'pässword'}}}", "password", "pässword"),
        ("{gateway: {auth: {mode: 'token', token: '${MY_TOKEN}'}}}", "token", "from-env"),
    ],
)
def test_a_configured_secret_is_shown_instead(
    home: Home, monkeypatch: pytest.MonkeyPatch, config: str, mode: str, secret: str
) -> None:
    monkeypatch.setenv("MY_TOKEN", "from-env")
    home.configure(config)
    assert home.opensoul("token", "show").out == f"{secret}\n"
    assert home.opensoul("token", "show", "--json").json == {"mode": mode, "secret": secret}
    assert accepted(home) == secret
    assert not (home.state / "gateway-token").exists()


def test_a_secret_of_the_environment_is_shown_too(
    home: Home, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OPENSOUL_GATEWAY_TOKEN", "from-the-environment")
    assert home.opensoul("token", "show").out == "from-the-environment\n"


def test_where_none_is_needed_that_is_said(home: Home) -> None:
    home.configure("{gateway: {auth: {mode: 'none'}}}")
    for command in ("show", "rotate"):
        refused = home.opensoul("token", command)
        assert (refused.code, refused.out) == (1, "")
        assert "No token is needed: gateway.auth.mode is `none`" in refused.err


def test_rotating_prints_the_new_token_and_the_old_one_is_gone(home: Home) -> None:
    old = home.opensoul("token", "show").out
    new = home.opensoul("token", "rotate").out
    assert new != old
    assert new.strip() == accepted(home)
    answer = home.opensoul("token", "rotate", "--json").json
    assert answer == {
        "mode": "token",
        "secret": accepted(home),
        "file": str(home.state / "gateway-token"),
    }


def test_rotating_mends_a_token_file_that_showing_refuses(home: Home) -> None:
    home.opensoul("token", "show")
    (home.state / "gateway-token").chmod(0o644)
    refused = home.opensoul("token", "show")
    assert refused.code == 1
    assert "chmod 600" in refused.err
    assert "opensoul token rotate" in refused.err
    assert home.opensoul("token", "rotate").code == 0
    assert home.opensoul("token", "show").code == 0


@pytest.mark.parametrize(
    ("config", "variable", "place"),
    [
        ("{gateway: {auth: {token: 'x1'}}}", None, "gateway.auth.token in "),
        ("{gateway: {auth: {password: 'x1'}}}", None, "gateway.auth.password in "),
        ("{}", "OPENSOUL_GATEWAY_TOKEN", "the environment variable OPENSOUL_GATEWAY_TOKEN"),
        ("{}", "OPENCLAW_GATEWAY_PASSWORD", "the environment variable OPENCLAW_GATEWAY_PASSWORD"),
        (
            "{env: {OPENSOUL_GATEWAY_TOKEN: 'x1'}}",
            None,
            "OPENSOUL_GATEWAY_TOKEN in the `env` block",
        ),
    ],
)
def test_a_secret_from_elsewhere_is_not_rotated_and_its_place_is_named(
    home: Home, monkeypatch: pytest.MonkeyPatch, config: str, variable: str | None, place: str
) -> None:
    home.configure(config)
    if variable is not None:
        monkeypatch.setenv(variable, "x1")
    refused = home.opensoul("token", "rotate")
    assert (refused.code, refused.out) == (1, "")
    assert place in refused.err
    assert "x1" not in refused.err
    assert home.opensoul("--json", "token", "rotate").json_error["code"] == "not_generated"


def test_a_shell_gets_the_token_alone_also_from_a_process(home: Home) -> None:
    shown = process("token", "show")
    assert (shown.code, shown.err) == (0, "")
    assert shown.out == f"{accepted(home)}\n"
