"""The clock and the identifiers of this machine."""

from __future__ import annotations

import time

import uuid_utils

from ...domain.ports import Clock

clock: Clock = time.time


def new_id() -> str:
    """A UUID of version 7 with dashes; those of one process sort in the order they were made."""
    return str(uuid_utils.uuid7())
