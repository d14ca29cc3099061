"""The filter for system calls, run as the kernel runs it, also for other machines than this one."""

from __future__ import annotations

import errno
import struct

import pytest

from opensoul.adapters.sandbox.seccomp import call_filter

X86, ARM = ("x86_64", 0xC000003E), ("aarch64", 0xC00000B7)
ALLOWED = 0x7FFF0000


def verdict(program: bytes, arch: int, number: int, *arguments: int) -> int:
    """What the program returns for a system call; it has to end."""
    padded = [*arguments, 0, 0, 0, 0, 0, 0][:6]
    data = struct.pack("<IIQ6Q", number, arch, 0, *padded)
    steps = list(struct.iter_unpack("=HBBI", program))
    at, value = 0, 0
    while True:
        code, yes, no, operand = steps[at]
        at += 1
        if code == 0x20:
            value = struct.unpack_from("<I", data, operand)[0]
        elif code == 0x06:
            return int(operand)
        else:
            holds = value == operand if code == 0x15 else value >= operand
            assert code in (0x15, 0x35)
            at += yes if holds else no


def refused(code: int) -> int:
    return 0x00050000 | code


@pytest.mark.parametrize(
    ("machine", "calls"),
    [
        (X86, {"read": 0, "ioctl": 16, "socket": 41, "keyctl": 250, "bpf": 321, "io_uring": 425}),
        (ARM, {"read": 63, "ioctl": 29, "socket": 198, "keyctl": 219, "bpf": 280, "io_uring": 425}),
    ],
    ids=["x86_64", "aarch64"],
)
def test_calls_that_namespaces_do_not_confine_are_refused(
    machine: tuple[str, int], calls: dict[str, int]
) -> None:
    name, arch = machine
    program = call_filter(name)

    def call(what: str, *arguments: int) -> int:
        return verdict(program, arch, calls[what], *arguments)

    assert call("read", 3) == ALLOWED
    for what in ("keyctl", "bpf", "io_uring"):
        assert call(what) == refused(errno.ENOSYS)
    assert [call("socket", family) for family in (1, 2, 10, 16)] == [ALLOWED] * 4
    assert call("socket", 40) == refused(errno.EAFNOSUPPORT)
    assert call("socket", 40 | 1 << 32) == refused(errno.EAFNOSUPPORT)
    assert call("ioctl", 0, 0x5401) == ALLOWED
    for command in (0x5412, 0x541C, 0x5412 | 1 << 32):
        assert call("ioctl", 0, command) == refused(errno.EPERM)


@pytest.mark.parametrize(
    ("machine", "arch", "number"),
    [(X86, 0x40000003, 3), (X86, X86[1], 0x40000000 | 250), (ARM, 0x40000028, 3)],
    ids=["32-bit", "x32", "32-bit ARM"],
)
def test_calls_by_other_numbers_are_refused(
    machine: tuple[str, int], arch: int, number: int
) -> None:
    assert verdict(call_filter(machine[0]), arch, number) == refused(errno.ENOSYS)


def test_there_is_no_filter_for_a_machine_whose_numbers_are_not_known() -> None:
    assert call_filter("riscv64") == b""
