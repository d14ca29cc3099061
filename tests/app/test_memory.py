"""How the process handles its memory."""

from __future__ import annotations

import platform

from opensoul.app.server.memory import give_large_blocks_back


def test_glibc_is_told_to_give_large_blocks_back_and_another_library_is_left_alone() -> None:
    assert give_large_blocks_back() is (platform.libc_ver()[0] == "glibc")
