"""Restrictions on edits by clients, which must not reveal files, variables or keys of this machine,
send them elsewhere, or name files and programs. Users with access to the file are unrestricted."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from itertools import islice
from urllib.parse import urlsplit

from ....domain.ports.configuration import ConfigIssue, ConfigRefused
from ....domain.text import names_variable
from ..build import BUILT_IN
from ..errors import KeyPath, dotted
from ..read import INCLUDE, Unreadable, canonical, members, same, starred, value_at
from .redaction import redacted_value
from .snapshots import Content

_PROVIDERS: KeyPath = ("models", "providers")
_SECRETS = "secrets"
_READS = ("file", "exec")

_INCLUDE = "a client cannot add an include; edit the configuration file itself"
_SHOWN = "is visible to clients, so that only the file itself may name a variable here"
_READ = "a secret can only be read from a file, or by a program, by editing the configuration file"
_PROVIDED = "defines where secrets are read from, and can only be changed in the file itself"
_ELSEWHERE = "is another server than the one its credentials belong to; set apiKey and headers anew"

_VARIABLE = (
    "may affect programs, and can only be set in the file itself: a client may set "
    "only variables whose names end with KEY, TOKEN, SECRET or PASSWORD"
)
_CREDENTIAL_NAMES = frozenset(("KEY", "APIKEY", "TOKEN", "SECRET", "PASSWORD"))
"""The last words of names of variables that hold credentials."""
_MAX_ISSUES = 20
"""A bound on the answer, so that it does not grow with the request."""


def check_text(before: Content, after: Content, file: str) -> None:
    """Raises ConfigRefused for restricted content in the main file's text."""
    old, new = _value(before), after.value()
    known = set(_references(old, redacted_value(old), ()))
    added = set(_references(new, redacted_value(new), ())) - known
    issues = [
        ConfigIssue(dotted(path), why, file)
        for path, _, why in sorted(added, key=lambda one: (dotted(one[0]), *one[1:]))
    ]
    if not same(value_at(old, (_SECRETS,)), value_at(new, (_SECRETS,))):
        issues.append(ConfigIssue(_SECRETS, _PROVIDED, file))
    issues += [ConfigIssue(dotted(path), _ELSEWHERE, file) for path in _moved(old, new)]
    held = _steering_variables(old)
    changed = [path for path, text in _steering_variables(new).items() if held.get(path) != text]
    issues += [ConfigIssue(dotted(path), _VARIABLE, file) for path in changed]
    refuse(issues)


def refuse(issues: Iterable[ConfigIssue]) -> None:
    """Raises ConfigRefused for issues, if there are any."""
    found = list(islice(issues, _MAX_ISSUES))
    if found:
        raise ConfigRefused(found)


def _value(content: Content) -> object:
    try:
        return content.value() if content.exists else {}
    except Unreadable:
        return {}


def _references(value: object, shown: object, path: KeyPath) -> Iterator[tuple[KeyPath, str, str]]:
    """Content that only the file itself may have: path, text and reason.

    These are includes, secrets read from files, and visible strings that name variables. Elements
    of lists have the path with `*`, as they may move.
    """
    if isinstance(value, dict) and value.get("source") in _READS:
        yield starred(path), canonical(value), _READ
    elif isinstance(value, str) and names_variable(value) and shown == value:
        yield starred(path), value, _SHOWN
    for key, item in members(value):
        below = (*path, key)
        if key == INCLUDE:
            yield starred(below), canonical(item), _INCLUDE
        else:
            yield from _references(item, value_at(shown, (key,)), below)


def _moved(before: object, after: object) -> Iterator[KeyPath]:
    """The paths of changed servers or proxies that would get existing credentials."""
    providers = value_at(after, _PROVIDERS)
    for name in providers if isinstance(providers, dict) else ():
        path = (*_PROVIDERS, name)
        old, new = value_at(before, path), value_at(after, path)
        old, new = old if isinstance(old, dict) else {}, new if isinstance(new, dict) else {}
        kept = bool(_credentials(before, name) & _credentials(after, name))
        # A built-in provider may have its key from the environment.
        built_in = BUILT_IN.get(name)
        kept = kept or (built_in is not None and bool(built_in.variables) and not new.get("apiKey"))
        usual = "" if built_in is None else built_in.base_url
        was, now = _server(old.get("baseUrl", usual)), _server(new.get("baseUrl", usual))
        if kept and was != now:
            yield (*path, "baseUrl")
        # A proxy for https sees only the destination.
        elif kept and now[0] != "https" and old.get("proxy") != new.get("proxy"):
            yield (*path, "proxy")


def _credentials(value: object, provider: str) -> set[str]:
    """The hidden values in the calls of a provider: key, headers and parameters."""
    models = value_at(value, ("agents", "defaults", "models"))
    names = models if isinstance(models, dict) else {}
    places = [("agents", "defaults", "models", name) for name in names]
    own = [place for place in places if str(place[-1]).startswith(f"{provider}/")]
    shown, found = redacted_value(value), set[str]()
    for place in ((*_PROVIDERS, provider), *own):
        found.update(_hidden_parts(value_at(value, place), value_at(shown, place)))
    return found


def _hidden_parts(value: object, shown: object) -> Iterator[str]:
    match value:
        case {"source": str()}:
            yield canonical(value)
        case str() | int() | float() if shown != value:
            yield canonical(value)
        case _:
            for key, item in members(value):
                if key not in ("baseUrl", "proxy"):
                    yield from _hidden_parts(item, value_at(shown, (key,)))


def _steering_variables(value: object) -> dict[KeyPath, object]:
    """The variables of the `env` block besides credentials, such as proxies and search paths."""
    found: dict[KeyPath, object] = {}
    for path in (("env",), ("env", "vars")):
        block = value_at(value, path)
        for name, text in block.items() if isinstance(block, dict) else ():
            if str(name).upper().rpartition("_")[2] not in _CREDENTIAL_NAMES and text != {}:
                found[(*path, name)] = text
    found.pop(("env", "vars"), None)
    return found


def _server(url: object) -> tuple[str, str]:
    try:
        parts = urlsplit(url if isinstance(url, str) else "")
    except ValueError:
        return "", str(url)
    return parts.scheme.lower(), parts.netloc.lower()
