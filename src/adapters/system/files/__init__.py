"""Files of the state directory: lock, token, devices and workspaces."""

from .devices import DeviceFile, MemoryDeviceBook
from .state_lock import HOLDER_FILE, Holder, StateLock, StateLocked, read_holder
from .token import TokenFile
from .workspaces import WorkspaceFiles

__all__ = [
    "HOLDER_FILE",
    "DeviceFile",
    "Holder",
    "MemoryDeviceBook",
    "StateLock",
    "StateLocked",
    "TokenFile",
    "WorkspaceFiles",
    "read_holder",
]
