"""What the route table holds of each method of the control protocol."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from .....domain.access import Scope


@dataclass(frozen=True, slots=True)
class Method:
    """One method of the control protocol.

    `scope`: the least that is needed, None for whoever is connected. `harder`: from the
    parameters, the scope that some calls need beyond that. `missing`: why the method has no
    meaning here; it answers UNAVAILABLE with that sentence. `empty`: the whole answer of a method
    whose list is always empty here. `role`: who may call it. `looks`: the method changes nothing
    although its scope is more than operator.read.
    """

    name: str
    scope: Scope | None
    summary: str
    harder: Callable[[Mapping[str, Any]], Scope | None] | None = None
    missing: str | None = None
    empty: object = None
    role: str = "operator"
    looks: bool = False

    @property
    def implemented(self) -> bool:
        """Whether a handler answers it."""
        return self.missing is None and self.empty is None

    @property
    def reads(self) -> bool:
        """Whether the method only reads: then properties that it does not know are ignored."""
        return self.looks or self.scope is Scope.READ
