"""Where providers are: base URLs as people write them, and proxies."""

from __future__ import annotations

import json

import pytest

from opensoul.adapters.config import redacted
from opensoul.domain.models.calls import Provider

from .place import Place


def provider(place: Place, entry: str) -> Provider:
    content = f"""{{ models: {{ providers: {{ p: {{ {entry} }} }} }},
                     agents: {{ defaults: {{ model: "p/m" }} }} }}"""
    (agent,) = place.load(content).settings.agents
    return agent.models[0].provider


@pytest.mark.parametrize(
    ("written", "read"),
    [
        ("https://h/v1", "https://h/v1"),
        ("https://h/v1/", "https://h/v1"),
        ("https://h//v1//", "https://h/v1"),
        ("https://h/", "https://h"),
        ("https://h", "https://h"),
        ("https://h/v1/chat/completions", "https://h/v1"),
        ("https://h/v1/chat/completions/", "https://h/v1"),
        ("https://h/v1//chat/completions", "https://h/v1"),
        ("https://h/v1/?api-version=2", "https://h/v1?api-version=2"),
        ("https://h/d/chat/completions?api-version=2", "https://h/d?api-version=2"),
        ("https://h/models", "https://h/models"),
        ("https://h/to/https://api.example.com/v1", "https://h/to/https://api.example.com/v1"),
    ],
)
def test_a_base_url_is_understood_as_people_write_it(place: Place, written: str, read: str) -> None:
    assert provider(place, f'baseUrl: "{written}"').base_url == read


@pytest.mark.parametrize(
    "end", ["/responses", "/completions", "/messages", "/embeddings", "/responses/?a=b"]
)
def test_the_address_of_another_endpoint_is_refused(place: Place, end: str) -> None:
    issue = place.issue(
        f'{{ models: {{ providers: {{ p: {{ baseUrl: "http://h/v1{end}" }} }} }} }}'
    )
    assert issue.path == "models.providers.p.baseUrl"
    name = end.partition("/?")[0]
    assert issue.message.startswith(f"must end before `{name}`; the Gateway appends")


@pytest.mark.parametrize("api", ["anthropic-messages", "openai-responses"])
def test_another_api_may_have_other_addresses(place: Place, api: str) -> None:
    entry = f'baseUrl: "http://h/v1/messages", api: "{api}"'
    place.load(f"{{ models: {{ providers: {{ p: {{ {entry} }} }} }} }}")


@pytest.mark.parametrize(
    ("entry", "auth_header"),
    [
        ("", True),
        ("authHeader: false", False),
        ('api: "anthropic-messages"', False),
        ('api: "anthropic-messages", authHeader: true', True),
        ('api: "anthropic-messages", authHeader: false', False),
    ],
)
def test_the_header_of_the_key_depends_on_the_api(
    place: Place, entry: str, auth_header: bool
) -> None:
    assert provider(place, f'baseUrl: "http://h", {entry}').auth_header is auth_header


REMOTE, LOCAL = 'baseUrl: "https://h/v1"', 'baseUrl: "http://127.0.0.1:11434/v1"'
ENVIRONMENT = {"HTTPS_PROXY": "http://env:1", "HTTP_PROXY": "http://env:2"}


@pytest.mark.parametrize(
    ("entry", "env", "proxy"),
    [
        (REMOTE, {}, None),
        (REMOTE, ENVIRONMENT, "http://env:1"),
        (REMOTE, {"all_proxy": "socks5://env:1"}, "socks5://env:1"),
        (REMOTE, {**ENVIRONMENT, "NO_PROXY": "h"}, None),
        (REMOTE + ', proxy: "http://ann:pw@own:3"', ENVIRONMENT, "http://ann:pw@own:3"),
        (REMOTE + ', proxy: "own:3"', ENVIRONMENT, "own:3"),
        (REMOTE + ', proxy: "http://own:3"', {"NO_PROXY": "*"}, "http://own:3"),
        (REMOTE + ', proxy: ""', ENVIRONMENT, None),
        (LOCAL, ENVIRONMENT, None),
        (LOCAL + ', proxy: "http://own:3"', {}, "http://own:3"),
        ('api: "local"', ENVIRONMENT, None),
        ('api: "scripted"', ENVIRONMENT, None),
    ],
)
def test_the_configuration_or_else_the_environment_names_the_proxy(
    place: Place, entry: str, env: dict[str, str], proxy: str | None
) -> None:
    place.env |= env
    secret = provider(place, entry).proxy
    assert (secret and secret.reveal()) == proxy


def test_the_built_in_provider_has_the_proxy_of_the_environment(place: Place) -> None:
    place.env |= ENVIRONMENT
    (agent,) = place.load("{}").settings.agents
    secret = agent.models[0].provider.proxy
    assert secret is not None
    assert secret.reveal() == "http://env:1"


def test_the_proxy_of_the_env_block_counts_as_that_of_the_environment(place: Place) -> None:
    loaded = place.load('{ env: { vars: { HTTPS_PROXY: "http://env:1" } } }')
    secret = loaded.settings.agents.default.models[0].provider.proxy
    assert secret is not None
    assert secret.reveal() == "http://env:1"


@pytest.mark.parametrize(
    ("proxy", "problem"),
    [
        ("socks5://ann:sesame@h:1", "is a SOCKS proxy, which is not supported"),
        ("ftp://ann:sesame@h", "is not the http:// or https:// URL of a proxy"),
        ("http://", "is not the http:// or https:// URL of a proxy"),
    ],
)
def test_a_proxy_that_cannot_be_used_is_an_error(place: Place, proxy: str, problem: str) -> None:
    entry = f'{REMOTE}, proxy: "{proxy}"'
    issue = place.issue(f"{{ models: {{ providers: {{ p: {{ {entry} }} }} }} }}")
    assert issue.path == "models.providers.p.proxy"
    assert problem in issue.message
    assert "sesame" not in str(issue)


def test_the_password_of_a_proxy_is_not_shown(place: Place) -> None:
    entry = f'{REMOTE}, proxy: "http://ann:sesame@h:1"'
    loaded = place.load(f"{{ models: {{ providers: {{ p: {{ {entry} }} }} }} }}")
    assert "sesame" not in json.dumps(redacted(loaded))
    assert "sesame" not in repr(provider(place, entry))
