"""Digests: equal for equal values, and for nothing else."""

from __future__ import annotations

from dataclasses import dataclass, field

import pytest
from hypothesis import given
from hypothesis import strategies as st

from opensoul.domain.runs.digests import digest

VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=3),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=2), inner),
    max_leaves=6,
)


@dataclass(frozen=True)
class Point:
    x: object
    seen: int = field(default=0, compare=False)


@dataclass(frozen=True)
class Place:
    x: object


def told_apart(value: object) -> object:
    """Equal in Python to what `digest` calls equal: True is not 1 there."""
    match value:
        case bool():
            return ("bool", value)
        case list():
            return [told_apart(item) for item in value]
        case dict():
            return {key: told_apart(item) for key, item in value.items()}
        case _:
            return value


@given(VALUES, VALUES)
def test_values_share_a_digest_where_they_are_equal(one: object, other: object) -> None:
    assert (digest(one) == digest(other)) == (told_apart(one) == told_apart(other))


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (["ab", "c"], ["a", "bc"]),
        (["a", ["b"]], [["a"], "b"]),
        ("1", 1),
        ("a", b"a"),
        (None, "n"),
        ([], {}),
        ([], None),
        (True, 1),
        (Point(1), Point(2)),
        (Point(1), Place(1)),
        ({"a": {"b": 1}}, {"a": {}, "b": 1}),
        ("\ud800", "\udc00"),
    ],
)
def test_what_looks_alike_is_told_apart(one: object, other: object) -> None:
    assert digest(one) != digest(other)


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ({"a": 1, "b": 2}, {"b": 2, "a": 1}),
        (1, 1.0),
        (0.0, -0.0),
        (("a",), ["a"]),
        (Point(1, seen=1), Point(1, seen=2)),
    ],
)
def test_what_is_the_same_has_one_digest(one: object, other: object) -> None:
    assert digest(one) == digest(other)


@pytest.mark.parametrize("value", [object(), {1, 2}, Point, [object()]])
def test_what_may_look_different_in_another_process_has_none(value: object) -> None:
    with pytest.raises(TypeError, match="no canonical encoding"):
        digest(value)
