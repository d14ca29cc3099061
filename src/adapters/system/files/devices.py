"""The book of devices in a file of the state directory, or in memory."""

from __future__ import annotations

import asyncio
import os
import tempfile
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from pydantic import TypeAdapter, ValidationError

from ....domain.access.devices import DeviceState
from ....domain.errors import StoreFailed


@dataclass(frozen=True, slots=True)
class _File:
    """What is in the file. Another shape of the records is another version."""

    version: Literal[1]
    devices: DeviceState = field(default_factory=DeviceState)


class MemoryDeviceBook:
    """A DeviceBook that is gone with the process."""

    def __init__(self, state: DeviceState | None = None) -> None:
        self.state = DeviceState() if state is None else state

    async def load(self) -> DeviceState:
        return self.state

    async def save(self, state: DeviceState) -> None:
        self.state = state


class DeviceFile:
    """A DeviceBook in a file of mode 0600. Of tokens it holds digests only."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._shape = TypeAdapter(_File)

    async def load(self) -> DeviceState:
        return await asyncio.to_thread(self._load)

    async def save(self, state: DeviceState) -> None:
        text = self._shape.dump_json(_File(1, state), indent=2)
        try:
            await asyncio.to_thread(self._replace, text + b"\n")
        except OSError as error:
            reason = error.strerror or type(error).__name__
            raise StoreFailed(f"{self._path} cannot be written: {reason}") from error

    def _load(self) -> DeviceState:
        try:
            return self._shape.validate_json(self._path.read_bytes()).devices
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
        directory = self._path.parent
        directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        # Private from its first moment; what is there stays whole until the new one is.
        descriptor, name = tempfile.mkstemp(prefix=f".{self._path.name}-", dir=directory)
        try:
            with open(descriptor, "wb") as file:
                file.write(text)
                file.flush()
                os.fsync(descriptor)
            os.replace(name, self._path)
        except BaseException:
            Path(name).unlink(missing_ok=True)
            raise
        _sync_directory(directory)


def _sync_directory(directory: Path) -> None:
    if os.name != "posix":
        return  # Elsewhere a directory cannot be opened, and a replaced file is durable itself.
    descriptor = os.open(directory, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
