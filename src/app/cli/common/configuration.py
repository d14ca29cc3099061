"""Reads the configuration for a command, and turns errors of a Gateway into errors of a command."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from .errors import CommandError

if TYPE_CHECKING:
    from ....adapters.config import ConfigInvalid, Inputs, Loaded, Locations
    from .state import State

_NOT_GENERATED = "not-generated-by-this-command"


def inputs_of(
    state: State, generated_token: Callable[[Path], str] = lambda _: _NOT_GENERATED
) -> Inputs:
    """What the configuration of a command depends on, besides files.

    `generated_token` is called with the state directory, only where no secret is configured.
    """
    from ....adapters.config import Inputs, home_directory
    from ...plugins import runner_names

    return Inputs(
        env=os.environ,
        home=home_directory(),
        generated_token=generated_token,
        overrides=state.overrides(),
        runners=runner_names(),
    )


def load_config(
    state: State, *, generated_token: Callable[[Path], str] = lambda _: _NOT_GENERATED
) -> Loaded:
    """The configuration that a Gateway would start with. Raises CommandError with all errors."""
    from ....adapters.config import load_at

    locations, inputs = locations_of(state), inputs_of(state, generated_token)
    with gateway_errors():
        if locations.node_path is not None:
            from ...shared_configuration import bring_up_to_date, shared_document

            if (document := shared_document(locations, inputs)) is not None:
                bring_up_to_date(document)
        return load_at(locations, inputs)


def needs_generated_token(loaded: Loaded) -> bool:
    """Whether no secret is configured; of a configuration loaded without `generated_token`."""
    secret = loaded.settings.auth.secret
    return secret is not None and secret.reveal() == _NOT_GENERATED


def locations_of(state: State) -> Locations:
    """The locations of files, even if the configuration is missing or invalid."""
    from ....adapters.config import find, home_directory

    return find(os.environ, state.overrides(), home_directory())


@contextmanager
def gateway_errors() -> Iterator[None]:
    """Raises CommandError for the errors of a configuration, a start and the domain."""
    from ....adapters.config import ConfigInvalid
    from ....adapters.system.files import StateLocked
    from ....domain.errors import GatewayError
    from ....domain.ports.configuration import ConfigRefused
    from ...plugins import PluginInvalid, PluginMissing

    try:
        yield
    except ConfigInvalid as invalid:
        raise _refusal(invalid) from None
    except ConfigRefused as refused:
        raise CommandError(refused.message, code=refused.code, issues=refused.issues) from None
    except GatewayError as error:
        raise CommandError(error.message, code=error.code) from error
    except StateLocked as locked:
        raise CommandError(str(locked), code="state_locked") from None
    except PluginMissing as missing:
        raise CommandError(str(missing), code="plugin_missing") from None
    except PluginInvalid as invalid_plugin:
        raise CommandError(str(invalid_plugin), code="plugin_invalid") from None


def _refusal(invalid: ConfigInvalid) -> CommandError:
    count = f", {len(invalid.issues)} findings" if len(invalid.issues) > 1 else ""
    message = f"The configuration is not valid{count}:\n{invalid}"
    return CommandError(message, code="config_invalid", issues=invalid.issues)
