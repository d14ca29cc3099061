"""Which fields of a body go to the provider, which must be neutral, and which are unknown."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from .....domain.errors import Unsupported
from ...http.json_text import dumps
from .fields import Ignored, integral

_INTEGERS = ("max_tokens", "max_completion_tokens", "max_output_tokens", "seed")
_EMPTY: tuple[object, ...] = (None, [], {})
"""Values of any parameter that ask for nothing; some providers refuse them."""


@dataclass(frozen=True, slots=True)
class Parameters:
    """The parameters of a format, by their names.

    `passed_on` reach the provider as they came. `neutral` are known but not honoured: null and the
    values listed ask for nothing; any other value is refused. `own` are read by the transport.
    """

    passed_on: frozenset[str]
    neutral: Mapping[str, tuple[object, ...]]
    own: frozenset[str]

    def read(self, body: Mapping[str, Any], ignored: Ignored) -> dict[str, object]:
        """The model parameters of a body whose types are right. Raises Unsupported."""
        for name, neutral in self.neutral.items():
            if name in body:
                _require_neutral(name, body[name], neutral)
        ignored.note(body, self.own | self.passed_on | self.neutral.keys())
        passed_on = self.passed_on
        params = {k: v for k, v in body.items() if k in passed_on and v not in _EMPTY}
        for name in _INTEGERS:
            if name in params:
                params[name] = integral(params[name])
        return params


def _require_neutral(name: str, value: object, neutral: tuple[object, ...]) -> None:
    # With the type: to Python 1 and true are equal.
    value = integral(value)
    if value is None or any(type(value) is type(v) and value == v for v in neutral):
        return
    allowed = " or ".join(["null", *(dumps(v).decode() for v in neutral)])
    raise Unsupported(
        f"`{name}` is not supported by this Gateway. Leave it out, or send {allowed}.", param=name
    )
