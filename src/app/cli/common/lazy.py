"""Groups of commands: their help in whole sentences, and one whose commands load when needed."""

from __future__ import annotations

from collections.abc import Sequence
from importlib import import_module
from typing import Any

import click

_COMMANDS = f"{__package__.removesuffix('.common')}.commands"


class Group(click.Group):
    """Its help says of each command the first sentence, however long."""

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        names = self.list_commands(ctx)
        rows = [(name, _sentence(self.get_command(ctx, name))) for name in names]
        with formatter.section("Commands"):
            formatter.write_dl(rows)


class LazyGroup(Group):
    """`modules`: modules of the package `commands`, in the order of the help; each holds the
    command of its own name."""

    def __init__(self, *args: Any, modules: Sequence[str] = (), **settings: Any) -> None:
        super().__init__(*args, **settings)
        self._modules = tuple(modules)

    def list_commands(self, ctx: click.Context) -> list[str]:
        return [*super().list_commands(ctx), *self._modules]

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in self._modules:
            return super().get_command(ctx, cmd_name)
        command: click.Command = getattr(import_module(f"{_COMMANDS}.{cmd_name}"), cmd_name)
        return command


def _sentence(command: click.Command | None) -> str:
    text = "" if command is None else (command.help or "")
    first = " ".join(text.partition("\n\n")[0].split())
    return first.partition(". ")[0].removesuffix(".")
