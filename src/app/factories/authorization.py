"""Authentication and limits: devices, keys, quotas."""

from __future__ import annotations

from ...adapters.persistence.memory import MemoryKeyCounters, MemoryLimits
from ...adapters.system.signatures import verify_signature
from ...domain.ports import (
    Clock,
    CurrentSettings,
    DeviceBook,
    KeyBook,
    KeyCounters,
    Limits,
    NodeBus,
    RunEvents,
)
from ...domain.services import Access, Devices, Keys, Quotas
from .. import plugins
from ..shared import SharedStores

_VIEW_SECONDS = 2.0
"""How old the copy of what a key has used may be, where other nodes count, too."""


def access(
    settings: CurrentSettings,
    limits: Limits,
    devices: Devices,
    keys: Keys,
    find_plugins: plugins.Find,
) -> Access:
    named = plugins.authenticators(settings().authenticators, find_plugins)
    return Access(settings=settings, limits=limits, devices=devices, keys=keys, plugins=named)


def devices(device_book: DeviceBook, clock: Clock, bus: NodeBus) -> Devices:
    return Devices(book=device_book, clock=clock, verify=verify_signature, bus=bus)


def keys(key_book: KeyBook, settings: CurrentSettings, clock: Clock, bus: NodeBus) -> Keys:
    return Keys(book=key_book, settings=settings, clock=clock, bus=bus)


def limits(monotonic: Clock, shared: SharedStores | None) -> Limits:
    return MemoryLimits(monotonic) if shared is None else shared.limits


def key_counters(monotonic: Clock, shared: SharedStores | None) -> KeyCounters:
    return MemoryKeyCounters(monotonic) if shared is None else shared.key_counters


def quotas(
    keys: Keys,
    key_book: KeyBook,
    key_counters: KeyCounters,
    run_events: RunEvents,
    settings: CurrentSettings,
    clock: Clock,
    monotonic: Clock,
    shared: SharedStores | None,
) -> Quotas:
    return Quotas(
        keys=keys,
        book=key_book,
        counters=key_counters,
        run_events=run_events,
        settings=settings,
        clock=clock,
        monotonic=monotonic,
        view_seconds=None if shared is None else _VIEW_SECONDS,
    )
