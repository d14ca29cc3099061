"""The models of one configuration generation, and which of them sessions may select."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from types import MappingProxyType

from ..errors import InvalidRequest
from .calls import ModelTarget


class ModelDirectory:
    """Every configured model by its `provider/model`.

    `aliases`: references by short names in lower case. `selectable`: the references that a session
    may select; empty: all of them.
    """

    def __init__(
        self,
        targets: Iterable[ModelTarget] = (),
        *,
        aliases: Mapping[str, str] = MappingProxyType({}),
        selectable: Iterable[str] = (),
    ) -> None:
        self._targets = {target.ref: target for target in targets}
        self._aliases = dict(aliases)
        self._selectable = frozenset(selectable)

    def __iter__(self) -> Iterator[ModelTarget]:
        """By provider, then by name."""
        return iter(sorted(self._targets.values(), key=lambda t: (t.provider.id, t.model)))

    def __len__(self) -> int:
        return len(self._targets)

    @property
    def selectable(self) -> tuple[ModelTarget, ...]:
        """Those that a session may select, in the same order."""
        if not self._selectable:
            return tuple(self)
        return tuple(target for target in self if target.ref in self._selectable)

    def get(self, ref: str) -> ModelTarget | None:
        return self._targets.get(ref)

    def choose(self, name: str, *, param: str = "model") -> ModelTarget:
        """The model selected by reference or alias. Raises InvalidRequest, which names `param`."""
        ref = self._aliases.get(name.strip().lower(), name.strip())
        target = self._targets.get(ref)
        if target is None or (self._selectable and ref not in self._selectable):
            raise InvalidRequest(f"model not allowed: {ref}", param=param)
        return target
