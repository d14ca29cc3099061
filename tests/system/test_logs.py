"""The log: what a line holds, what it never holds, and where it goes."""

from __future__ import annotations

import io
import json
import logging
import os
import re
import stat
import sys
import warnings
from collections.abc import Iterator
from pathlib import Path
from types import MappingProxyType
from typing import Any
from unicodedata import category

import pytest

from opensoul.adapters.system.logging.setup import configure
from opensoul.adapters.system.logging.values import MAX_ITEMS, MAX_TEXT, masked, on_one_line, plain
from opensoul.domain.models.calls import Secret
from opensoul.domain.settings import LoggingSettings

NAMES = (
    "",
    "opensoul",
    "asyncio",
    "hypercorn.access",
    "hypercorn.error",
    "httpx2",
    "mcp",
    "quart.app",
    "watchfiles",
)


@pytest.fixture(autouse=True)
def loggers_as_they_were() -> Iterator[None]:
    loggers = [logging.getLogger(name) for name in NAMES]
    before = [(logger, logger.level, list(logger.handlers), logger.propagate) for logger in loggers]
    yield
    for logger, level, handlers, propagate in before:
        for handler in logger.handlers:
            if handler not in handlers:
                handler.close()
        logger.setLevel(level)
        logger.handlers[:] = handlers
        logger.propagate = propagate


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


class Unprintable:
    def __repr__(self) -> str:
        raise RuntimeError("no")


def fail(reason: str) -> None:
    raise ValueError(reason)


def lines(capsys: pytest.CaptureFixture[str]) -> list[dict[str, Any]]:
    return [json.loads(line) for line in capsys.readouterr().err.splitlines()]


def log(level: str = "info", **more: Any) -> logging.Logger:
    configure(LoggingSettings(level=level, style=more.pop("style", "json"), **more))
    return logging.getLogger("opensoul.test")


def test_a_line_tells_when_how_grave_what_and_who(capsys: pytest.CaptureFixture[str]) -> None:
    log().info("a run of %s", "main", extra={"run": "r1", "seconds": 0.5})
    [line] = lines(capsys)
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z", line.pop("timestamp"))
    assert line == {
        "level": "info",
        "message": "a run of main",
        "logger": "opensoul.test",
        "run": "r1",
        "seconds": 0.5,
    }


@pytest.mark.parametrize(
    ("level", "told"),
    [
        ("silent", []),
        ("fatal", ["fatal"]),
        ("error", ["fatal", "error"]),
        ("warn", ["fatal", "error", "warn"]),
        ("info", ["fatal", "error", "warn", "info"]),
        ("debug", ["fatal", "error", "warn", "info", "debug"]),
        ("trace", ["fatal", "error", "warn", "info", "debug", "trace"]),
    ],
)
def test_each_level_tells_itself_and_what_is_graver(
    capsys: pytest.CaptureFixture[str], level: str, told: list[str]
) -> None:
    logger = log(level)
    for number in (50, 40, 30, 20, 10, 5):
        logger.log(number, "something")
    assert [line["level"] for line in lines(capsys)] == told


def test_a_level_of_no_name_counts_as_the_next_lower_one(
    capsys: pytest.CaptureFixture[str],
) -> None:
    logger = log("trace")
    logging.getLogger("opensoul").setLevel(1)
    logging.getLogger().handlers[-1].setLevel(1)
    for number in (90, 35, 1):
        logger.log(number, "something")
    assert [line["level"] for line in lines(capsys)] == ["fatal", "warn", "trace"]


def test_the_console_may_have_a_level_of_its_own(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    path = tmp_path / "logs" / "gateway.log"
    logger = log("info", console_level="error", file=str(path))
    logger.info("quiet")
    logger.error("loud")
    assert [line["message"] for line in lines(capsys)] == ["loud"]
    assert [json.loads(line)["message"] for line in path.read_text().splitlines()] == [
        "quiet",
        "loud",
    ]


def test_verbose_opens_the_console_only(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    path = tmp_path / "gateway.log"
    settings = LoggingSettings(level="error", style="json", file=str(path))
    configure(settings, verbose=True)
    logging.getLogger("opensoul.test").debug("detail")
    assert [line["message"] for line in lines(capsys)] == ["detail"]
    assert path.read_text() == ""


def test_libraries_chatter_only_at_trace(capsys: pytest.CaptureFixture[str]) -> None:
    log("debug")
    logging.getLogger("some.library").debug("chatter")
    logging.getLogger("some.library").info("news")
    log("trace")
    logging.getLogger("some.library").debug("chatter again")
    logging.getLogger("watchfiles.main").debug("never: a log file may be what changed")
    assert [line["message"] for line in lines(capsys)] == ["news", "chatter again"]


def test_servers_and_asyncio_join_in_and_the_access_log_of_hypercorn_stays_off(
    capsys: pytest.CaptureFixture[str],
) -> None:
    for name in ("hypercorn.error", "quart.app", "asyncio"):
        logging.getLogger(name).addHandler(logging.StreamHandler(sys.stderr))
        logging.getLogger(name).propagate = False
    log()
    for name in ("hypercorn.error", "quart.app", "asyncio", "opensoul.access", "hypercorn.access"):
        logging.getLogger(name).warning("here")
    assert [line["logger"] for line in lines(capsys)] == [
        "hypercorn.error",
        "quart.app",
        "asyncio",
        "opensoul.access",
    ]


def test_what_servers_of_tools_send_and_where_they_are_is_not_logged(
    capsys: pytest.CaptureFixture[str],
) -> None:
    log("trace")
    logging.getLogger("httpx2").info("POST https://mcp.example.com/mcp?key=secret")
    logging.getLogger("mcp.client.sse").error("Error parsing secret")
    assert lines(capsys) == []


def test_configuring_again_replaces_and_never_doubles(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    path = tmp_path / "gateway.log"
    others = len(logging.getLogger().handlers)
    with warnings.catch_warnings():
        warnings.simplefilter("error", ResourceWarning)
        for _ in range(3):
            logger = log(file=str(path))
    logger.info("once")
    assert len(lines(capsys)) == 1
    assert len(path.read_text().splitlines()) == 1
    log("error")
    assert len(logging.getLogger().handlers) == others + 1
    logger.info("no more")
    assert lines(capsys) == []


def test_a_log_file_that_cannot_be_opened_changes_nothing(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    logger = log()
    with pytest.raises(OSError, match=str(tmp_path)):
        log(file=str(tmp_path))
    logger.info("as before")
    assert [line["message"] for line in lines(capsys)] == ["as before"]


def test_the_file_is_private_appended_to_and_follows_a_rotation(tmp_path: Path) -> None:
    path = tmp_path / "gateway.log"
    old = os.umask(0)
    try:
        logger = log(level="info", console_level="silent", file=str(path))
        logger.info("one")
        log(level="info", console_level="silent", file=str(path))
        logger.info("two")
        path.rename(tmp_path / "gateway.log.1")
        logger.info("three")
    finally:
        os.umask(old)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    rotated = (tmp_path / "gateway.log.1").read_text().splitlines()
    assert [json.loads(line)["message"] for line in rotated] == ["one", "two"]
    assert json.loads(path.read_text())["message"] == "three"


def test_a_log_directory_that_vanished_costs_the_line_not_the_caller(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    directory = tmp_path / "logs"
    logger = log(console_level="silent", file=str(directory / "gateway.log"))
    (directory / "gateway.log").unlink()
    directory.rmdir()
    logger.info("Bearer abc")
    told = capsys.readouterr().err
    assert re.match(r"opensoul: cannot write a log line of opensoul.test: FileNotFound", told)
    assert len(told.splitlines()) == 1


def test_a_console_that_is_gone_costs_the_line_not_the_caller(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    stream = io.StringIO()
    monkeypatch.setattr(sys, "stderr", stream)
    logger = log()
    stream.close()
    logger.info("nobody reads this")


def test_without_standard_error_the_log_goes_elsewhere_and_costs_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As in a process that was started with it closed, under another server's command."""
    monkeypatch.setattr("sys.stderr", None)
    configure(LoggingSettings(file=str(tmp_path / "log")))
    logging.getLogger("opensoul.test").info("served")
    assert json.loads((tmp_path / "log").read_text())["message"] == "served"


def test_an_exception_is_one_line_of_json(capsys: pytest.CaptureFixture[str]) -> None:
    try:
        fail("two\nlines, Bearer abc.def")
    except ValueError:
        log().exception("failed", stack_info=True)
    [line] = lines(capsys)
    assert line["level"] == "error"
    assert line["exception"].startswith("Traceback (most recent call last):\n")
    assert line["exception"].endswith("ValueError: two\nlines, Bearer ***")
    assert line["stack"].startswith("Stack (most recent call last):")


def test_an_exception_that_never_was_is_told_so(capsys: pytest.CaptureFixture[str]) -> None:
    log().error("failed", exc_info=(None, None, None))
    assert lines(capsys)[0]["exception"] == "NoneType: None"


def test_text_styles_escape_what_would_look_like_a_line_of_the_log(
    capsys: pytest.CaptureFixture[str],
) -> None:
    for style in ("pretty", "compact"):
        logger = log(style=style)
        try:
            fail("first\n2026-01-01 forged \x1b[2J")
        except ValueError:
            logger.exception("a\nb", extra={"user": "x\r\ny", "list": ["\x1b"]})
        text = capsys.readouterr().err
        first, *rest = text.splitlines()
        assert "a\\x0ab" in first
        assert "x\\x0d\\x0ay" in first
        assert all(line.startswith("  ") for line in rest)
        assert "\x1b" not in text


@pytest.mark.parametrize("coloured", [False, True])
@pytest.mark.parametrize("style", ["pretty", "compact", "json"])
def test_no_text_of_a_client_or_provider_steers_the_terminal_of_the_log(
    monkeypatch: pytest.MonkeyPatch, style: str, coloured: bool
) -> None:
    monkeypatch.setenv("NO_COLOR", "" if coloured else "1")
    terminal = Terminal()
    monkeypatch.setattr(sys, "stderr", terminal)
    evil = "<\x1b]0;t\x07\x9b2J\x7f\u202e\u2066\u200b\u00ad\ufeff\u2028\U000e0041\ud800>"
    try:
        fail(evil)
    except ValueError:
        log(style=style).exception("%s", evil, extra={"user": evil, "map": {evil: [evil]}})
    printed = re.sub(r"\x1b\[\d*m", "", terminal.getvalue()) if coloured else terminal.getvalue()
    steering = [c for c in printed if category(c) in ("Cc", "Cf", "Zl", "Zp", "Cs") and c != "\n"]
    assert steering == []
    if style == "json":
        [line] = printed.splitlines()
        assert json.loads(line)["user"] == evil.replace("\ud800", r"\ud800")
    else:
        assert r"user='<\\x1b]0;t\\x07\\x9b2J" in printed or r"<\x1b]0;t\x07\x9b2J" in printed


def test_pretty_and_compact_say_the_same_in_different_width(
    capsys: pytest.CaptureFixture[str],
) -> None:
    log(style="pretty").info("ready", extra={"port": 18789})
    pretty = capsys.readouterr().err
    assert re.match(r"\d{4}-\d\d-\d\dT[\d:.]+Z \[info\s*\] ready\s+\[opensoul.test\] port=", pretty)
    log(style="compact").info("ready", extra={"port": 18789})
    compact = capsys.readouterr().err
    assert re.fullmatch(r"\d\d:\d\d:\d\dZ \[info\] ready \[opensoul.test\] port=18789\n", compact)


def test_colours_are_for_terminals_that_want_them(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("NO_COLOR", raising=False)
    terminal = Terminal()
    monkeypatch.setattr(sys, "stderr", terminal)
    logger = log(style="pretty")
    for number in (50, 30, 20):
        logger.log(number, "colourful")
    assert "\x1b[" in terminal.getvalue()
    monkeypatch.setenv("NO_COLOR", "1")
    plain_terminal = Terminal()
    monkeypatch.setattr(sys, "stderr", plain_terminal)
    log(style="pretty").info("plain")
    assert "\x1b[" not in plain_terminal.getvalue()
    assert "plain" in plain_terminal.getvalue()


def test_secrets_are_masked_wherever_they_stand(capsys: pytest.CaptureFixture[str]) -> None:
    log().warning(
        "sent Authorization: Bearer s3cret",
        extra={
            "token": "s3cret",
            "apiKey": "s3cret",
            "headers": {"Authorization": "Bearer s3cret", "X-Api-Key": "s3cret", "accept": "*/*"},
            "url": "http://h/?token=s3cret&x=1",
            "password": None,
            "first_token": 0.25,
            "secret": Secret("s3cret"),
            "settings": [Secret("s3cret"), {"gateway_password": ["s3cret"]}],
        },
    )
    text = capsys.readouterr().err
    assert "s3cret" not in text
    line = json.loads(text)
    assert line["message"] == "sent Authorization: Bearer ***"
    assert line["headers"] == {"Authorization": "***", "X-Api-Key": "***", "accept": "*/*"}
    assert line["url"] == "http://h/?token=***&x=1"
    assert line["password"] is None
    assert line["first_token"] == 0.25


def test_arguments_that_do_not_fit_the_message_are_still_told(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    logger, root = log(), logging.getLogger()
    # Without the handler of the test runner, which insists on arguments that fit.
    monkeypatch.setattr(root, "handlers", root.handlers[-1:])
    template = "%d runs"
    logger.info(template, "many")
    logger.info("%s", Unprintable())
    first, second = lines(capsys)
    assert first["message"] == "%d runs ['many']"
    assert "cannot be shown" in second["message"]


def test_extras_never_take_the_place_of_a_lines_own_keys(
    capsys: pytest.CaptureFixture[str],
) -> None:
    log().info("true", extra={"level": "forged", "event": "forged", "timestamp": 0})
    [line] = lines(capsys)
    assert (line["level"], line["message"]) == ("info", "true")
    assert (line["level_"], line["event_"], line["timestamp_"]) == ("forged", "forged", 0)


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        (None, None),
        (True, True),
        (7, 7),
        (2**80, hex(2**80)),
        (float("nan"), "nan"),
        (float("inf"), "inf"),
        (1.5, 1.5),
        ("\ud800", "\\ud800"),
        (b"a\xff", "a\\xff"),
        ((1, {"a": 2}), [1, {"a": 2}]),
        ({3}, [3]),
        (MappingProxyType({1: "one"}), {"1": "one"}),
        (ValueError("x"), "ValueError('x')"),
        (Unprintable(), "<Unprintable that cannot be shown>"),
    ],
)
def test_any_value_can_be_told(value: object, shown: object) -> None:
    assert plain(value) == shown


def test_nothing_is_endless() -> None:
    loop: list[object] = []
    loop.append(loop)
    assert "..." in json.dumps(plain(loop))
    many = plain(list(range(MAX_ITEMS + 5)))
    assert isinstance(many, list)
    assert len(many) == MAX_ITEMS + 1
    assert many[-1] == "... (5 more)"
    wide = plain({str(i): i for i in range(MAX_ITEMS + 5)})
    assert isinstance(wide, dict)
    assert wide["..."] == "5 more"
    assert masked("x" * (MAX_TEXT + 9)).endswith("... (9 more characters)")


def test_values_within_values_are_escaped_for_text_too() -> None:
    assert on_one_line({"a\n": ["b\n", 1]}) == {"a\\x0a": ["b\\x0a", 1]}
