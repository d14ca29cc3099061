"""How the process handles its memory."""

from __future__ import annotations

import platform
import subprocess
import sys

import pytest

from opensoul.app.memory import give_large_blocks_back


def test_glibc_is_told_to_give_large_blocks_back_and_another_library_is_left_alone() -> None:
    assert give_large_blocks_back() is (platform.libc_ver()[0] == "glibc")


LARGE = """
import ctypes
from opensoul.app.memory import give_large_blocks_back

class Allocated(ctypes.Structure):
    # `struct mallinfo2` of glibc; `hblkhd`: bytes in mappings of their own.
    _fields_ = [
        (name, ctypes.c_size_t)
        for name in "arena ordblks smblks hblks hblkhd usmblks fsmblks uordblks fordblks".split()
    ] + [("keepcost", ctypes.c_size_t)]

mallinfo = ctypes.CDLL(None).mallinfo2
mallinfo.restype = Allocated
give_large_blocks_back()
sizes = [mallinfo().hblkhd]
blocks = []
for size in (256 * 1024, 1024 * 1024):
    blocks.append(bytearray(size))
    sizes.append(mallinfo().hblkhd)
print(*(after - before for before, after in zip(sizes, sizes[1:])))
"""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="mappings are glibc's")
def test_a_large_block_is_a_mapping_and_what_a_tls_record_is_read_into_is_none() -> None:
    """In a process without free blocks, from which a large one would be taken."""
    found = subprocess.run(
        [sys.executable, "-c", LARGE], capture_output=True, text=True, check=True
    ).stdout.split()
    small, large = map(int, found)
    assert small == 0
    assert large >= 1024 * 1024
