"""Groups of commands: help in whole sentences, a default command, commands loaded when used."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from importlib import import_module
from typing import Any

import click

from .state import Command, common_options

Decorator = Callable[[Command], Command]

_COMMANDS = f"{__package__.removesuffix('.common')}.commands"


class Group(click.Group):
    """Its help has the first sentence of each command, whatever its length.

    `options`: a decorator that adds the options of its commands.
    """

    def __init__(self, *args: Any, options: Decorator = common_options, **settings: Any) -> None:
        super().__init__(*args, **settings)
        self._options = options

    def subcommand(
        self, name: str | None = None, *, options: Decorator | None = None
    ) -> Callable[[Command], click.Command]:
        """A command that gets the State, with these options or those of the group."""
        added = options or self._options

        def decorator(function: Command) -> click.Command:
            own = len(getattr(function, "__click_params__", ()))
            command = self.command(name)(added(click.pass_obj(function)))
            # In the help, the command's own options precede those of the group.
            common = len(command.params) - own
            command.params = [*command.params[common:], *command.params[:common]]
            return command

        return decorator

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        names = self.list_commands(ctx)
        rows = [(name, _sentence(self.get_command(ctx, name))) for name in names]
        with formatter.section("Commands"):
            formatter.write_dl(rows)


class ListGroup(Group):
    """A group whose command `list` runs where no command is named."""

    def __init__(self, *args: Any, **settings: Any) -> None:
        super().__init__(*args, **{**settings, "invoke_without_command": True})

    def invoke(self, ctx: click.Context) -> Any:
        result = super().invoke(ctx)
        return ctx.invoke(self.commands["list"]) if ctx.invoked_subcommand is None else result


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
