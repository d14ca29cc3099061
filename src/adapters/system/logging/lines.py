"""The format of log lines: text for people, or JSON."""

from __future__ import annotations

import logging
import re
import traceback
from datetime import UTC, datetime
from functools import cache, lru_cache
from typing import Any

import orjson

from ....domain.text import escape_json
from . import bounds as log_bounds
from .values import is_secret_key, masked, on_one_line, plain

LEVELS = {
    "silent": logging.CRITICAL + 10,
    "fatal": logging.CRITICAL,
    "error": logging.ERROR,
    "warn": logging.WARNING,
    "info": logging.INFO,
    "debug": logging.DEBUG,
    "trace": 5,
}
"""The names of `logging.level`, most severe first."""

_OWN_KEYS = frozenset({"timestamp", "level", "event", "message", "logger", "exception", "stack"})
_PROTOCOL_KEYS = {"timestamp": "time", "logger": "subsystem", "event": "message"}
"""The names of these keys in the control protocol."""
_HEADS = {
    ("pretty", False): "%(when)s [%(level)-6s] %(text)-32s [%(name)s]",
    ("compact", False): "%(when)s [%(level)s] %(text)s [%(name)s]",
    ("pretty", True): (
        "\x1b[2m%(when)s\x1b[0m [\x1b[%(colour)sm\x1b[1m%(level)-6s\x1b[0m] "
        "\x1b[1m%(text)-32s\x1b[0m [\x1b[1m\x1b[34m%(name)s\x1b[0m]"
    ),
    ("compact", True): (
        "\x1b[2m%(when)s\x1b[0m [\x1b[%(colour)sm\x1b[1m%(level)s\x1b[0m] "
        "\x1b[1m%(text)s\x1b[0m [\x1b[1m\x1b[34m%(name)s\x1b[0m]"
    ),
}
"""The start of a line, by style and whether it is coloured."""
_FIELDS = {False: "%s=%s", True: "\x1b[36m%s\x1b[0m=\x1b[35m%s\x1b[0m"}
_COLOURS = {"warn": 33, "error": 31, "fatal": 31}
"""The ANSI colours of levels; the others are green."""
_GREEN = 32
_QUOTED = frozenset(" \t=\r\n\"'")
_WIDEST = 1 << 63
_SIMPLE = re.compile(r"[\w./:@+,-]{0,1024}", re.ASCII)
"""A text that needs no masking, escaping, quoting or cutting."""
_STANDARD_ATTRIBUTES = (
    frozenset(logging.makeLogRecord({}).__dict__)
    | {"message", "asctime", "taskName"}
    | log_bounds.ATTRIBUTES
)


def formatter(style: str, *, colours: bool) -> logging.Formatter:
    """A formatter of style `pretty`, `compact`, `json` or `wire` (JSON with the keys of the control
    protocol). Each extra of a record becomes a key."""
    if style in ("json", "wire"):
        return _JsonLines(protocol=style == "wire")
    return _TextLines(style, colours=colours)


class _TextLines(logging.Formatter):
    """Renders a record as one line of text, followed by its stack and its traceback."""

    def __init__(self, style: str, *, colours: bool) -> None:
        super().__init__()
        self._is_short = style == "compact"
        self._head = _HEADS["compact" if self._is_short else "pretty", colours]
        self._field = _FIELDS[colours]

    def format(self, record: logging.LogRecord) -> str:
        when, level = _timestamp(record.created), _level(record.levelno)
        text = on_one_line(_message(record))
        fields = [
            self._head
            % {
                "when": f"{when[11:19]}Z" if self._is_short else when,
                "colour": _COLOURS.get(level, _GREEN),
                "level": level,
                "text": text,
                "name": _name(record.name),
            }
        ]
        for key, value in record.__dict__.items():
            if key in _STANDARD_ATTRIBUTES:
                continue
            name, secret = _key_name(key)
            kind = value.__class__
            if kind is str:
                if secret or not _SIMPLE.fullmatch(value):
                    value = _shown(key, value)
            elif kind is not float and not (kind is int and -_WIDEST < value < _WIDEST):
                value = _shown(key, value)
            fields.append(self._field % (name, value))
        line = " ".join(fields)
        if not record.stack_info and not record.exc_info:
            return line
        return "\n".join([line, *map(_indented, _details(record).values())])


class _JsonLines(logging.Formatter):
    """Renders a record as one JSON object. `protocol`: with the keys of the control protocol."""

    def __init__(self, *, protocol: bool) -> None:
        super().__init__()
        self._protocol = protocol

    def format(self, record: logging.LogRecord) -> str:
        line: dict[str, Any] = {
            "timestamp": _timestamp(record.created),
            "level": _level(record.levelno),
            "event": _message(record),
            "logger": record.name,
        }
        for key, value in record.__dict__.items():
            if key not in _STANDARD_ATTRIBUTES:
                line[_key_name(key)[0]] = plain(value, key=key)
        line |= _details(record)
        if self._protocol:
            # An extra with the name of a protocol key gets a trailing underscore.
            taken = _PROTOCOL_KEYS.values()
            line = {
                _PROTOCOL_KEYS.get(key, f"{key}_" if key in taken else key): value
                for key, value in line.items()
            }
        else:
            line["message"] = line.pop("event")
        return escape_json(orjson.dumps(line).decode())


def _details(record: logging.LogRecord) -> dict[str, str]:
    """The texts of a record that may have several lines."""
    details = {}
    if record.stack_info:
        details["stack"] = masked(str(record.stack_info))
    if record.exc_info:
        trace = "".join(traceback.format_exception(record.exc_info[1]))
        details["exception"] = masked(trace.rstrip())
    return details


def _shown(key: str, value: object) -> str:
    """A value in a line of text: quoted if it contains a delimiter."""
    shown = on_one_line(plain(value, key=key))
    return shown if isinstance(shown, str) and not _QUOTED.intersection(shown) else repr(shown)


@lru_cache(maxsize=1_024)
def _name(logger: str) -> str:
    return str(on_one_line(logger))


@lru_cache(maxsize=1_024)
def _key_name(key: str) -> tuple[str, bool]:
    """The key of an extra in a line, and whether its value is a secret. Cached: the code uses few
    names, each of them often."""
    return f"{key}_" if key in _OWN_KEYS else key, is_secret_key(key)


@cache
def _level(number: int) -> str:
    names = [name for name, value in LEVELS.items() if value <= min(number, logging.CRITICAL)]
    return names[0] if names else "trace"


def _timestamp(created: float) -> str:
    second = int(created)
    return f"{_second(second)}.{int((created - second) * 1_000):03d}Z"


@lru_cache(maxsize=16)
def _second(created: int) -> str:
    return datetime.fromtimestamp(created, UTC).strftime("%Y-%m-%dT%H:%M:%S")


def _message(record: logging.LogRecord) -> str:
    template = f"{record.msg}"
    if not record.args:
        return masked(template)
    try:
        return masked(template % record.args)
    except Exception:  # Logging must not fail: an argument's `__str__` may raise anything.
        return masked(f"{template} {plain(record.args)}")


def _indented(text: str) -> str:
    return "\n".join(f"  {on_one_line(line)}" for line in text.split("\n"))
