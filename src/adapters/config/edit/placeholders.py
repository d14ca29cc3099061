"""Replaces secrets by a placeholder, and puts them back: in texts, and in values."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence

import pyjson5

from ....domain.ports.configuration import ConfigIssue, ConfigRefused
from ..errors import KeyPath, dotted
from ..read import Span, canonical, replace_spans, spans, value_at
from ..secret_texts import REDACTED
from .comments import Hide, comments_restored, hider, without_words
from .redaction import hides_keys, redacted_value

_NOTHING_HELD = "contains the placeholder of a secret, but there is no secret there"

Views = Sequence[object]
"""The held value as administrators and as readers see it."""

Kept = Mapping[KeyPath, KeyPath | None]
"""For each placeholder, the path of the secret that it replaces, or None."""


def hidden_text(text: str, value: object, *, reader: bool = False) -> str | None:
    """A file's text, whose value is `value`, with placeholders for its secrets.

    A reader gets no comments, and no text at all if keys are hidden.
    """
    if reader and hides_keys(value):
        return None
    found = list(spans(text))
    hide = without_words if reader else hider(found, value)
    return replace_spans(text, _hidden_spans(found, redacted_value(value, reader=reader), hide))


def placeholders(edited: object, held: object) -> Kept:
    """The placeholders in `edited`, with the paths of their secrets in `held`.

    Elements of lists correspond by their `id`, or if their visible parts are equal: a secret is
    never restored next to another address than its own.
    """
    views = (redacted_value(held), redacted_value(held, reader=True))
    return dict(_placeholders(edited, held, views, (), ()))


def kept_secrets(edited: object, held: object, file: str) -> Kept:
    """The same. Raises ConfigRefused for placeholders without a secret."""
    kept = placeholders(edited, held)
    missing = [path for path, source in kept.items() if source is None]
    if missing:
        raise ConfigRefused([ConfigIssue(dotted(path), _NOTHING_HELD, file) for path in missing])
    return kept


def restored_text(text: str, edited: Kept, held: str) -> str:
    """`text` with placeholders replaced by the spelling in `held`."""
    sources = list(spans(held))
    written = {span.path: span.text for span in sources if span.path is not None}
    news = list(spans(text))
    comments = comments_restored(news, sources, pyjson5.decode(held))
    return replace_spans(text, _restored_spans(news, edited, written, comments))


def restored_value(edited: object, kept: Kept, held: object, path: KeyPath = ()) -> object:
    """`edited` with placeholders replaced by the values in `held`."""
    source = kept.get(path)
    if source is not None:
        return value_at(held, source)
    match edited:
        case dict():
            return {
                key: restored_value(item, kept, held, (*path, key)) for key, item in edited.items()
            }
        case list():
            return [restored_value(item, kept, held, (*path, i)) for i, item in enumerate(edited)]
        case _:
            return edited


def _placeholders(
    edited: object, held: object, views: Views, path: KeyPath, source: KeyPath
) -> Iterator[tuple[KeyPath, KeyPath | None]]:
    match edited:
        case dict():
            for key, item in edited.items():
                below = (value_at(held, (key,)), _below(views, key))
                yield from _placeholders(item, *below, (*path, key), (*source, key))
        case list():
            for i, (item, j) in enumerate(zip(edited, _partners(edited, held, views), strict=True)):
                below = (None, ()) if j is None else (value_at(held, (j,)), _below(views, j))
                yield from _placeholders(item, *below, (*path, i), (*source, i if j is None else j))
        case str() if REDACTED in edited:
            known = isinstance(held, str | int | float) and edited in views
            yield path, source if known else None


def _below(views: Views, key: str | int) -> Views:
    return [value_at(view, (key,)) for view in views]


def _hidden_spans(found: Sequence[Span], shown: object, hide: Hide) -> Iterator[tuple[Span, str]]:
    for span in found:
        if span.path is None:
            yield span, hide(span.text)
            continue
        text, is_text = value_at(shown, span.path), span.text[0] in "\"'"
        if is_text and not isinstance(text, str):
            # The key occurs twice, and what counts is something else.
            text = REDACTED
        if isinstance(text, str) and not (is_text and text == pyjson5.decode(span.text)):
            yield span, _quoted(text, span.text[0] if is_text else '"')


def _restored_spans(
    news: Sequence[Span], kept: Kept, written: Mapping[KeyPath, str], comments: Mapping[int, str]
) -> Iterator[tuple[Span, str]]:
    for span in news:
        if REDACTED not in span.text:
            continue
        if span.path is None:
            yield span, comments.get(span.start, span.text)
        elif (source := kept.get(span.path)) is not None and source in written:
            old, quote = written[source], span.text[0]
            # A text without single quotes may have to stay plain JSON.
            alike = old[0] == quote or old[0] not in "\"'"
            yield span, old if alike else _quoted(pyjson5.decode(old), quote)


def _quoted(text: str, quote: str) -> str:
    """A JSON5 string in these quotes."""
    written = json.dumps(text, ensure_ascii=False)
    if quote == '"':
        return written
    return "'" + written[1:-1].replace('\\"', '"').replace("'", "\\'") + "'"


def _partners(edited: list[object], held: object, views: Views) -> list[int | None]:
    """For each element of an edited list, the position of its counterpart in `held`."""
    if not isinstance(held, list):
        return [None] * len(edited)
    ids = [_id(item) for item in held]
    names = Counter(name for name in ids if name is not None)
    by_id = {name: j for j, name in enumerate(ids) if name is not None and names[name] == 1}
    exact, alike = _places(held, views, lambda item: item), _places(held, views, _texts)
    found: list[int | None] = []
    for i, item in enumerate(edited):
        same = exact.get(canonical(item), [])
        similar = alike.get(canonical(_texts(item)), [])
        if (name := _id(item)) is not None and names[name] < 2:
            found.append(by_id.get(name))
        elif len(same) == 1 or (i in same and len(edited) == len(held)):
            found.append(same[0] if len(same) == 1 else i)
        else:
            # If several look alike, an edited one could be any of them.
            found.append(similar[0] if len(similar) == 1 and not same else None)
    return found


def _places(
    held: list[object], views: Views, sign: Callable[[object], object]
) -> Mapping[str, list[int]]:
    """The positions of elements by their signature."""
    found: dict[str, list[int]] = {}
    lists = [view for view in views if isinstance(view, list)]
    for j in range(len(held)):
        for text in {canonical(sign(view[j])) for view in lists}:
            found.setdefault(text, []).append(j)
    return found


def _texts(item: object) -> object:
    """The strings in an element, by their places: its other values may be edited."""
    match item:
        case dict():
            return {
                str(key): text for key, one in item.items() if (text := _texts(one)) is not None
            }
        case list():
            return [_texts(one) for one in item]
        case str():
            return item
        case _:
            return None


def _id(item: object) -> str | None:
    """The id, unless it is a placeholder."""
    found = item.get("id") if isinstance(item, dict) else None
    return found if isinstance(found, str) and REDACTED not in found else None
