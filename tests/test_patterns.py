"""Every pattern is linear in the text that it is held against, whatever that text is."""

from __future__ import annotations

import importlib
import pkgutil
import re
import time
from collections.abc import Iterator
from re import _parser  # type: ignore[attr-defined]
from typing import Any

import pytest

import opensoul

LENGTH = 50_000
SECONDS = 1.0
"""Processor time of one search. A linear one takes a few milliseconds, a quadratic one several
seconds, so that a slow machine fails nothing."""
UNITS = ("a", "1", "?", " ", "=", "a1", "a.", "-a")


def _patterns(value: object) -> Iterator[re.Pattern[Any]]:
    match value:
        case re.Pattern():
            yield value
        case tuple() | list():
            for item in value:
                yield from _patterns(item)
        case dict():
            yield from _patterns(list(value.values()))


def all_patterns() -> dict[str, re.Pattern[Any]]:
    """The patterns of all modules, by the module and the name there."""
    found: dict[str, re.Pattern[Any]] = {}
    for module in pkgutil.walk_packages(opensoul.__path__, "opensoul."):
        if module.name.endswith("__main__"):
            continue
        for name, value in vars(importlib.import_module(module.name)).items():
            for i, pattern in enumerate(_patterns(value)):
                found[f"{module.name}.{name}.{i}"] = pattern
    return found


def literals(items: Any) -> Iterator[str]:
    """The texts that a parsed pattern has written out, which a search stumbles over."""
    run = ""
    for op, argument in items:
        if str(op) == "LITERAL":
            run += chr(argument)
            continue
        yield from filter(None, (run,))
        run = ""
        for part in argument if isinstance(argument, tuple | list) else ():
            for inner in part if isinstance(part, list) else (part,):
                if isinstance(inner, _parser.SubPattern):
                    yield from literals(inner)
    yield from filter(None, (run,))


def slow(pattern: re.Pattern[Any], length: int = LENGTH, seconds: float = SECONDS) -> str | None:
    """The beginning of a text of that length that takes longer; None for a linear pattern."""
    written = list(dict.fromkeys(literals(_parser.parse(pattern.pattern, pattern.flags))))[:6]
    for unit in dict.fromkeys((*UNITS, *written, *(f"{text}a" for text in written))):
        text: Any = f"{written[0] if written else ''}{unit * (length // len(unit))}"
        if isinstance(pattern.pattern, bytes):
            text = text.encode()
        begun = time.thread_time()
        pattern.search(text)
        if time.thread_time() - begun > seconds:
            return repr(text[:30])
    return None


@pytest.mark.parametrize(
    "pattern",
    [r"([?&][^=&\s]*(?:key|token)=)[^&\s]+", r"(?=[\w.-]*\d)[\w.-]{20,}", r"\d+(\.\d+)? ?(ms|s)x"],
)
def test_a_quadratic_pattern_is_found(pattern: str) -> None:
    assert slow(re.compile(pattern), length=4_000, seconds=0.005)


def test_every_pattern_is_linear() -> None:
    patterns = all_patterns()
    assert len(patterns) > 60
    assert {name: text for name, one in patterns.items() if (text := slow(one))} == {}
