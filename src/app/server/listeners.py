"""The end of listening, without an end of the connections that were opened last."""

from __future__ import annotations

import ctypes
import socket
import struct
import sys

_SO_ATTACH_FILTER = 26
"""Of Linux; the module `socket` has no name for it."""
_FLAGS, _SYN = 13, 0x02
"""The place of the flags in a TCP header, and the one of the first packet of a connection."""
_LOAD_BYTE, _IF_BITS, _RETURN = 0x30, 0x45, 0x06
_WHOLE = 0x40000

# https://www.kernel.org/doc/html/latest/networking/filter.html: four instructions, each a code, how
# many to skip if true and if not, and a number. What returns 0 drops the packet.
_PROGRAM = b"".join(
    struct.pack("=HBBI", *instruction)
    for instruction in (
        (_LOAD_BYTE, 0, 0, _FLAGS),
        (_IF_BITS, 0, 1, _SYN),
        (_RETURN, 0, 0, 0),
        (_RETURN, 0, 0, _WHOLE),
    )
)


def turn_away(listener: socket.socket) -> bool:
    """Ignore attempts to connect from now on; those that have begun succeed. False where the system
    cannot do so, and goes on as before.

    Closing a listener resets the connections that wait to be accepted, whose clients may have sent
    a request already. Of an ignored attempt the client's system sends the first packet again, after
    a second, and finds that nothing listens here, or whatever listens then.
    """
    if not sys.platform.startswith("linux"):
        return False
    program = ctypes.create_string_buffer(_PROGRAM, len(_PROGRAM))
    described = struct.pack("@HP", len(_PROGRAM) // 8, ctypes.addressof(program))
    try:
        listener.setsockopt(socket.SOL_SOCKET, _SO_ATTACH_FILTER, described)
    except OSError:
        return False  # Not a kernel that has this, such as a sandbox's.
    return True
