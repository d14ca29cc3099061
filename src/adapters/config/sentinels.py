"""Secrets leave as a placeholder, and come back from it: in texts, and in values."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence

import pyjson5

from .issues import KeyPath
from .redaction import hides_keys, redacted_value
from .secret_texts import REDACTED, masked
from .spans import Span, exchanged, spans

_WORTH_SEEKING = 6
"""Shorter secrets are not looked for in comments, where they would be found in other words."""
_MAX_SEEKING = 20_000_000
"""Characters of comments times secrets. Beyond that comments are hidden as a whole."""

_Hide = Callable[[str], str]
Kept = Mapping[KeyPath, KeyPath | None]
"""For each place of a placeholder, the place of what it stands for; None where there is none."""


def hidden_text(text: str, value: object, *, reader: bool = False) -> str | None:
    """A file's text, whose value is `value`, with placeholders for its secrets.

    A reader gets no comments, and no text where its keys are hidden.
    """
    if reader and hides_keys(value):
        return None
    found = list(spans(text))
    hide = _without_words if reader else _comment_hider(found, _secrets(value))
    return exchanged(text, _hidden_spans(found, redacted_value(value, reader=reader), hide))


def placeholders(given: object, held: object) -> Kept:
    """The placeholders in `given`, and where in `held` that is what each was made from.

    Elements of lists correspond by their `id`, others where all that is shown of them is the same:
    a secret never comes back beside an address that it was not written for.
    """
    views = (redacted_value(held), redacted_value(held, reader=True))
    return dict(_placeholders(given, held, views, (), ()))


def restored_text(text: str, given: Kept, held: str) -> str:
    """`text` with what `held` has written, where placeholders are kept."""
    sources = list(spans(held))
    written = {span.path: span.text for span in sources if span.path is not None}
    news = list(spans(text))
    return exchanged(text, _restored_spans(news, given, written, _comments(news, sources, held)))


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


_Views = Sequence[object]
"""What is held, as it is shown to the one and to the other."""


def _placeholders(
    given: object, held: object, views: _Views, path: KeyPath, source: KeyPath
) -> Iterator[tuple[KeyPath, KeyPath | None]]:
    match given:
        case dict():
            for key, item in given.items():
                below = (value_at(held, (key,)), _below(views, key))
                yield from _placeholders(item, *below, (*path, key), (*source, key))
        case list():
            partners = _partners(given, held, views)
            for i, (item, j) in enumerate(zip(given, partners, strict=True)):
                below = (None, ()) if j is None else (value_at(held, (j,)), _below(views, j))
                yield from _placeholders(item, *below, (*path, i), (*source, i if j is None else j))
        case str() if REDACTED in given:
            known = isinstance(held, str | int | float) and given in views
            yield path, source if known else None


def _below(views: _Views, key: str | int) -> _Views:
    return [value_at(view, (key,)) for view in views]


def _partners(given: list[object], held: object, views: _Views) -> list[int | None]:
    """For each element of a given list, which element of `held` it stands for."""
    if not isinstance(held, list):
        return [None] * len(given)
    names = Counter(name for item in held if (name := _id(item)) is not None)
    by_id = {name: j for j, item in enumerate(held) if names[name := _id(item) or ""] == 1}
    exact, alike = (_places(held, views, sign) for sign in (_whole, _texts))
    found: list[int | None] = []
    for i, item in enumerate(given):
        same, similar = exact.get(_text(_whole(item)), []), alike.get(_text(_texts(item)), [])
        if (name := _id(item)) is not None and names[name] < 2:
            found.append(by_id.get(name))
        elif len(same) == 1 or (i in same and len(given) == len(held)):
            found.append(same[0] if len(same) == 1 else i)
        else:
            # Where several look alike, an edited one could be any of them.
            found.append(similar[0] if len(similar) == 1 and not same else None)
    return found


def _places(
    held: list[object], views: _Views, sign: Callable[[object], object]
) -> Mapping[str, list[int]]:
    """The places of the elements that look alike, by what they look like."""
    found: dict[str, list[int]] = {}
    lists = [view for view in views if isinstance(view, list)]
    for j in range(len(held)):
        for text in {_text(sign(view[j])) for view in lists}:
            found.setdefault(text, []).append(j)
    return found


def _whole(item: object) -> object:
    return item


def _texts(item: object) -> object:
    """The texts of an element, by their places: its other values may be edited."""
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


def _text(value: object) -> str:
    return json.dumps(value, sort_keys=True)


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
    """The secrets that are looked for in comments, the longest first."""
    found = {old for old, new in _strings(value, redacted_value(value)) if new == REDACTED}
    worthy = [one for one in found if len(one) >= _WORTH_SEEKING and not one.startswith("${")]
    return sorted(worthy, key=len, reverse=True)


class _CommentHider:
    """Comments without secrets and without what looks like one."""

    def __init__(self, secrets: Sequence[str]) -> None:
        self._secrets = secrets

    def __call__(self, comment: str) -> str:
        start, words, end = _parts(comment)
        for secret in self._secrets:
            words = words.replace(secret, REDACTED)
        return f"{start}{masked(words)}{end}"


def _comment_hider(found: Sequence[Span], secrets: Sequence[str]) -> _Hide:
    size = sum(len(span.text) for span in found if span.path is None)
    return _without_words if size * len(secrets) > _MAX_SEEKING else _CommentHider(secrets)


def _without_words(comment: str) -> str:
    start, _, end = _parts(comment)
    return f"{start} {REDACTED} {end}".rstrip(" ")


def _parts(comment: str) -> tuple[str, str, str]:
    """How a comment begins, what it says, and how it ends."""
    block = comment.startswith("/*")
    return comment[:2], comment[2:-2] if block else comment[2:], comment[-2:] if block else ""


def _hidden_spans(found: Sequence[Span], shown: object, hide: _Hide) -> Iterator[tuple[Span, str]]:
    for span in found:
        if span.path is None:
            yield span, hide(span.text)
            continue
        text, is_text = value_at(shown, span.path), span.text[0] in "\"'"
        if is_text and not isinstance(text, str):
            # The key is given twice, and what counts is something else.
            text = REDACTED
        if isinstance(text, str) and not (is_text and text == pyjson5.decode(span.text)):
            yield span, _quoted(text, span.text[0] if is_text else '"')


def _comments(news: Sequence[Span], sources: Sequence[Span], held: str) -> Mapping[int, str]:
    """By its place in the new text, what a comment with placeholders was.

    Of several that look alike each is the one of its rank, if there are as many as there were.
    """
    remarks = [span.text for span in sources if span.path is None]
    hider = _comment_hider(sources, _secrets(pyjson5.decode(held)))
    found: dict[int, str] = {}
    for hide in (hider, _without_words):
        former: dict[str, list[str]] = {}
        for remark in remarks:
            former.setdefault(hide(remark), []).append(remark)
        hidden = [span for span in news if span.path is None and REDACTED in span.text]
        counts, ranks = Counter(span.text for span in hidden), Counter[str]()
        for span in hidden:
            same, rank = former.get(span.text, []), ranks[span.text]
            ranks[span.text] += 1
            if len(same) == counts[span.text] or len(set(same)) == 1:
                found.setdefault(span.start, same[min(rank, len(same) - 1)])
    return found


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
            # A text without single quotes may be meant for whoever reads JSON only.
            alike = old[0] == quote or old[0] not in "\"'"
            yield span, old if alike else _quoted(pyjson5.decode(old), quote)


def _quoted(text: str, quote: str) -> str:
    """A string as JSON5 has it in these quotes."""
    written = json.dumps(text, ensure_ascii=False)
    if quote == '"':
        return written
    return "'" + written[1:-1].replace('\\"', '"').replace("'", "\\'") + "'"
