"""The configuration: its location, the settings read from it, and its editor."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from ...adapters.config import ConfigEditor, ConfigSource, Inputs, Locations, Overrides, locate
from ...adapters.system.files import TokenFile
from ...domain.ports import ConfigFile, CurrentSettings
from .. import plugins
from ..reloads import Reloads


def inputs(
    env: Mapping[str, str], home: Path | None, overrides: Overrides, find_plugins: plugins.Find
) -> Inputs:
    return Inputs(
        env=env,
        home=home,
        overrides=overrides,
        generated_token=generated_token,
        runners=plugins.runner_names(find_plugins),
    )


def generated_token(state_dir: Path) -> str:
    return TokenFile(state_dir).read_or_create()


def locations(env: Mapping[str, str], overrides: Overrides, home: Path | None) -> Locations:
    return locate(env, overrides, home)


def token_file(locations: Locations) -> TokenFile:
    return TokenFile(locations.state_dir)


def source(inputs: Inputs, token_file: TokenFile, reloads: Reloads) -> ConfigSource:
    return ConfigSource.open(inputs, on_event=reloads, watched=[token_file.path])


def settings(source: ConfigSource) -> CurrentSettings:
    return source.current


def config_file(inputs: Inputs, locations: Locations) -> ConfigFile:
    return ConfigEditor(inputs, locations)
