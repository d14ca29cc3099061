"""What an edit of the configuration by a client must not do: have this machine's files, variables
or keys shown, or sent elsewhere. Whoever may edit the file itself may do all of that."""

from __future__ import annotations

import json
from collections.abc import Iterator
from urllib.parse import urlsplit

from ...domain.configuration import ConfigIssue, ConfigRefused
from ...domain.placeholders import names_variable
from .built_in import BUILT_IN
from .includes import INCLUDE
from .issues import KeyPath, dotted
from .redaction import redacted_value
from .sentinels import value_at

_PROVIDERS: KeyPath = ("models", "providers")
_CREDENTIALS = ("apiKey", "headers")
_SECRETS = "secrets"
_READS = ("file", "exec")

_INCLUDE = "a file can only be included by editing the configuration file itself"
_SHOWN = "is shown to clients, so that it may name a variable only in the file itself"
_READ = "a secret can only be read from a file, or by a program, by editing the configuration file"
_PROVIDED = "says where secrets are read from, and can only be changed in the file itself"
_ELSEWHERE = "is another server than the key was given for: give apiKey and headers anew"

_PROXY = "names a proxy for calls with keys, so that it can be set only in the file itself"


def check_edit(before: object, after: object, file: str) -> None:
    """Raises ConfigRefused. Both are what the main file has written, before the edit and after."""
    known = set(_references(before, redacted_value(before), ()))
    added = set(_references(after, redacted_value(after), ())) - known
    issues = [
        ConfigIssue(dotted(path), why, file)
        for path, _, why in sorted(added, key=lambda one: (dotted(one[0]), *one[1:]))
    ]
    if json.dumps(value_at(before, (_SECRETS,))) != json.dumps(value_at(after, (_SECRETS,))):
        issues.append(ConfigIssue(_SECRETS, _PROVIDED, file))
    issues += [ConfigIssue(dotted(path), _ELSEWHERE, file) for path in _moved(before, after)]
    old = _proxy_variables(before)
    proxies = [path for path, text in _proxy_variables(after).items() if old.get(path) != text]
    issues += [ConfigIssue(dotted(path), _PROXY, file) for path in proxies]
    if issues:
        raise ConfigRefused(issues)


def _references(value: object, shown: object, path: KeyPath) -> Iterator[tuple[KeyPath, str, str]]:
    """What only the file itself may have: its place, what is written there, and why.

    Includes, secrets that are read from files, and texts that name variables and are shown; those
    in a list by the list's place, as elements may move.
    """
    match value:
        case dict():
            if value.get("source") in _READS:
                yield _place(path), json.dumps(value, sort_keys=True), _READ
            for key, item in value.items():
                below = (*path, key)
                if key == INCLUDE:
                    yield _place(below), json.dumps(item), _INCLUDE
                else:
                    yield from _references(item, value_at(shown, (key,)), below)
        case list():
            for i, item in enumerate(value):
                yield from _references(item, value_at(shown, (i,)), (*path, i))
        case str() if names_variable(value) and shown == value:
            yield _place(path), value, _SHOWN


def _place(path: KeyPath) -> KeyPath:
    return tuple("*" if isinstance(key, int) else key for key in path)


def _moved(before: object, after: object) -> Iterator[KeyPath]:
    """Where a provider that is reached elsewhere would get the credentials that it had."""
    providers = value_at(after, _PROVIDERS)
    for name in providers if isinstance(providers, dict) else ():
        path = (*_PROVIDERS, name)
        old, new = value_at(before, path), value_at(after, path)
        old, new = old if isinstance(old, dict) else {}, new if isinstance(new, dict) else {}
        kept = any(new.get(key) and new.get(key) == old.get(key) for key in _CREDENTIALS)
        # A built-in provider may have a key without one being written.
        built_in = BUILT_IN.get(name)
        kept = kept or (built_in is not None and bool(built_in.variables) and not new.get("apiKey"))
        usual = "" if built_in is None else built_in.base_url
        was, now = _server(old.get("baseUrl", usual)), _server(new.get("baseUrl", usual))
        if kept and was != now:
            yield (*path, "baseUrl")
        # A proxy for https only sees where a request goes.
        elif kept and now[0] != "https" and old.get("proxy") != new.get("proxy"):
            yield (*path, "proxy")


def _proxy_variables(value: object) -> dict[KeyPath, object]:
    """The proxies that the `env` block sets for all providers."""
    found: dict[KeyPath, object] = {}
    for path in (("env",), ("env", "vars")):
        block = value_at(value, path)
        for name, text in block.items() if isinstance(block, dict) else ():
            if str(name).lower().endswith("_proxy"):
                found[(*path, name)] = text
    return found


def _server(url: object) -> tuple[str, str]:
    try:
        parts = urlsplit(url if isinstance(url, str) else "")
    except ValueError:
        return "", str(url)
    return parts.scheme.lower(), parts.netloc.lower()
