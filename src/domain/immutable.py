"""Dataclasses that the type checker keeps immutable.

The `__init__` of a frozen dataclass calls `object.__setattr__` for each field, which takes about
six times as long as an assignment. Classes that are made for every Run or every token use
`immutable` in the place of `dataclass`: to the type checker it is the same function, and at run
time nothing enforces `frozen`. Equality and hashes are those of frozen dataclasses.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from dataclasses import dataclass as immutable
else:
    from dataclasses import dataclass

    def immutable(**options):
        """A dataclass; `options` are those of `dataclasses.dataclass`."""
        frozen = options.pop("frozen")
        return dataclass(**options, unsafe_hash=frozen and options.get("eq", True))


__all__ = ["immutable"]
