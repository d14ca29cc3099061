"""Work on input that could keep Python busy for ever, in a process that can be ended.

A thread cannot: neither a search for a regular expression nor a parser can be interrupted, and both
hold up all other threads.
"""

from __future__ import annotations

import asyncio
import json
import sys
from asyncio.subprocess import DEVNULL, PIPE
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from .tool import ToolFailed


async def run_helper(
    program: str,
    request: Mapping[str, object],
    data: bytes = b"",
    *,
    seconds: float,
    descriptors: Sequence[int] = (),
) -> dict[str, Any]:
    """Run a program of this folder, a file that imports the standard library only.

    It gets a line of JSON and then the data, and answers with a JSON object. Raises TimeoutError.
    """
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-I",
        "-S",
        str(Path(__file__).with_name(program)),
        stdin=PIPE,
        stdout=PIPE,
        stderr=DEVNULL,
        env={},
        pass_fds=descriptors,
        start_new_session=True,
    )
    try:
        async with asyncio.timeout(seconds):
            line = json.dumps({**request, "seconds": seconds}).encode()
            output, _ = await process.communicate(line + b"\n" + data)
    finally:
        if process.returncode is None:
            with suppress(ProcessLookupError):
                process.kill()
            await process.wait()
    try:
        answer: dict[str, Any] = json.loads(output)
    except ValueError:
        raise ToolFailed("The work ended without an answer: it needed too much memory.") from None
    return answer
