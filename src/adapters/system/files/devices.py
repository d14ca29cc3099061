"""The DeviceBook in a file of the state directory, or in memory."""

from __future__ import annotations

import asyncio
import os
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Literal

from pydantic import TypeAdapter, ValidationError

from ....domain.access.devices import DeviceState
from ....domain.errors import StoreFailed
from .drafts import draft


@dataclass(frozen=True, slots=True)
class _File:
    """The content of the file. Another shape of the records is another version."""

    version: Literal[1]
    devices: DeviceState = field(default_factory=DeviceState)


@cache
def _shape() -> TypeAdapter[_File]:
    return TypeAdapter(_File)


class MemoryDeviceBook:
    """A DeviceBook in memory."""

    def __init__(self, state: DeviceState | None = None) -> None:
        self.state = DeviceState() if state is None else state

    async def load(self) -> DeviceState:
        return self.state

    async def newer(self) -> DeviceState | None:
        return None

    async def save(self, state: DeviceState) -> bool:
        self.state = state
        return True


class DeviceFile:
    """A DeviceBook in a file of mode 0600. It contains the digests of tokens, not the tokens."""

    def __init__(self, path: Path) -> None:
        self._path = path

    async def load(self) -> DeviceState:
        return await asyncio.to_thread(self._load)

    async def newer(self) -> DeviceState | None:
        """The state directory belongs to one process."""
        return None

    async def save(self, state: DeviceState) -> bool:
        text = _shape().dump_json(_File(1, state), indent=2)
        try:
            await asyncio.to_thread(self._replace, text + b"\n")
        except OSError as error:
            reason = error.strerror or type(error).__name__
            raise StoreFailed(f"{self._path} cannot be written: {reason}") from error
        return True

    def _load(self) -> DeviceState:
        try:
            return _shape().validate_json(self._path.read_bytes()).devices
        except FileNotFoundError:
            return DeviceState()
        except OSError as error:
            reason = error.strerror or type(error).__name__
            raise StoreFailed(f"{self._path} cannot be read: {reason}") from error
        except ValidationError as error:
            found = error.errors(include_url=False, include_input=False)[0]
            place = ".".join(map(str, found["loc"])) or "the whole file"
            raise StoreFailed(
                f"{self._path} is damaged: {place}: {found['msg']}. Put back a copy of it, or "
                "move it away: then every device has to be paired again."
            ) from None

    def _replace(self, text: bytes) -> None:
        with draft(self._path, text) as name:
            os.replace(name, self._path)
        if os.name == "posix":  # Elsewhere a directory cannot be opened.
            descriptor = os.open(self._path.parent, os.O_RDONLY)
            try:
                os.fsync(descriptor)
            finally:
                os.close(descriptor)
