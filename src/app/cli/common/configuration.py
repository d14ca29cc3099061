"""Reads the configuration for a command, without generating a token."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from .errors import CommandError

if TYPE_CHECKING:
    from ....adapters.config import ConfigInvalid, Loaded
    from .state import State

_UNMADE = "made-when-the-gateway-starts"


def load_config(
    state: State, *, generated_token: Callable[[Path], str] = lambda _: _UNMADE
) -> Loaded:
    """The configuration that a Gateway would start with. Raises CommandError with all errors.

    `generated_token` is called with the state directory, only where no secret is configured.
    """
    from ....adapters.config import ConfigInvalid, Inputs, home_directory, load
    from ...plugins import runner_names

    inputs = Inputs(
        env=os.environ,
        home=home_directory(),
        generated_token=generated_token,
        overrides=state.overrides(),
        runners=runner_names(),
    )
    try:
        return load(inputs)
    except ConfigInvalid as invalid:
        raise refusal(invalid) from None


def refusal(invalid: ConfigInvalid) -> CommandError:
    """The error of a command for an invalid configuration."""
    count = len(invalid.issues)
    heading = "The configuration is not valid"
    if count > 1:
        heading += f", {count} findings"
    return CommandError(
        f"{heading}:\n{invalid}",
        code="config_invalid",
        issues=[
            {"file": issue.file, "path": issue.path, "line": issue.line, "message": issue.message}
            for issue in invalid.issues
        ],
    )


def state_dir(state: State) -> Path:
    """The state directory, even if the configuration is invalid."""
    from ....adapters.config import home_directory, locate

    return locate(os.environ, state.overrides(), home_directory()).state_dir


def config_path(state: State) -> Path:
    """The path of the configuration file, even if it is missing or invalid."""
    from ....adapters.config import home_directory, locate

    return locate(os.environ, state.overrides(), home_directory()).config_path
