"""Options for a secret, as a value or as a file."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from ..common.state import State


def secret_options(name: str, meaning: str, *, prefix: str = "") -> list[Any]:
    """`--NAME` and `--NAME-file`; the State remembers the secret as PREFIX + NAME."""

    def from_file(ctx: click.Context, param: click.Parameter, path: str | None) -> None:
        if path is None:
            return
        try:
            secret = _secret_from_file(path)
        except ValueError as error:
            raise click.BadParameter(f"{error}.", ctx, param) from None
        except OSError as error:
            raise click.BadParameter(f"{path}: {error.strerror}.", ctx, param) from None
        _keep(ctx, param, prefix, name, secret)

    def from_option(ctx: click.Context, param: click.Parameter, secret: str | None) -> None:
        if secret is None:
            return
        if not secret.strip():
            raise click.BadParameter("must not be empty.", ctx, param)
        _keep(ctx, param, prefix, name, secret)

    return [
        click.option(
            f"--{name}",
            metavar="SECRET",
            expose_value=False,
            callback=from_option,
            help=f"The {name} {meaning}. Better: --{name}-file.",
        ),
        click.option(
            f"--{name}-file",
            metavar="FILE",
            expose_value=False,
            callback=from_file,
            help=f"Read the {name} from a file.",
        ),
    ]


def _keep(ctx: click.Context, param: click.Parameter, prefix: str, name: str, secret: str) -> None:
    options = ctx.ensure_object(State).options
    if prefix + name in options:
        raise click.BadParameter(f"the {name} is set twice.", ctx, param)
    options[prefix + name] = secret


def _secret_from_file(path: str) -> str:
    """The content of a file, without a final line break.

    Raises ValueError with a message for an empty file or one that is not text, and OSError.
    """
    try:
        text = Path(path).read_bytes().decode("utf-8")
    except UnicodeDecodeError:
        raise ValueError(f"{path} is not UTF-8 text") from None
    text = text.removesuffix("\n").removesuffix("\r")
    if not text.strip():
        raise ValueError(f"{path} is empty")
    return text
