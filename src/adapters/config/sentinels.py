"""Secrets leave as a placeholder, and come back from it: in texts, and in values."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping

import pyjson5

from .issues import KeyPath
from .redaction import REDACTED, redacted_value
from .spans import Span, exchanged, spans

_WORTH_SEEKING = 6
"""Shorter secrets are not looked for in comments, where they would be found in other words."""
_ASSIGNED = re.compile(
    r"""((?:token|password|passwd|pwd|passphrase|secret|(?:api|private|access)[_-]?key|authorization"""
    r"""|cookie|credential)s?["']?\s*[:=]\s*)"""
    r"""("[^"\n]*"|'[^'\n]*')""",
    re.IGNORECASE,
)
_KEY_LIKE = re.compile(r"(?=[\w+=.-]*\d)(?=[\w+=.-]*[A-Za-z])[\w+=.-]{20,}")

Kept = Mapping[KeyPath, KeyPath | None]
"""For each place of a placeholder, the place of what it stands for; None where there is none."""


def hidden_text(text: str, value: object) -> str:
    """A file's text, whose value is `value`, with placeholders for its secrets."""
    return exchanged(text, _hidden_spans(text, redacted_value(value), _secrets(value)))


def placeholders(given: object, held: object) -> Kept:
    """The placeholders in `given`, and where in `held` that is what each was made from.

    Elements of lists that have an `id` correspond by it, others by their position.
    """
    return dict(_placeholders(given, held, redacted_value(held), (), ()))


def restored_text(text: str, given: Kept, held: str) -> str:
    """`text` with what `held` has written, where placeholders are kept."""
    sources, secrets = list(spans(held)), _secrets(pyjson5.decode(held))
    written = {span.path: span.text for span in sources if span.path is not None}
    remarks = [span.text for span in sources if span.path is None]
    comments = {_hidden_comment(remark, secrets): remark for remark in remarks}
    return exchanged(text, _restored_spans(text, given, written, comments))


def restored_value(given: object, kept: Kept, held: object, path: KeyPath = ()) -> object:
    """`given` with what `held` has, where placeholders are kept."""
    source = kept.get(path)
    if source is not None:
        return value_at(held, source)
    match given:
        case dict():
            return {
                key: restored_value(item, kept, held, (*path, key)) for key, item in given.items()
            }
        case list():
            return [restored_value(item, kept, held, (*path, i)) for i, item in enumerate(given)]
        case _:
            return given


def value_at(value: object, path: KeyPath) -> object:
    """What is at `path`; None where nothing is."""
    for key in path:
        match value:
            case dict():
                value = value.get(key)
            case list() if isinstance(key, int) and key < len(value):
                value = value[key]
            case _:
                return None
    return value


def _placeholders(
    given: object, held: object, hidden: object, path: KeyPath, source: KeyPath
) -> Iterator[tuple[KeyPath, KeyPath | None]]:
    match given:
        case dict():
            for key, item in given.items():
                below = (value_at(held, (key,)), value_at(hidden, (key,)))
                yield from _placeholders(item, *below, (*path, key), (*source, key))
        case list():
            for i, item in enumerate(given):
                j = _partner(i, item, held)
                below = (
                    (None, None) if j is None else (value_at(held, (j,)), value_at(hidden, (j,)))
                )
                yield from _placeholders(item, *below, (*path, i), (*source, i if j is None else j))
        case str() if REDACTED in given:
            yield path, source if isinstance(held, str) and hidden == given else None


def _partner(i: int, item: object, held: object) -> int | None:
    """Which element of `held` an element of a given list stands for."""
    if not isinstance(held, list):
        return None
    wanted = _id(item)
    if i < len(held) and wanted in (None, _id(held[i])):
        return i
    others = enumerate(held) if wanted is not None else ()
    return next((j for j, other in others if _id(other) == wanted), None)


def _id(item: object) -> str | None:
    """The id, unless it is a secret itself."""
    found = item.get("id") if isinstance(item, dict) else None
    return found if isinstance(found, str) and REDACTED not in found else None


def _strings(value: object, hidden: object) -> Iterator[tuple[str, object]]:
    match value:
        case {"source": "env" | "file" | "exec"}:
            return  # It says where a secret is, and holds none.
        case dict():
            for key, item in value.items():
                yield from _strings(item, value_at(hidden, (key,)))
        case list():
            for i, item in enumerate(value):
                yield from _strings(item, value_at(hidden, (i,)))
        case str():
            yield value, hidden


def _secrets(value: object) -> list[str]:
    return [old for old, new in _strings(value, redacted_value(value)) if new == REDACTED]


def _hidden_spans(text: str, hidden: object, secrets: list[str]) -> Iterator[tuple[Span, str]]:
    for span in spans(text):
        if span.path is None:
            yield span, _hidden_comment(span.text, secrets)
            continue
        shown = value_at(hidden, span.path)
        if not isinstance(shown, str):
            # The key is given twice, and what counts is something else.
            shown = REDACTED
        if shown != pyjson5.decode(span.text):
            yield span, _quoted(shown, span.text[0])


def _hidden_comment(comment: str, secrets: list[str]) -> str:
    """Without secrets, with what is assigned to their names, and with what looks like a key."""
    for secret in sorted(secrets, key=len, reverse=True):
        if len(secret) >= _WORTH_SEEKING and not secret.startswith("${"):
            comment = comment.replace(secret, REDACTED)
    comment = _ASSIGNED.sub(rf'\g<1>"{REDACTED}"', comment)
    comment = _KEY_LIKE.sub(REDACTED, comment)
    shown = redacted_value(comment)
    return shown if isinstance(shown, str) else REDACTED


def _restored_spans(
    text: str, kept: Kept, written: Mapping[KeyPath, str], comments: Mapping[str, str]
) -> Iterator[tuple[Span, str]]:
    for span in spans(text):
        if REDACTED not in span.text:
            continue
        if span.path is None:
            yield span, comments.get(span.text, span.text)
        elif (source := kept.get(span.path)) is not None and source in written:
            old, quote = written[source], span.text[0]
            # A text without single quotes may be meant for whoever reads JSON only.
            yield span, old if old[0] == quote else _quoted(pyjson5.decode(old), quote)


def _quoted(text: str, quote: str) -> str:
    """A string as JSON5 has it in these quotes."""
    written = json.dumps(text, ensure_ascii=False)
    if quote == '"':
        return written
    return "'" + written[1:-1].replace('\\"', '"').replace("'", "\\'") + "'"
