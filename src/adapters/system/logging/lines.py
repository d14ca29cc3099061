"""The format of log lines: structlog renders the standard library's records as text or JSON."""

from __future__ import annotations

import logging
import re
import traceback
from datetime import UTC, datetime
from functools import cache, lru_cache
from typing import Any

import orjson
import structlog
from structlog.typing import EventDict, Processor

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
_SEVERAL_LINES = ("exception", "stack")
_LEVEL_WIDTH = max(map(len, LEVELS))
_TEXT_WIDTH = 32
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
    if not colours and style not in ("json", "wire"):
        return _PlainLines(short=style == "compact")
    last: list[Processor]
    match style:
        case "json":
            last = [
                structlog.processors.EventRenamer("message"),
                structlog.processors.JSONRenderer(serializer=_json),
            ]
        case "wire":
            last = [_protocol_keys, structlog.processors.JSONRenderer(serializer=_json)]
        case "compact":
            last = [_short_time, _escaped, _text(colours=colours, event_width=0, pad_level=False)]
        case _:
            last = [_escaped, _text(colours=colours, event_width=_TEXT_WIDTH, pad_level=True)]
    return structlog.stdlib.ProcessorFormatter(
        processors=[_fields, *last], use_get_message=False, pass_foreign_args=True
    )


class _PlainLines(logging.Formatter):
    """Renders the text styles without colours.

    Every request writes a line, usually to a file or a pipe, and structlog's renderer takes three
    times as long.
    """

    def __init__(self, *, short: bool) -> None:
        super().__init__()
        self._short = short

    def format(self, record: logging.LogRecord) -> str:
        when, level = _timestamp(record.created), _level(record.levelno)
        text = on_one_line(_message(record.msg, record.args))
        if self._short:
            fields = [f"{when[11:19]}Z [{level}] {text} [{_name(record.name)}]"]
        else:
            fields = [
                f"{when} [{level:<{_LEVEL_WIDTH}}] {text:<{_TEXT_WIDTH}} [{_name(record.name)}]"
            ]
        for key, value in record.__dict__.items():
            if key not in _STANDARD_ATTRIBUTES:
                name, secret = _key_name(key)
                kind = value.__class__
                simple = kind is float or (kind is int and -_WIDEST < value < _WIDEST)
                if simple or (kind is str and not secret and _SIMPLE.fullmatch(value)):
                    fields.append(f"{name}={value}")  # The common case of _shown.
                else:
                    fields.append(f"{name}={_shown(key, value)}")
        lines = [" ".join(fields)]
        if record.stack_info:
            lines.append(_indented(masked(str(record.stack_info))))
        if record.exc_info and record.exc_info[1] is not None:
            lines.append(_indented(_traceback(record.exc_info[1])))
        return "\n".join(lines)


def _shown(key: str, value: object) -> str:
    """A value as structlog renders it: a text is quoted if it contains a delimiter."""
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


def _text(*, colours: bool, event_width: int, pad_level: bool) -> Processor:
    styles = structlog.dev.ConsoleRenderer.get_default_level_styles(colours)
    ours = {"fatal": styles["critical"], "trace": styles["debug"], "warn": styles["warn"]}
    return structlog.dev.ConsoleRenderer(
        colors=colours,
        level_styles={name: ours.get(name, styles.get(name, "")) for name in LEVELS},
        sort_keys=False,
        pad_event_to=event_width,
        pad_level=pad_level,
    )


def _fields(_: object, __: str, event: EventDict) -> EventDict:
    """The keys of a record's line: timestamp, level, event, logger, then the extras."""
    record: logging.LogRecord = event["_record"]
    fields: EventDict = {
        "timestamp": _timestamp(record.created),
        "level": _level(record.levelno),
        "event": _message(event["event"], event["positional_args"]),
        "logger": record.name,
    }
    for key, value in record.__dict__.items():
        if key not in _STANDARD_ATTRIBUTES:
            fields[_key_name(key)[0]] = plain(value, key=key)
    if "stack_info" in event:
        fields["stack"] = masked(str(event["stack_info"]))
    if "exc_info" in event:
        fields["exception"] = _traceback(event["exc_info"][1])
    return fields


@cache
def _level(number: int) -> str:
    names = [name for name, value in LEVELS.items() if value <= min(number, logging.CRITICAL)]
    return names[0] if names else "trace"


def _timestamp(created: float) -> str:
    moment = datetime.fromtimestamp(created, UTC)
    return moment.isoformat(timespec="milliseconds").replace("+00:00", "Z")


def _traceback(error: BaseException | None) -> str:
    return masked("".join(traceback.format_exception(error)).rstrip())


def _message(template: str, args: Any) -> str:
    if not args:
        return masked(template)
    try:
        return masked(template % args)
    except Exception:  # Logging must not fail: an argument's `__str__` may raise anything.
        return masked(f"{template} {plain(args)}")


def _protocol_keys(_: object, __: str, event: EventDict) -> EventDict:
    # An extra with the name of a protocol key gets a trailing underscore.
    taken = _PROTOCOL_KEYS.values()
    return {
        _PROTOCOL_KEYS.get(key, f"{key}_" if key in taken else key): value
        for key, value in event.items()
    }


def _short_time(_: object, __: str, event: EventDict) -> EventDict:
    event["timestamp"] = event["timestamp"][11:19] + "Z"
    return event


def _escaped(_: object, __: str, event: EventDict) -> EventDict:
    """Escape line breaks in values, which would look like further log lines in the text styles."""
    return {
        key: _indented(value) if key in _SEVERAL_LINES else on_one_line(value)
        for key, value in event.items()
    }


def _indented(text: str) -> str:
    return "\n".join(f"  {on_one_line(line)}" for line in text.split("\n"))


def _json(event: EventDict, **_: Any) -> str:
    return escape_json(orjson.dumps(event).decode())
