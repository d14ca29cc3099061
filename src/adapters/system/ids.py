"""The clock and the identifiers of this machine."""

from __future__ import annotations

import time

import uuid_utils

from ...domain.ports import Clock

clock: Clock = time.time


def new_id() -> str:
    """A UUID version 7 with dashes. The ids of one process sort in creation order."""
    return str(uuid_utils.uuid7())
