"""How the process handles its memory."""

from __future__ import annotations

import ctypes
import platform

import pytest

from opensoul.app.server.memory import give_large_blocks_back


def test_glibc_is_told_to_give_large_blocks_back_and_another_library_is_left_alone() -> None:
    assert give_large_blocks_back() is (platform.libc_ver()[0] == "glibc")


class _Allocated(ctypes.Structure):
    """`struct mallinfo2` of glibc; `hblkhd`: bytes in mappings of their own."""

    _fields_ = tuple(
        (name, ctypes.c_size_t)
        for name in (
            [
                "arena",
                "ordblks",
                "smblks",
                "hblks",
                "hblkhd",
                "usmblks",
                "fsmblks",
                "uordblks",
                "fordblks",
                "keepcost",
            ]
        )
    )


def mapped() -> int:
    mallinfo = ctypes.CDLL(None).mallinfo2
    mallinfo.restype = _Allocated
    return int(mallinfo().hblkhd)


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="mappings are glibc's")
def test_a_large_block_is_a_mapping_and_what_a_tls_record_is_read_into_is_none() -> None:
    give_large_blocks_back()
    before = mapped()
    blocks = [bytearray(256 * 1024)]
    assert mapped() == before
    blocks.append(bytearray(1024 * 1024))
    assert mapped() > before
