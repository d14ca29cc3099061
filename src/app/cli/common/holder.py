"""The process that holds a state directory, according to the file beside its lock."""

from __future__ import annotations

import socket
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from ....adapters.system.files import Holder


def holder_of(state_dir: Path) -> Holder | None:
    """The holder, whether or not its process is running."""
    from ....adapters.system.files import read_holder

    return read_holder(state_dir)


def lives(holder: Holder) -> bool:
    """Whether the process may be running."""
    return holder.may_be_running


def serving_address(state_dir: Path) -> str | None:
    """The address of the running Gateway of this directory; options may have changed it."""
    holder = holder_of(state_dir)
    if holder is None or not holder.address or holder.host != socket.gethostname():
        return None
    return holder.address if holder.may_be_running else None
