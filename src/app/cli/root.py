"""The group of all commands, and their error handling."""

from __future__ import annotations

import gc
from collections.abc import Sequence
from typing import TYPE_CHECKING

import click

from ...adapters.config import NoPlace, is_text
from ..terminal import cleaned_warnings, echo
from .common.errors import CommandError, report, report_unexpected, report_usage
from .common.lazy import LazyGroup
from .common.state import Serve, State, common_options

if TYPE_CHECKING:
    from ...adapters.config import Overrides

_USAGE = 2
_INTERRUPTED = 130
_EPILOG = """\b
Exit codes:
  0    done
  1    refused or failed; standard error says why
  2    the command line is wrong
  130  interrupted

--config, --json and --verbose may stand before or after any command."""


def _serve(overrides: Overrides, print_example: bool) -> int:
    # Objects of the start are long-lived, and collecting garbage among them would take a seventh of
    # the time. Serving switches the collector on again.
    gc.disable()
    from .gateway_run import serve

    return serve(overrides, print_example=print_example)


def run(arguments: Sequence[str], *, serve: Serve = _serve) -> int:
    """Run one command and return the exit code. Errors are reported on standard error."""
    # Read here, as an invalid command line has no State.
    as_json = "--json" in arguments
    verbose = "--verbose" in arguments
    try:
        _check_text(arguments)
        with cleaned_warnings():
            outcome = opensoul.main(
                list(arguments), prog_name="opensoul", standalone_mode=False, obj=State(serve)
            )
    except click.UsageError as error:
        report_usage(error, as_json=as_json)
        return error.exit_code
    except CommandError as error:
        report(error, as_json=as_json)
        return _USAGE if error.code == "usage" else 1
    except (click.Abort, KeyboardInterrupt):
        return _INTERRUPTED
    except NoPlace as error:
        report(CommandError(str(error.strerror), code="no_place"), as_json=as_json)
        return 1
    except Exception as error:
        report_unexpected(error, as_json=as_json, verbose=verbose)
        return 1
    return outcome if isinstance(outcome, int) else 0


def _check_text(arguments: Sequence[str]) -> None:
    """Raises CommandError, without quoting the argument, as it may be a secret."""
    for number, argument in enumerate(arguments, start=1):
        if not is_text(argument):
            raise CommandError(f"Argument {number} is not UTF-8 text.", code="usage")


def _print_version(ctx: click.Context, _: click.Parameter, value: bool) -> None:
    if value and not ctx.resilient_parsing:
        from ..version import version_line

        echo(version_line())
        ctx.exit()


_COMMANDS = (
    "gateway",
    "dev",
    "agent",
    "tui",
    "sessions",
    "runs",
    "approvals",
    "agents",
    "models",
    "mcp",
    "status",
    "health",
    "nodes",
    "logs",
    "devices",
    "keys",
    "token",
    "config",
    "db",
    "doctor",
)
"""In the order of the help. Each is a module of `commands` with a command of that name."""


@click.group(
    cls=LazyGroup,
    modules=_COMMANDS,
    epilog=_EPILOG,
    context_settings={"help_option_names": ["-h", "--help"]},
)
@click.option(
    "--version",
    is_flag=True,
    is_eager=True,
    expose_value=False,
    callback=_print_version,
    help="Show the version and exit.",
)
@common_options
def opensoul() -> None:
    """Serve agents over HTTP and WebSocket, and use them.

    `opensoul gateway run` starts it, `opensoul agent -m TEXT` asks an agent, `opensoul tui` is a
    chat, and `opensoul doctor` diagnoses problems.
    """
