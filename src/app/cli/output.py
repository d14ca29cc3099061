"""How answers look: tables on a terminal, plain columns everywhere else."""

from __future__ import annotations

import re
import sys
from collections.abc import Iterable, Sequence
from datetime import datetime

import click

_CONTROL = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f]")


def clean(text: str) -> str:
    """Without what would steer the terminal: others wrote it."""
    return _CONTROL.sub("", text)


def one_line(text: str, longest: int = 200) -> str:
    """The same in one line, shortened."""
    line = " ".join(clean(text).split())
    return line if len(line) <= longest else f"{line[: longest - 1]}…"


def is_terminal() -> bool:
    """Whether a person reads along."""
    return sys.stdout.isatty()


def print_table(columns: Sequence[str], rows: Iterable[Sequence[object]], *, empty: str) -> None:
    """`empty` is the sentence for no rows."""
    cells = [[one_line("" if cell is None else str(cell)) for cell in row] for row in rows]
    if not cells:
        click.echo(empty)
    elif is_terminal():
        _print_rich(columns, cells)
    else:
        click.echo("\n".join(_plain([list(map(str.upper, columns)), *cells])))


def print_fields(fields: Iterable[tuple[str, object]]) -> None:
    """Names and values; what has no value is left out."""
    shown = [(name, one_line(str(value))) for name, value in fields if value not in (None, "")]
    width = max((len(name) for name, _ in shown), default=0)
    for name, value in shown:
        label = click.style(f"{name:{width}}", dim=True) if is_terminal() else f"{name:{width}}"
        click.echo(f"{label}  {value}")


def when(seconds: float | None) -> str:
    """A time of Unix seconds, as clocks here show it."""
    if seconds is None:
        return ""
    return datetime.fromtimestamp(seconds).astimezone().strftime("%Y-%m-%d %H:%M:%S")


def _plain(rows: Sequence[Sequence[str]]) -> list[str]:
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
        # Text, not markup: brackets are brackets.
        table.add_row(*(Text(cell) for cell in row))
    Console().print(table)
