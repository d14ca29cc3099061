"""Serialised edits of the configuration file, by the command line and by clients."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import replace
from pathlib import Path

from filelock import FileLock, Timeout

from ....domain.errors import InvalidRequest
from ....domain.ports import Clock
from ....domain.ports.configuration import (
    ConfigConflict,
    ConfigRefused,
    ConfigSnapshot,
    ConfigUnwritable,
    MakePatch,
    SharedDocument,
)
from ..locations import Locations
from ..node_keys import NODE_KEYS, without
from ..read import Inputs, Unreadable, parse
from ..secret_texts import REDACTED
from .edit_policy import check_text, refuse
from .hints import described_schema
from .machine import EditedFiles
from .patching import patched
from .placeholders import kept_secrets, restored_text
from .saving import save
from .snapshots import Content, content_of, snapshot_of

HASH_REQUIRED = "config base hash required; re-run config.get and retry"
HASH_STALE = "config changed since last load; re-run config.get and retry"
MAX_TEXT = 1_000_000
"""Characters of an edit. Comparing a larger one would take minutes of processor time."""


class ConfigEditor:
    """The ConfigFile over a real file. `lock_timeout`: seconds to wait for other programs.

    `shared`: the document of which the file is a copy; edits replace it, if it has not changed
    since they began.

    `on_machine`: edits come from a user with access to the file itself, as with the command line.
    Edits by clients are restricted (see `edit_policy` and `machine`).
    """

    def __init__(
        self,
        inputs: Inputs,
        locations: Locations,
        *,
        clock: Clock = time.time,
        lock_timeout: float = 10.0,
        on_machine: bool = False,
        shared: SharedDocument | None = None,
    ) -> None:
        # Validating a configuration must not create a token.
        self._inputs = replace(inputs, generated_token=lambda _: "made-when-the-gateway-starts")
        self._locations = locations
        self._clock = clock
        self._lock_timeout = lock_timeout
        self._on_machine = on_machine
        self._shared = shared
        self._turn = threading.Lock()

    def snapshot(self, *, reader: bool = False) -> ConfigSnapshot:
        """See ConfigFile."""
        with suppress(ConfigUnwritable):  # The copy is what this process knows.
            self._pull()
        content = content_of(self._locations)
        return snapshot_of(content, self._locations, self._inputs, reader=reader)

    def replace(self, raw: str, base_hash: str | None) -> ConfigSnapshot:
        """See ConfigFile."""
        value = _parsed(raw, "raw")
        with self._locked():
            before = content_of(self._locations)
            _check_hash(before, base_hash)
            return self._write(before, self._guarded(before, _with_secrets(raw, value, before)))

    def patch(self, raw: str, base_hash: str | None) -> ConfigSnapshot:
        """See ConfigFile."""
        value = _parsed(raw, "config.patch raw")
        if not isinstance(value, dict):
            raise InvalidRequest("config.patch raw must be an object", param="raw")
        with self._locked():
            before = content_of(self._locations)
            _check_hash(before, base_hash)
            text = patched(before, lambda _: value, self._locations, self._inputs)
            return self._write(before, self._guarded(before, text))

    def change(self, patch: Mapping[str, object] | MakePatch) -> ConfigSnapshot:
        """See ConfigFile."""
        make = patch if callable(patch) else lambda _: patch
        while True:
            with self._locked():
                before = content_of(self._locations)
                text = patched(before, make, self._locations, self._inputs)
                try:
                    return self._write(before, text)
                except ConfigConflict:
                    pass  # Another process was first: again, with what it wrote.

    def schema(self) -> Mapping[str, object]:
        """See ConfigFile."""
        return described_schema(self._clock())

    def _guarded(self, before: Content, text: str) -> str:
        """The same text. Raises ConfigRefused for what a client may not write."""
        if not self._on_machine:
            after = Content(_encoded(text), exists=True)
            check_text(before, after, str(self._locations.config_path))
        return text

    def _write(self, before: Content, text: str) -> ConfigSnapshot:
        """Validate the whole configuration with the new text, and save it if it differs."""
        after = Content(_encoded(text), exists=True)
        edited = None
        if not self._on_machine:
            edited = EditedFiles.read(before, after, self._locations, self._inputs)
            refuse(edited.changed_tools())
            refuse(edited.new_names())
        snapshot = snapshot_of(after, self._locations, self._inputs)
        if not snapshot.valid:
            raise ConfigRefused(snapshot.issues)
        if edited is not None:
            refuse(edited.new_inert_values())
        if after.data is not None and after.data != before.data:
            self._save(before, after.data)
        return snapshot

    def _save(self, before: Content, data: bytes) -> None:
        if self._shared is None:
            save(self._file, data)
        elif not self._shared.push(before.sha256 if before.exists else None, data):
            raise ConfigConflict(HASH_STALE, param="baseHash")

    def _pull(self) -> None:
        if self._shared is not None:
            self._shared.pull()

    @property
    def _file(self) -> Path:
        """The target, if the path is a link."""
        return Path(os.path.realpath(self._locations.config_path))

    @contextmanager
    def _locked(self) -> Iterator[None]:
        """One edit at a time, across threads and processes."""
        file = self._file
        try:
            file.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            lock = FileLock(
                file.with_name(f".{file.name}.lock"),
                timeout=self._lock_timeout,
                mode=0o600,
                thread_local=False,
            )
            with self._turn, lock:
                self._pull()
                yield
        except Timeout:
            message = f"{file} is locked by another program; try again"
            raise ConfigUnwritable(message) from None
        except OSError as error:
            message = f"{file} cannot be written: {error.strerror or error}"
            raise ConfigUnwritable(message) from error


def node_independent_text(locations: Locations, inputs: Inputs) -> str:
    """The text of a node's own file without the keys that are the node's; empty where it has no
    others. Raises ConfigRefused."""
    before = content_of(locations)
    try:
        if not without(before.value(), NODE_KEYS):
            return ""
    except Unreadable:
        pass  # `patched` says what is wrong.
    removals: dict[str, object] = {}
    for path in NODE_KEYS:
        inner = removals
        for key in path[:-1]:
            inner = inner.setdefault(str(key), {})  # type: ignore[assignment]
        inner[str(path[-1])] = None
    return patched(before, lambda held: _in_both(removals, held), locations, inputs)


def _in_both(patch: Mapping[str, object], held: object) -> dict[str, object]:
    """The parts of a merge patch that removes keys, for what is there. Objects that would be empty
    are removed, too."""
    kept: dict[str, object] = {}
    for key, value in patch.items():
        if isinstance(held, Mapping) and key in held:
            below = held[key]
            inner = _in_both(value, below) if isinstance(value, Mapping) else None
            emptied = isinstance(below, Mapping) and inner == dict.fromkeys(below)
            kept[key] = None if emptied else inner
    return kept


def _check_hash(before: Content, base_hash: str | None) -> None:
    if base_hash is None and before.exists:
        raise ConfigConflict(HASH_REQUIRED, param="baseHash")
    if base_hash is not None and base_hash != before.sha256:
        raise ConfigConflict(HASH_STALE, param="baseHash")


def _parsed(raw: str, name: str) -> object:
    if len(raw) > MAX_TEXT:
        raise InvalidRequest(f"{name} is longer than {MAX_TEXT} characters", param="raw")
    _encoded(raw)
    try:
        return parse(raw)
    except Unreadable as error:
        line = "" if error.line is None else f" (line {error.line})"
        raise InvalidRequest(f"{name} {error.message}{line}", param="raw") from None


def _encoded(text: str) -> bytes:
    try:
        return text.encode("utf-8")
    except UnicodeEncodeError:
        message = "the text contains a lone surrogate, which is not a character"
        raise InvalidRequest(message, param="raw") from None


def _with_secrets(raw: str, value: object, before: Content) -> str:
    """The text with placeholders replaced by the values in the file."""
    if REDACTED not in raw:
        return raw
    try:
        held_text, held = before.text or "{}", before.value()
    except Unreadable:
        held_text, held = "{}", {}
    return restored_text(raw, kept_secrets(value, held, "raw"), held_text)
