"""Parts that need each other."""

from __future__ import annotations

from typing import Generic, TypeVar

T = TypeVar("T")


class Late(Generic[T]):
    """A part that is made after the parts that call it: tools of a run reach the Gateway, which
    needs the executor, which needs the tools."""

    def __init__(self) -> None:
        self._part: T | None = None

    def bind(self, part: T) -> None:
        self._part = part

    def __call__(self) -> T:
        """Raises RuntimeError before the part is made."""
        if self._part is None:
            raise RuntimeError("This part of the Gateway is not made yet.")
        return self._part
