"""Reloads the settings when configuration files change."""

from __future__ import annotations

import asyncio
import math
import os
import time
from collections.abc import AsyncGenerator, Callable, Iterable
from contextlib import aclosing
from dataclasses import dataclass, replace

from watchfiles import Change, awatch

from ...domain.concurrency import ThisTurn
from ...domain.settings import AuthMode, Settings
from .build import is_loopback
from .changes import (
    Applied,
    Rejected,
    ReloadEvent,
    Skipped,
    differences,
    dotted_paths,
    needs_restart,
)
from .errors import ConfigInvalid, KeyPath, Signature
from .loading import Loaded, build, load, read
from .read import Inputs, signature_of

_TOKEN: KeyPath = ("gateway", "auth", "token")
_LOOK_ANYWAY = 5.0
"""Seconds between checks of the files when the operating system reports no change."""
_SAME_TICK = 0.1
"""Seconds within which two writes of a file may have the same time stamp."""


@dataclass(frozen=True, slots=True)
class _Doubt:
    """Invalid files that may be half written: reported once they are stable."""

    invalid: ConfigInvalid
    since: float


class ConfigSource:
    """Holds the current generation. One owner, one event loop; nothing here is thread-safe.

    A valid change is in force from the next `current()` on. An invalid one is reported to
    `on_event` once, when the files have been stable for `gateway.reload.debounceMs`. `watched`:
    other files that settings depend on, such as the generated token's.
    """

    def __init__(
        self,
        loaded: Loaded,
        inputs: Inputs,
        *,
        on_event: Callable[[ReloadEvent], None],
        watched: Iterable[os.PathLike[str] | str] = (),
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self._inputs = inputs
        self._on_event = on_event
        self._monotonic = monotonic
        self._extra = tuple(os.fspath(file) for file in watched)
        self._loaded = loaded
        self._reported = loaded
        self._doubt: _Doubt | None = None
        self._rejected = ""
        self._looked = ThisTurn()
        self._look_again = math.inf
        self._files: tuple[str, ...] = ()
        self._seen: tuple[Signature | None, ...] = ()
        self._remember({**loaded.signatures, **self._extra_signatures()})

    @classmethod
    def open(
        cls,
        inputs: Inputs,
        *,
        on_event: Callable[[ReloadEvent], None],
        watched: Iterable[os.PathLike[str] | str] = (),
    ) -> ConfigSource:
        """Load for the first time. Raises ConfigInvalid."""
        return cls(load(inputs), inputs, on_event=on_event, watched=watched)

    @property
    def loaded(self) -> Loaded:
        """The configuration in force, with the settings in force."""
        return self._loaded

    def current(self) -> Settings:
        """The settings in force. Checks the files first, with a stat for each.

        Once per turn of the event loop is enough: all requests of a turn arrived before it began,
        so that a change made before a request was sent applies to it.
        """
        if not self._looked.done:
            self.check()
            self._looked.mark()
        return self._loaded.settings

    def check(self) -> None:
        """Load the files again if one of them has changed, and report what is due."""
        now = self._monotonic()
        signatures = tuple(map(signature_of, self._files))
        if signatures != self._seen or now >= self._look_again:
            self._attempt(now, changed=signatures != self._seen)
        if self._doubt is not None and now >= self._doubt.since + self._debounce():
            invalid, self._doubt = self._doubt.invalid, None
            self._rejected = str(invalid)
            self._on_event(Rejected(invalid.issues))

    async def watch(self, stop: asyncio.Event) -> None:
        """Check the files whenever their directories change, until `stop` is set."""
        while not stop.is_set():
            plan = self._plan()
            async with aclosing(self._changes(stop)) as changes:
                while plan == self._plan() and await _next(changes, stop):
                    await self._settle(stop)
            self.check()

    def _changes(self, stop: asyncio.Event) -> AsyncGenerator[set[tuple[Change, str]]]:
        directories, quiet = self._plan()
        return awatch(
            *directories,
            watch_filter=self._concerns,
            debounce=10 * quiet,
            step=quiet,
            stop_event=stop,
            rust_timeout=int(_LOOK_ANYWAY * 1000),
            yield_on_timeout=True,
            recursive=False,
        )

    def _plan(self) -> tuple[tuple[str, ...], int]:
        """Directories to watch, as editors replace files, and the quiet time in ms."""
        parents = {os.path.dirname(file) for file in self._files}
        quiet = max(1, self._loaded.config.gateway.reload.debounce_ms)
        return tuple(sorted(filter(os.path.isdir, parents))), quiet

    def _concerns(self, _change: Change, path: str) -> bool:
        """Whether a path may be one of the files; mounted volumes swap a link `..data`."""
        name = os.path.basename(path)
        return name.startswith("..") or any(name == os.path.basename(file) for file in self._files)

    async def _settle(self, stop: asyncio.Event) -> None:
        self.check()
        while self._doubt is not None and not stop.is_set():
            due = self._doubt.since + self._debounce() - self._monotonic()
            await _pause(stop, max(due, 0.001))
            self.check()

    def _debounce(self) -> float:
        return self._loaded.config.gateway.reload.debounce_ms / 1000

    def _attempt(self, now: float, *, changed: bool) -> None:
        extra = self._extra_signatures()
        must_exist = self._loaded.exists
        locations = self._loaded.locations
        try:
            document = read(locations, self._inputs, must_exist=must_exist)
            loaded = build(document, locations, self._inputs)
        except ConfigInvalid as invalid:
            self._remember({**invalid.signatures, **extra})
            if str(invalid) == self._rejected:
                self._doubt = None
            elif self._doubt is None or changed:
                self._doubt = _Doubt(invalid, now)
            return
        self._remember({**loaded.signatures, **extra})
        self._doubt, self._rejected = None, ""
        self._adopt(loaded)

    def _adopt(self, loaded: Loaded) -> None:
        paths = differences(self._reported.config, loaded.config)
        mode = self._loaded.config.gateway.reload.mode
        if mode in ("off", "restart"):
            if paths:
                self._reported = loaded
                self._on_event(Skipped(mode, dotted_paths(paths)))
            self._refresh_secret()
            return
        old = self._loaded.settings
        if not paths and loaded.settings.auth != old.auth:
            paths = (_TOKEN,)
        self._reported = loaded
        self._apply(loaded, paths)

    def _apply(self, loaded: Loaded, paths: tuple[KeyPath, ...]) -> None:
        """Swap the generation; what was opened at the start keeps its settings."""
        old, new = self._loaded.settings, loaded.settings
        held: tuple[KeyPath, ...] = ()
        if (new.listen, new.store, new.runs) != (old.listen, old.store, old.runs):
            held = tuple(filter(needs_restart, paths))
        auth = new.auth
        if auth.mode is AuthMode.NONE and not all(map(is_loopback, old.listen.hosts)):
            # The new file binds to loopback, but the open socket is still public.
            auth = old.auth
            held = (*held, ("gateway", "auth", "mode"))
        settings = replace(new, listen=old.listen, store=old.store, runs=old.runs, auth=auth)
        self._loaded = replace(loaded, settings=settings)
        if paths:
            notes = tuple(note for note in new.notes if note not in old.notes)
            self._on_event(Applied(dotted_paths(paths), dotted_paths(held), notes))

    def _refresh_secret(self) -> None:
        """Apply a changed generated token in every mode, as it is not part of the files."""
        held = self._loaded
        try:
            auth = build(held.document, held.locations, self._inputs).settings.auth
        except ConfigInvalid:
            return
        if auth != held.settings.auth:
            self._loaded = replace(held, settings=replace(held.settings, auth=auth))
            self._on_event(Applied(dotted_paths((_TOKEN,))))

    def _extra_signatures(self) -> dict[str, Signature | None]:
        return {file: signature_of(file) for file in self._extra}

    def _remember(self, signatures: dict[str, Signature | None]) -> None:
        self._files = tuple(signatures)
        self._seen = tuple(signatures.values())
        wall = time.time()
        fresh = (s for s in self._seen if s is not None and abs(wall - s[0] / 1e9) < _SAME_TICK)
        self._look_again = self._monotonic() + _SAME_TICK if any(fresh) else math.inf


async def _next(changes: AsyncGenerator[object], stop: asyncio.Event) -> bool:
    """Wait for the next change. False when there will be none, after a pause."""
    try:
        await anext(changes)
    except (StopAsyncIteration, OSError):
        # No directory can be watched, or the system has no watches left: poll.
        await _pause(stop, 1.0)
        return False
    return True


async def _pause(stop: asyncio.Event, seconds: float) -> None:
    try:
        async with asyncio.timeout(seconds):
            await stop.wait()
    except TimeoutError:
        pass
