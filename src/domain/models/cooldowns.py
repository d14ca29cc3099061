"""The order of candidate models: one that failed recently comes after its fallbacks."""

from __future__ import annotations

import hashlib
from collections import OrderedDict
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from ..errors import FailureKind, ModelFailed
from .calls import ModelTarget

_KEPT = 1_000
_MINUTE = 60.0
_HOUR = 3_600.0
# OpenClaw's steps: 1, 5, 25 and at most 60 minutes; without credit 5 h, doubling up to 24 h.
_BLAMELESS = frozenset({FailureKind.BAD_REQUEST, FailureKind.CONTEXT_TOO_LONG})


@dataclass(slots=True)
class _Cooldown:
    failures: int = 0
    until: float = 0.0


class Cooldowns:
    """Records failures per provider, model and credential. `now`: monotonic clock in seconds.

    A cooldown never excludes a candidate: if all are cooling down, all are tried in their order.
    """

    def __init__(self, now: Callable[[], float]) -> None:
        self._now = now
        self._cooling: OrderedDict[tuple[str, ...], _Cooldown] = OrderedDict()

    def order(self, targets: Sequence[ModelTarget]) -> list[ModelTarget]:
        """The targets in the order to try them."""
        if not self._cooling:
            return list(targets)
        now = self._now()
        return sorted(targets, key=lambda target: self._until(target) > now)

    def failed(self, target: ModelTarget, failure: ModelFailed) -> None:
        """Start or extend the target's cooldown, unless the request caused the failure."""
        if failure.kind in _BLAMELESS:
            return
        cooldown = self._cooling.setdefault(_key(target), _Cooldown())
        self._cooling.move_to_end(_key(target))
        now = self._now()
        if now >= cooldown.until:
            # Concurrent failures count as one.
            cooldown.failures += 1
        cooldown.until = max(cooldown.until, now + _duration(failure, cooldown.failures))
        while len(self._cooling) > _KEPT:
            self._cooling.popitem(last=False)

    def succeeded(self, target: ModelTarget) -> None:
        """End the target's cooldown and reset its failures."""
        if self._cooling:
            self._cooling.pop(_key(target), None)

    def _until(self, target: ModelTarget) -> float:
        cooldown = self._cooling.get(_key(target))
        return cooldown.until if cooldown is not None else 0.0


def _duration(failure: ModelFailed, failures: int) -> float:
    if failure.kind is FailureKind.BILLING:
        return min(5 * _HOUR * 2.0 ** min(failures - 1, 8), 24 * _HOUR)
    if failure.retry_after is not None:
        return min(failure.retry_after, _HOUR)
    return min(_MINUTE * 5.0 ** min(failures - 1, 8), _HOUR)


def _key(target: ModelTarget) -> tuple[str, ...]:
    credential = target.provider.api_key
    revealed = b"" if credential is None else credential.reveal().encode("utf-8", "surrogatepass")
    digest = hashlib.sha256(revealed).hexdigest()
    return (target.provider.id, target.provider.base_url, target.model, digest)
