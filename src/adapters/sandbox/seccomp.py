"""A filter for system calls that namespaces do not confine.

Keys of the kernel and sockets of virtual machines (AF_VSOCK) belong to no namespace, a terminal can
be made to type (TIOCSTI), and the interfaces that are refused besides are mostly known for faults
of the kernel.
"""

from __future__ import annotations

import errno
import platform
import struct
from collections.abc import Mapping
from types import MappingProxyType

_LOAD = 0x20  # BPF_LD | BPF_W | BPF_ABS
_EQUAL = 0x15  # BPF_JMP | BPF_JEQ | BPF_K
_AT_LEAST = 0x35  # BPF_JMP | BPF_JGE | BPF_K
_RETURN = 0x06  # BPF_RET | BPF_K
_ALLOW = 0x7FFF0000
_ERRNO = 0x00050000
# Offsets in `struct seccomp_data`. Of arguments, the lower half: the kernel reads no more of these.
_NUMBER, _ARCH, _FIRST, _SECOND = 0, 4, 16, 24
_X32 = 0x40000000
_FAMILIES = (1, 2, 10, 16)
"""AF_UNIX, AF_INET, AF_INET6, AF_NETLINK."""
_TERMINAL = (0x5412, 0x541C)
"""TIOCSTI, TIOCLINUX."""
_REFUSED = (
    "acct", "add_key", "bpf", "io_uring_enter", "io_uring_register", "io_uring_setup", "kexec_load",
    "keyctl", "perf_event_open", "quotactl", "request_key", "syslog", "userfaultfd",
)  # fmt: skip
_COMMON = {"io_uring_setup": 425, "io_uring_enter": 426, "io_uring_register": 427}
_MACHINES: Mapping[str, tuple[int, Mapping[str, int]]] = MappingProxyType(
    {
        "x86_64": (
            0xC000003E,
            {
                **_COMMON, "acct": 163, "add_key": 248, "bpf": 321, "ioctl": 16, "kexec_load": 246,
                "keyctl": 250, "perf_event_open": 298, "quotactl": 179, "request_key": 249,
                "socket": 41, "syslog": 103, "userfaultfd": 323,
            },
        ),
        "aarch64": (
            0xC00000B7,
            {
                **_COMMON, "acct": 89, "add_key": 217, "bpf": 280, "ioctl": 29, "kexec_load": 104,
                "keyctl": 219, "perf_event_open": 241, "quotactl": 60, "request_key": 218,
                "socket": 198, "syslog": 116, "userfaultfd": 282,
            },
        ),
    }
)  # fmt: skip


def call_filter(machine: str = platform.machine()) -> bytes:
    """The program for the kernel; empty for a machine whose numbers are not known here.

    Programs of another architecture, such as 32-bit ones, get ENOSYS for every call.
    """
    if machine not in _MACHINES:
        return b""
    arch, numbers = _MACHINES[machine]
    no_call = _step(_RETURN, _ERRNO | errno.ENOSYS)
    program = [_step(_LOAD, _ARCH), _step(_EQUAL, arch, yes=1), no_call]
    program += [_step(_LOAD, _NUMBER), _step(_AT_LEAST, _X32, no=1), no_call]
    for name in _REFUSED:
        program += [_step(_EQUAL, numbers[name], no=1), no_call]
    no_family = _step(_RETURN, _ERRNO | errno.EAFNOSUPPORT)
    allow = _step(_RETURN, _ALLOW)
    families = [_step(_LOAD, _FIRST)]
    for family in _FAMILIES:
        families += [_step(_EQUAL, family, no=1), allow]
    families.append(no_family)
    program += [_step(_EQUAL, numbers["socket"], no=len(families)), *families]
    commands = [_step(_LOAD, _SECOND)]
    for command in _TERMINAL:
        commands += [_step(_EQUAL, command, no=1), _step(_RETURN, _ERRNO | errno.EPERM)]
    commands.append(allow)
    program += [_step(_EQUAL, numbers["ioctl"], no=len(commands)), *commands, allow]
    return b"".join(program)


def _step(code: int, value: int, *, yes: int = 0, no: int = 0) -> bytes:
    """An instruction. `yes`, `no`: how many to skip where a comparison holds, or does not."""
    return struct.pack("=HBBI", code, yes, no, value)
