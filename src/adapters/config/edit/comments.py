"""Hides secrets in comments, and restores them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence

from ..read import Span, members, value_at
from ..secret_texts import REDACTED, masked
from .redaction import redacted_value

_WORTH_SEEKING = 6
"""Shorter secrets are not searched for in comments, as other words would contain them."""
_MAX_SEEKING = 20_000_000
"""Characters of comments times secrets; beyond it, comments are hidden as a whole."""

Hide = Callable[[str], str]


def _strings(value: object, hidden: object) -> Iterator[tuple[str, object]]:
    match value:
        case {"source": "env" | "file" | "exec"}:
            return  # A reference contains no secret.
        case str():
            yield value, hidden
        case _:
            for key, item in members(value):
                yield from _strings(item, value_at(hidden, (key,)))


def _secrets(value: object) -> list[str]:
    """The secrets to search for in comments, the longest first."""
    found = {old for old, new in _strings(value, redacted_value(value)) if new == REDACTED}
    worthy = [one for one in found if len(one) >= _WORTH_SEEKING and not one.startswith("${")]
    return sorted(worthy, key=len, reverse=True)


class _CommentHider:
    """Masks known secrets in a comment, and what looks like one."""

    def __init__(self, secrets: Sequence[str]) -> None:
        self._secrets = secrets

    def __call__(self, comment: str) -> str:
        start, words, end = _parts(comment)
        for secret in self._secrets:
            words = words.replace(secret, REDACTED)
        return f"{start}{masked(words)}{end}"


def hider(found: Sequence[Span], value: object) -> Hide:
    """A function that hides the secrets in comments of a text whose value is `value`."""
    secrets = _secrets(value)
    size = sum(len(span.text) for span in found if span.path is None)
    return without_words if size * len(secrets) > _MAX_SEEKING else _CommentHider(secrets)


def without_words(comment: str) -> str:
    """A comment with only a placeholder."""
    start, _, end = _parts(comment)
    return f"{start} {REDACTED} {end}".rstrip(" ")


def _parts(comment: str) -> tuple[str, str, str]:
    """The opening, the text and the closing of a comment."""
    block = comment.startswith("/*")
    return comment[:2], comment[2:-2] if block else comment[2:], comment[-2:] if block else ""


def comments_restored(
    news: Sequence[Span], sources: Sequence[Span], held: object
) -> Mapping[int, str]:
    """The original of each comment with placeholders, by its position in the new text.

    Comments that look alike are matched by their order, if their number is unchanged.
    """
    remarks = [span.text for span in sources if span.path is None]
    found: dict[int, str] = {}
    for hide in (hider(sources, held), without_words):
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
