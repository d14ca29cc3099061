"""Dataclasses that the type checker keeps immutable."""

from __future__ import annotations

from dataclasses import dataclass, replace

from opensoul.domain.immutable import immutable


@immutable(frozen=True, slots=True)
class Point:
    x: int
    y: int = 0


@immutable(frozen=True, slots=True, eq=False)
class Token:
    name: str


def test_it_is_equal_and_hashes_like_a_frozen_dataclass() -> None:
    @dataclass(frozen=True, slots=True)
    class Frozen:
        x: int
        y: int = 0

    assert Point(1) == Point(1, 0) != Point(2)
    assert hash(Point(1, 2)) == hash(Frozen(1, 2))
    assert replace(Point(1, 2), x=3) == Point(3, 2)


def test_without_equality_it_is_compared_by_identity() -> None:
    one, other = Token("a"), Token("a")
    assert one != other
    assert len({one, other}) == 2
