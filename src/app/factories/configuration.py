"""The configuration: its location, the settings read from it, and its editor."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from ...adapters.config import ConfigEditor, ConfigSource, Inputs, Locations, Overrides, find
from ...adapters.system.files import TokenFile
from ...domain.ports import ConfigFile, CurrentSettings, NodeBus
from .. import plugins
from ..reloads import Reloads
from ..shared import SharedStores
from ..shared_configuration import (
    ConfigurationWatch,
    CopiedDocument,
    bring_up_to_date,
    shared_document,
    store_first,
)


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
    return find(env, overrides, home)


def shared_configuration(locations: Locations, inputs: Inputs) -> CopiedDocument | None:
    """The configuration in the database, copied; None: the configuration is a file."""
    document = shared_document(locations, inputs)
    if document is not None:
        bring_up_to_date(document)
        store_first(document, locations, inputs)
    return document


def configuration_watch(
    bus: NodeBus,
    shared: SharedStores | None,
    shared_configuration: CopiedDocument | None,
    source: ConfigSource,
) -> ConfigurationWatch | None:
    if shared is None or shared_configuration is None:
        return None
    return ConfigurationWatch(bus, shared.configurations, shared_configuration, source.check)


def token_file(locations: Locations) -> TokenFile:
    return TokenFile(locations.state_dir)


def source(
    inputs: Inputs,
    token_file: TokenFile,
    reloads: Reloads,
    shared_configuration: CopiedDocument | None,
) -> ConfigSource:
    """`shared_configuration` was brought up to date before."""
    return ConfigSource.open(inputs, on_event=reloads, watched=[token_file.path])


def settings(source: ConfigSource) -> CurrentSettings:
    return source.current


def config_file(
    inputs: Inputs, locations: Locations, shared_configuration: CopiedDocument | None
) -> ConfigFile:
    return ConfigEditor(inputs, locations, shared=shared_configuration)
