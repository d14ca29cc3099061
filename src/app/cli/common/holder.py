"""Which process holds a state directory, from the note beside its lock."""

from __future__ import annotations

import json
import os
import socket
import sys
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from ....adapters.system.files import Holder


def holder_of(state_dir: Path) -> Holder | None:
    """The holder in the note, whether or not its process is running."""
    from ....adapters.system.files import HOLDER_FILE, Holder

    with suppress(OSError, ValueError):
        match json.loads((state_dir / HOLDER_FILE).read_text()):
            case {"pid": int(pid), "host": str(host), "since": str(since), "address": str(at)}:
                return Holder(pid, host, since, at)
    return None


def lives(holder: Holder) -> bool:
    """Whether the process may still be running; True for one on another machine."""
    if holder.host != socket.gethostname() or sys.platform == "win32":
        return True
    try:
        os.kill(holder.pid, 0)
    except (ProcessLookupError, OverflowError):
        return False
    except PermissionError:
        pass  # It is running, as another user.
    return True


def serving_address(state_dir: Path) -> str | None:
    """The address of the running Gateway of this directory; options may have changed it."""
    holder = holder_of(state_dir)
    if holder is None or not holder.address or holder.host != socket.gethostname():
        return None
    return holder.address if lives(holder) else None
