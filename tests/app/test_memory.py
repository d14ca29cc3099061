"""How the process handles its memory."""

from __future__ import annotations

import platform
import subprocess
import sys

import pytest

from opensoul.app.memory import give_large_blocks_back

IN_A_FRESH_PROCESS = """
import ctypes
from opensoul.app.memory import give_large_blocks_back

class Allocated(ctypes.Structure):  # struct mallinfo2 of glibc; hblkhd: bytes in mappings
    _fields_ = [(name, ctypes.c_size_t) for name in (
        "arena", "ordblks", "smblks", "hblks", "hblkhd",
        "usmblks", "fsmblks", "uordblks", "fordblks", "keepcost")]

def mapped():
    mallinfo = ctypes.CDLL(None).mallinfo2
    mallinfo.restype = Allocated
    return mallinfo().hblkhd

give_large_blocks_back()
before = mapped()
blocks = [bytearray(256 * 1024)]
small = mapped()
blocks.append(bytearray(8 * 1024 * 1024))
print(small - before, mapped() - small >= 8 * 1024 * 1024)
"""


def test_glibc_is_told_to_give_large_blocks_back_and_another_library_is_left_alone() -> None:
    assert give_large_blocks_back() is (platform.libc_ver()[0] == "glibc")


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="mappings are glibc's")
def test_a_large_block_is_a_mapping_and_what_a_tls_record_is_read_into_is_none() -> None:
    # In a grown heap, a large block may fit where another one was freed.
    command = [sys.executable, "-c", IN_A_FRESH_PROCESS]
    fresh = subprocess.run(command, capture_output=True, text=True, timeout=60, check=True)
    assert fresh.stdout.split() == ["0", "True"]
