"""Digests of values that outlive a process and a version of this program."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import fields, is_dataclass

Write = Callable[[bytes], object]


def digest(value: object) -> str:
    """SHA-256 over a canonical encoding, in hexadecimal: equal for equal values.

    A value is made of mappings with text keys, sequences, dataclasses, texts, bytes, numbers,
    booleans and None. The order of a mapping's entries does not count, nor does whether a whole
    number is an int or a float. Of a dataclass those fields count that its `==` compares. Raises
    TypeError for anything else, which might look different in another process.
    """
    sha = hashlib.sha256()
    _write(value, sha.update)
    return sha.hexdigest()


def _write(value: object, write: Write) -> None:
    """Every piece says what it is and how long, so that no two values share an encoding."""
    match value:
        case None:
            write(b"n")
        case bool():
            write(b"t" if value else b"f")
        case str():
            _write_piece(b"s", value.encode("utf-8", "surrogatepass"), write)
        case bytes():
            _write_piece(b"b", value, write)
        case int() | float():
            number = int(value) if isinstance(value, float) and value.is_integer() else value
            _write_piece(b"d", repr(number).encode(), write)
        case Mapping():
            write(b"m%d:" % len(value))
            for key in sorted(value):
                _write(key, write)
                _write(value[key], write)
        case Sequence():
            write(b"l%d:" % len(value))
            for item in value:
                _write(item, write)
        case _ if is_dataclass(value) and not isinstance(value, type):
            compared = {f.name: getattr(value, f.name) for f in fields(value) if f.compare}
            _write(type(value).__name__, write)
            _write(compared, write)
        case _:
            raise TypeError(f"no canonical encoding for {type(value).__name__}")


def _write_piece(kind: bytes, data: bytes, write: Write) -> None:
    write(b"%s%d:" % (kind, len(data)))
    write(data)
