"""The list of embeddings, piece by piece: as numbers it is several times as large as in memory."""

from __future__ import annotations

import asyncio
import sys
from array import array
from base64 import b64encode
from collections.abc import AsyncIterator

from .....domain.services import Embedded
from ...http.json_text import dumps

_PIECE_BYTES = 16 * 1024


async def pieces(embedded: Embedded, *, base64: bool) -> AsyncIterator[bytes]:
    """The body of the answer. Others get their turn between two pieces."""
    body = bytearray(b'{"object":"list","data":[')
    for index, vector in enumerate(embedded.vectors):
        embedding = b64encode(vector).decode() if base64 else _numbers(vector)
        item = {"object": "embedding", "index": index, "embedding": embedding}
        body += (b"," if index else b"") + dumps(item)
        if len(body) >= _PIECE_BYTES:
            yield bytes(body)
            body.clear()
            await asyncio.sleep(0)
    usage: dict[str, object] = {
        "prompt_tokens": embedded.usage.input,
        "total_tokens": embedded.usage.total,
    }
    if embedded.usage.estimated:
        usage["estimated"] = True
    yield bytes(body) + b'],"model":%b,"usage":%b}' % (dumps(embedded.target.ref), dumps(usage))


def _numbers(vector: bytes) -> list[float]:
    numbers = array("f")
    numbers.frombytes(vector)
    if sys.byteorder == "big":
        numbers.byteswap()
    return numbers.tolist()
