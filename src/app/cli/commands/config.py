"""`opensoul config`: check, show, explain and change the configuration."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING

import click

from ...terminal import echo
from ..common import config_paths as paths
from ..common.configuration import gateway_errors, inputs_of, load_config, locations_of
from ..common.errors import CommandError
from ..common.lazy import Group
from ..common.state import State, common_options, print_json
from ..common.streams import read_text

if TYPE_CHECKING:
    from ....adapters.config import Loaded
    from ....domain.ports.configuration import ConfigSnapshot


_AT_ONCE = "A running Gateway applies it at once."
_AT_START = "It takes effect after a restart of the Gateway."


@click.group(cls=Group)
@common_options
def config() -> None:
    """Check, show, explain and change the configuration."""


@config.subcommand()
def check(state: State) -> int:
    """Check whether the configuration is valid, and print all errors."""
    try:
        loaded = load_config(state)
    except CommandError as refused:
        if not state.json:
            raise
        print_json({"valid": False, "issues": refused.issues, "notes": []})
        return 1
    notes = loaded.settings.notes
    if state.json:
        print_json({"valid": True, "issues": [], "notes": notes})
        return 0
    count = len(loaded.settings.agents)
    echo(f"Valid: {_origin(loaded)}; {count} agent{'s' if count > 1 else ''}.")
    for note in notes:
        echo(f"- {note}")
    return 0


@config.subcommand()
def show(state: State) -> None:
    """Print the configuration in force, defaults included, secrets masked."""
    from ....adapters.config import redacted

    loaded = load_config(state)
    shown = redacted(loaded)
    if state.json:
        print_json({"files": _files(loaded), "config": shown})
        return
    # Comments, so that the output is a JSON5 file.
    echo(f"// From: {_origin(loaded)}.")
    print_json(shown)


@config.subcommand()
def schema(_: State) -> None:
    """Print the JSON Schema of the configuration file, for editors."""
    from ....adapters.config import json_schema

    print_json(json_schema())


@config.subcommand()
def reference(_: State) -> None:
    """Print every key with its default and its meaning, as Markdown."""
    from ....adapters.config import render_reference

    echo(render_reference(), nl=False)


@config.subcommand("get")
@click.argument("path")
def get_value(state: State, path: str) -> None:
    """Print the value in force at PATH, such as gateway.port or agents.list[0].id."""
    from ....adapters.config import redacted

    steps = _steps(path)
    shown = redacted(load_config(state))
    try:
        value = paths.found(shown, steps)
    except paths.BadPath:
        raise _not_found(path) from None
    if isinstance(value, str) and not state.json:
        echo(value)
    else:
        print_json(value)


@config.subcommand("set")
@click.argument("path")
@click.argument("value")
def set_value(state: State, path: str, value: str) -> None:
    """Set PATH to VALUE, and leave comments and the rest as they are.

    VALUE is JSON5, or else a string; - reads it from standard input, hidden from other users.
    """
    text = read_text("VALUE") if value == "-" else value
    steps, new = _steps(path), _value(text)
    _edit(state, f"Updated {path}.", path, lambda held: paths.setting(held, steps, new))


@config.subcommand("unset")
@click.argument("path")
def unset_value(state: State, path: str) -> None:
    """Remove PATH from the file, so that its default applies."""
    steps = _steps(path)

    def patch(held: Mapping[str, object]) -> Mapping[str, object]:
        try:
            return paths.removing(held, steps)
        except paths.BadPath:
            raise _not_found(path) from None

    _edit(state, f"Removed {path}.", path, patch)


def _steps(path: str) -> paths.Path:
    try:
        return paths.parsed(path)
    except paths.BadPath as error:
        raise CommandError(str(error), code="usage") from None


def _not_found(path: str) -> CommandError:
    return CommandError(f"Config path not found: {path}", code="config_path_not_found")


def _value(text: str) -> object:
    import pyjson5

    try:
        value: object = pyjson5.decode(text, maxdepth=64)
    except pyjson5.Json5DecoderException:
        return text
    if _holds_null(value):
        message = "null is not a value; remove a key with `opensoul config unset`"
        raise CommandError(message, code="config_invalid")
    return value


def _holds_null(value: object) -> bool:
    if isinstance(value, dict):
        return any(map(_holds_null, value.values()))
    return value is None


def _edit(
    state: State, done: str, path: str, make: Callable[[Mapping[str, object]], Mapping[str, object]]
) -> None:
    from ....adapters.config import ConfigEditor

    editor = ConfigEditor(inputs_of(state), locations_of(state), on_machine=True)
    before = editor.snapshot()
    try:
        with gateway_errors():
            after = editor.change(make)
    except paths.BadPath as error:
        raise CommandError(str(error), code="config_path_not_found") from None
    changed = after.hash != before.hash
    restart = changed and _waits_for_restart(before, after)
    if state.json:
        print_json({"path": path, "file": after.path, "changed": changed, "restart": restart})
    elif changed:
        echo(f"{done} {_AT_START if restart else _AT_ONCE}")
    else:
        echo(f"{path} has that value already; nothing was written.")


def _waits_for_restart(before: ConfigSnapshot, after: ConfigSnapshot) -> bool:
    """Whether a part of the change needs a restart."""
    from ....adapters.config import differing, needs_restart

    mode = paths.found(after.config, ("gateway", "reload", "mode"))
    changed = differing(before.config, after.config)
    return mode in ("off", "restart") or any(map(needs_restart, changed))


def _files(loaded: Loaded) -> list[str]:
    return list(loaded.files) if loaded.exists else []


def _origin(loaded: Loaded) -> str:
    files = _files(loaded)
    return ", ".join(files) if files else f"defaults, as there is no {loaded.locations.config_path}"
