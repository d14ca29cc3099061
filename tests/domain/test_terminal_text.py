"""What is taken out of a text before a terminal shows it, and what a name may not hold."""

from __future__ import annotations

import json
import sys
from unicodedata import category

import pytest
from hypothesis import given
from hypothesis import strategies as st

from opensoul.domain.errors import InvalidRequest
from opensoul.domain.text.terminal import (
    PieceCleaner,
    check_name,
    clean,
    escape_json,
    escape_line,
    unsafe_in_name,
)

DRAWN = set(
    "\u0600\u0601\u0602\u0603\u0604\u0605\u06dd\u070f\u0890\u0891\u08e2\U000110bd\U000110cd"
)
"""Format characters that have a glyph."""
SPEAKS = (
    "👩\u200d👩\u200d👧 ❤\ufe0f\u200d🔥 क्\u200dष \u0645\u06cc\u200c\u062e\u0648\u0627\u0647\u0645"
)
"""Joiners where emoji and scripts need them."""

texts = st.text(
    st.one_of(
        st.characters(),
        st.sampled_from("\x1b\r\n\t\x9b\u202e\u200d\u200c\ufeff\ud83d\ude00\U000e0041ab\u0915👩"),
    )
)


def steers(char: str) -> bool:
    return category(char) in ("Cc", "Cf", "Cs", "Zl", "Zp") and char not in DRAWN | {"\t", "\n"}


def test_every_control_and_format_character_of_unicode_is_taken_out_and_no_other() -> None:
    everything = map(chr, range(sys.maxunicode + 1))
    wrong = [
        hex(ord(char))
        for char in everything
        # What Unicode may make a format character later is taken out already.
        if category(char) != "Cn" and (clean(char) == "") is not steers(char)
    ]
    assert wrong == []


@pytest.mark.parametrize(
    ("text", "cleaned"),
    [
        ("plain\ttext\n", "plain\ttext\n"),
        ("\x1b[31mred\x1b[0m", "[31mred[0m"),
        ("\x1b]0;title\x07x", "]0;titlex"),
        ("\x9b2J\x9d0;t\x9c", "2J0;t"),
        ("one\r\ntwo\rthree", "one\ntwothree"),
        ("ab\x08\x08cd\x7f", "abcd"),
        ("user\u202etxt.exe\u2066\u2069\u200f", "usertxt.exe"),
        ("pass\u00adword\u200b\u2060\ufeff", "password"),
        ("a\u2028b\u2029c", "abc"),
        ("x\ufff9y\ufffaz\ufffb", "xyz"),
        ("🏴\U000e0067\U000e0062\U000e007f", "🏴"),
        ("half \ud800 \udc00", "half  "),
        ("whole \ud83d\ude00", "whole 😀"),
        ("ad\u200dmin\u200c", "admin"),
        (SPEAKS, SPEAKS),
        ("".join(sorted(DRAWN)), "".join(sorted(DRAWN))),
    ],
)
def test_a_text_is_shown_without_what_steers(text: str, cleaned: str) -> None:
    assert clean(text) == cleaned


@given(texts)
def test_what_is_clean_stays_as_it_is(text: str) -> None:
    cleaned = clean(text)
    assert clean(cleaned) == cleaned
    assert not any(steers(char) for char in cleaned if char not in "\u200c\u200d")


@given(st.lists(texts))
def test_pieces_are_cleaned_as_the_whole_is(pieces: list[str]) -> None:
    cleaner = PieceCleaner()
    assert "".join(map(cleaner.clean, pieces)) == clean("".join(pieces))


@given(texts)
def test_json_with_escapes_means_the_same(text: str) -> None:
    written = escape_json(json.dumps({text: [text]}, ensure_ascii=False, indent=1))
    assert not any(steers(char) or char in "\u200c\u200d" for char in written)
    assert json.loads(written) == json.loads(json.dumps({text: [text]}))


def test_a_line_shows_what_would_steer_as_escapes() -> None:
    assert escape_line("a\x1b\n\t\x9b\u202e\U000e0041\ud800") == (
        r"a\x1b\x0a\x09\x9b\u202e\U000e0041\ud800"
    )
    assert escape_line(SPEAKS) == SPEAKS


@pytest.mark.parametrize("name", ["main", "Zoë's laptop", "会議", SPEAKS, "\u0600"])
def test_a_name_may_be_in_any_script(name: str) -> None:
    assert check_name(name, "label") == name


@pytest.mark.parametrize(
    ("name", "described"),
    [
        ("a\u202eb", "U+202E RIGHT-TO-LEFT OVERRIDE at position 2"),
        ("a\u200bb", "U+200B ZERO WIDTH SPACE at position 2"),
        ("ab\u200d", "U+200D ZERO WIDTH JOINER at position 3"),
        ("\ufeffa", "U+FEFF ZERO WIDTH NO-BREAK SPACE at position 1"),
        ("a\U000e0041", "U+E0041 TAG LATIN CAPITAL LETTER A at position 2"),
        ("a\x1b[31m", "U+001B at position 2"),
        ("a\nb", "U+000A at position 2"),
        ("a\tb", "U+0009 at position 2"),
        ("a\ud800", "U+D800 at position 2"),
        ("a\u2028", "U+2028 LINE SEPARATOR at position 2"),
    ],
)
def test_a_name_that_hides_something_is_refused_with_the_character(
    name: str, described: str
) -> None:
    with pytest.raises(InvalidRequest) as refused:
        check_name(name, "label")
    assert refused.value.message.startswith("label contains control characters, format characters")
    assert refused.value.message.endswith(described)
    assert refused.value.param == "label"
    assert unsafe_in_name(name).endswith(described)
