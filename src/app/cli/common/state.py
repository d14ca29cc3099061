"""The options of one invocation, wherever on the command line they are."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import click

from ...terminal import echo_json

if TYPE_CHECKING:
    from ....adapters.config import Overrides


Command = Callable[..., Any]

Serve = Callable[["Overrides", bool], int]
"""Runs the Gateway until a signal, and returns the exit code; True: print an example's token."""


@dataclass(slots=True)
class State:
    """The options parsed so far; of a repeated one the last counts."""

    serve: Serve
    options: dict[str, Any] = field(default_factory=dict)

    @property
    def json(self) -> bool:
        return bool(self.options.get("json"))

    @property
    def verbose(self) -> bool:
        return bool(self.options.get("verbose"))

    def overrides(self) -> Overrides:
        """The options that override the configuration."""
        from ....adapters.config import Overrides
        from ....domain.models import Secret

        token, password = self.options.get("token"), self.options.get("password")
        return Overrides(
            config_path=self.options.get("config"),
            port=self.options.get("port"),
            bind=self.options.get("bind"),
            auth_mode=self.options.get("auth"),
            token=None if token is None else Secret(token),
            password=None if password is None else Secret(password),
            verbose=self.verbose,
        )


def remembered(*names: str, **settings: Any) -> Callable[[Command], Command]:
    """An option whose value goes to the State instead of the command's parameters."""
    return click.option(*names, expose_value=False, callback=_remember, **settings)


def common_options(command: Command) -> Command:
    """`--config`, `--json` and `--verbose`: accepted by every command and group."""
    for option in reversed(_COMMON):
        command = option(command)
    return command


def print_json(value: object, *, to_stderr: bool = False) -> None:
    """Print indented JSON."""
    echo_json(value, indent=2, err=to_stderr)


def _remember(ctx: click.Context, param: click.Parameter, value: Any) -> None:
    if value is not None and value is not False:
        ctx.find_object(State).options[param.name] = value  # type: ignore[union-attr]


_COMMON = (
    remembered("--config", metavar="FILE", help="The configuration file."),
    remembered("--json", is_flag=True, help="Answers and errors as JSON."),
    remembered("--verbose", is_flag=True, help="More detail: debug log, tracebacks."),
)


class Seconds(click.FloatRange):
    """A finite number of seconds; `click.FloatRange` alone accepts `nan` and `inf`."""

    name = "seconds"

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> float:
        seconds = float(super().convert(value, param, ctx))
        if not math.isfinite(seconds):
            self.fail(f"{value} is not a number of seconds.", param, ctx)
        return seconds
