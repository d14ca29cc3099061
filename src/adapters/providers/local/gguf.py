"""Reads the context length from the header of a GGUF model file."""

from __future__ import annotations

import os
import struct
from pathlib import Path
from typing import BinaryIO

_MAGIC = b"GGUF"
_ARCHITECTURE = "general.architecture"
_STRING = 8
_ARRAY = 9
_UINT32 = 4
_SIZES = {0: 1, 1: 1, 2: 2, 3: 2, 4: 4, 5: 4, 6: 4, 7: 1, 10: 8, 11: 8, 12: 8}
"""Bytes of each scalar type, by its number in the GGUF specification (ggml's docs/gguf.md)."""
_MAX_KEYS = 100_000
_MAX_TEXT = 1 << 24
_MAX_ITEMS = 1 << 26


class NotAModelFile(ValueError):
    """The file is not a GGUF file or its header is damaged; the message is a clause."""


def trained_context(path: Path) -> int | None:
    """The context length that the model was trained with, in tokens; None if the file has none.

    Raises NotAModelFile, OSError.
    """
    with path.open("rb") as file:
        return _Header(file).context()


class _Header:
    """The key-value pairs at the start of a GGUF file (version 2 and 3, little-endian)."""

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        self._size = os.fstat(file.fileno()).st_size

    def context(self) -> int | None:
        if self._take(4) != _MAGIC:
            raise NotAModelFile("it is not a GGUF file")
        version = self._number("<I")
        if version not in (2, 3):
            raise NotAModelFile(f"it has the unknown GGUF version {version}")
        self._number("<Q")  # The number of tensors.
        context_key = ""
        for _ in range(min(self._number("<Q"), _MAX_KEYS)):
            key, kind = self._text(), self._number("<I")
            if key == _ARCHITECTURE and kind == _STRING:
                context_key = f"{self._text()}.context_length"
            elif key == context_key and kind == _UINT32:
                return self._number("<I")
            else:
                self._skip(kind)
        return None

    def _skip(self, kind: int, count: int = 1) -> None:
        if kind == _STRING:
            for _ in range(count):
                self._forward(self._number("<Q"))
        elif kind == _ARRAY:
            item, length = self._number("<I"), self._number("<Q")
            if item == _ARRAY or length > _MAX_ITEMS:
                raise NotAModelFile("its header is damaged")
            self._skip(item, length)
        elif kind in _SIZES:
            self._forward(_SIZES[kind] * count)
        else:
            raise NotAModelFile("its header is damaged")

    def _text(self) -> str:
        length = self._number("<Q")
        if length > _MAX_TEXT:
            raise NotAModelFile("its header is damaged")
        return self._take(length).decode("utf-8", "replace")

    def _number(self, format_: str) -> int:
        (number,) = struct.unpack(format_, self._take(struct.calcsize(format_)))
        return int(number)

    def _take(self, length: int) -> bytes:
        data = self._file.read(length)
        if len(data) < length:
            raise NotAModelFile("it is truncated")
        return data

    def _forward(self, length: int) -> None:
        if length > self._size - self._file.tell():
            raise NotAModelFile("it is truncated")
        self._file.seek(length, os.SEEK_CUR)
