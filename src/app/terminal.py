"""Writes the output of all commands: tables on a terminal, plain columns everywhere else.

All output of the command line passes through this module, which removes the characters that
control a terminal: models, providers, clients and arguments may contain some. The linter refuses
`click.echo` and similar functions elsewhere. Output to pipes and files is cleaned as well, because
it usually reaches a terminal later.
"""

from __future__ import annotations

import io
import json
import logging
import sys
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from datetime import datetime

import click

from ..domain.text import PieceCleaner, clean, escape_json, escape_line


def echo(text: object = "", *, err: bool = False, nl: bool = True) -> None:
    _write(clean(str(text)), err=err, nl=nl)


def echo_json(value: object, *, indent: int | None = None, err: bool = False) -> None:
    """Print a value as JSON; control and format characters in it are written as escapes."""
    text = json.dumps(value, indent=indent, ensure_ascii=False)
    _write(escape_json(text), err=err, nl=True)


def confirm(question: str) -> None:
    """Ask for a confirmation. Raises click.Abort for any answer but yes."""
    click.confirm(one_line(question), abort=True)


def show_usage_error(error: click.UsageError) -> None:
    """Print the usage of the command and the error."""
    text = io.StringIO()
    error.show(text)
    echo(text.getvalue(), err=True, nl=False)


class Stream:
    """Prints one text piece by piece."""

    def __init__(self) -> None:
        self._cleaner = PieceCleaner()
        self._is_open = False

    def write(self, piece: str) -> None:
        cleaned = self._cleaner.clean(piece)
        if cleaned:
            _write(cleaned, err=False, nl=False)
            self._is_open = not cleaned.endswith("\n")

    def end(self) -> None:
        """End the line, so that the next output begins on a new one."""
        if self._is_open:
            _write("", err=False, nl=True)
            self._is_open = False


@contextmanager
def cleaned_warnings() -> Iterator[None]:
    """Print the warnings of the log as clean lines while no log is configured."""
    before = logging.lastResort
    logging.lastResort = _WarningLines(logging.WARNING)
    try:
        yield
    finally:
        logging.lastResort = before


class _WarningLines(logging.Handler):
    def emit(self, record: logging.LogRecord) -> None:
        try:
            lines = self.format(record).split("\n")
            echo("\n".join(map(escape_line, lines)), err=True)
        except (OSError, TypeError, ValueError):
            self.handleError(record)


def one_line(text: str, longest: int = 200) -> str:
    """`text` on one line, shortened."""
    line = " ".join(clean(text).split())
    return line if len(line) <= longest else f"{line[: longest - 1]}…"


def is_terminal() -> bool:
    return sys.stdout.isatty()


def print_table(columns: Sequence[str], rows: Iterable[Sequence[object]], *, empty: str) -> None:
    """`empty`: printed if there are no rows."""
    cells = [[one_line("" if cell is None else str(cell)) for cell in row] for row in rows]
    if not cells:
        echo(empty)
    elif is_terminal():
        _print_rich(columns, cells)
    else:
        echo("\n".join(aligned([list(map(str.upper, columns)), *cells])))


def print_fields(fields: Iterable[tuple[str, object]]) -> None:
    """Print names and values; fields without a value are omitted."""
    shown = [(name, one_line(str(value))) for name, value in fields if value not in (None, "")]
    width = max((len(name) for name, _ in shown), default=0)
    for name, value in shown:
        label = clean(f"{name:{width}}").replace("\n", " ")
        if is_terminal():
            label = click.style(label, dim=True)
        _write(f"{label}  {value}", err=False, nl=True)


def when(seconds: float | None) -> str:
    """A Unix time in local time; empty if it is out of range."""
    if seconds is None:
        return ""
    try:
        moment = datetime.fromtimestamp(seconds).astimezone()
    except (OverflowError, OSError, ValueError):
        return ""
    return moment.strftime("%Y-%m-%d %H:%M:%S")


def _write(text: str, *, err: bool, nl: bool) -> None:
    """The only function that writes. `text` is clean, except for our own colours."""
    click.echo(text, err=err, nl=nl)


def aligned(rows: Sequence[Sequence[str]]) -> list[str]:
    """The rows as lines with columns of equal width."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return [
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()
        for row in rows
    ]


def _print_rich(columns: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    from rich.box import SIMPLE_HEAD
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    table = Table(box=SIMPLE_HEAD, pad_edge=False, show_edge=False)
    for column in columns:
        table.add_column(column, overflow="fold")
    for row in rows:
        # Text, so that brackets are not read as markup.
        table.add_row(*(Text(cell) for cell in row))
    Console().print(table)
