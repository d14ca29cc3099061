"""Rewriting any JSON5 text: it says what it should, and the comments around it are still there."""

from __future__ import annotations

import json
import re
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from opensoul.adapters.config.edit.patching import effective, merged
from opensoul.adapters.config.edit.placeholders import hidden_text, placeholders, restored_text
from opensoul.adapters.config.edit.rewriting import rewritten
from opensoul.adapters.config.read import same
from opensoul.adapters.config.read.documents import parse

KEYS = st.sampled_from(["a", "b", "id", "x-y", "token", "headers"])
SCALARS = st.one_of(
    st.none(), st.booleans(), st.integers(-9, 9), st.sampled_from(["", "it's", 'a "b"\\', "\u2028"])
)
VALUES = st.recursive(
    SCALARS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(KEYS, inner, max_size=3),
    max_leaves=12,
)
OBJECTS = st.dictionaries(KEYS, VALUES, max_size=4)
GAPS = st.sampled_from(
    ["", " ", "\n", "\n\n  ", " // c\n", "/* c */", "\n  // c\n  ", " /* c\n */ "]
)


@st.composite
def texts(draw: st.DrawFn, value: Any) -> str:
    """`value` as JSON5, with any white space and comments, quotes and commas."""
    match value:
        case dict():
            pairs = [
                f"{_key(draw, key)}{draw(GAPS)}:{draw(GAPS)}{draw(texts(item))}"
                for key, item in value.items()
            ]
            return "{" + _separated(draw, pairs) + "}"
        case list():
            return "[" + _separated(draw, [draw(texts(item)) for item in value]) + "]"
        case _:
            return json.dumps(value)


def _separated(draw: st.DrawFn, parts: list[str]) -> str:
    trailing = draw(st.booleans())
    comma = "," if parts and trailing else ""
    return ",".join(f"{draw(GAPS)}{part}{draw(GAPS)}" for part in parts) + comma + draw(GAPS)


def _key(draw: st.DrawFn, key: str) -> str:
    return key if key.isalpha() and draw(st.booleans()) else f"'{key}'"


@given(st.data(), OBJECTS, OBJECTS)
def test_the_new_text_says_what_the_patch_makes_of_the_old(
    data: st.DataObject, old: dict[str, Any], patch: dict[str, Any]
) -> None:
    text = data.draw(texts(old))
    new: Any = merged(old, patch)
    result = rewritten(text, old, new)
    assert same(parse(result), new)
    assert rewritten(result, new, new) == result
    assert same(merged(old, effective(patch, old)), new)


@given(st.data(), OBJECTS, KEYS, SCALARS.filter(lambda scalar: scalar is not None))
def test_one_changed_value_changes_no_comment_outside_of_it(
    data: st.DataObject, old: dict[str, Any], key: str, value: Any
) -> None:
    held = {**old, key: "before"}
    text = data.draw(texts(held))
    result = rewritten(text, held, {**held, key: value})
    comments = re.compile(r"//[^\n]*|/\*.*?\*/", re.DOTALL)
    assert comments.findall(result) == comments.findall(text)


@given(st.data(), OBJECTS)
def test_a_text_without_its_secrets_gets_them_back(
    data: st.DataObject, value: dict[str, Any]
) -> None:
    text = data.draw(texts(value))
    hidden = hidden_text(text, value)
    assert hidden is not None
    kept = placeholders(parse(hidden), value)
    assert None not in kept.values()
    assert restored_text(hidden, kept, text) == text
