"""`opensoul config`: check, show, explain and change the configuration."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING

import click

from ...terminal import echo
from ..common import config_paths as paths
from ..common.errors import CommandError
from ..common.lazy import Group
from ..common.state import State, common_options, print_json
from ..common.streams import read_text

if TYPE_CHECKING:
    from ....adapters.config import ConfigEditor, Loaded
    from ....domain.ports.configuration import ConfigSnapshot


_AT_ONCE = "A running Gateway applies it at once."
_AT_START = "It takes effect after a restart of the Gateway."


@click.group(cls=Group)
@common_options
def config() -> None:
    """Check, show, explain and change the configuration."""


@config.command()
@common_options
@click.pass_context
def check(ctx: click.Context) -> None:
    """Check whether the configuration is valid, and print all errors."""
    from ..common.configuration import load_config

    state = ctx.ensure_object(State)
    try:
        loaded = load_config(state)
    except CommandError as refused:
        if not state.json:
            raise
        print_json({"valid": False, "issues": refused.issues, "notes": []})
        ctx.exit(1)
    notes = loaded.settings.notes
    if state.json:
        print_json({"valid": True, "issues": [], "notes": notes})
        return
    count = len(loaded.settings.agents)
    echo(f"Valid: {_origin(loaded)}; {count} agent{'s' if count > 1 else ''}.")
    for note in notes:
        echo(f"- {note}")


@config.command()
@common_options
@click.pass_obj
def show(state: State) -> None:
    """Print the configuration in force, defaults included, secrets masked."""
    from ....adapters.config import redacted
    from ..common.configuration import load_config

    loaded = load_config(state)
    shown = redacted(loaded)
    if state.json:
        print_json({"files": _files(loaded), "config": shown})
        return
    # Comments, so that the output is a JSON5 file.
    echo(f"// From: {_origin(loaded)}.")
    print_json(shown)


@config.command()
@common_options
def schema() -> None:
    """Print the JSON Schema of the configuration file, for editors."""
    from ....adapters.config import json_schema

    print_json(json_schema())


@config.command()
@common_options
def reference() -> None:
    """Print every key with its default and its meaning, as Markdown."""
    from ....adapters.config import render_reference

    echo(render_reference(), nl=False)


@config.command("get")
@click.argument("path")
@common_options
@click.pass_obj
def get_value(state: State, path: str) -> None:
    """Print the value in force at PATH, such as gateway.port or agents.list[0].id."""
    from ....adapters.config import redacted
    from ..common.configuration import load_config

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


@config.command("set")
@click.argument("path")
@click.argument("value")
@common_options
@click.pass_obj
def set_value(state: State, path: str, value: str) -> None:
    """Set PATH to VALUE, and leave comments and the rest as they are.

    VALUE is JSON5, or else a string; - reads it from standard input, hidden from other users.
    """
    try:
        text = read_text().removesuffix("\n") if value == "-" else value
    except ValueError as error:
        raise click.BadParameter(str(error), param_hint="VALUE") from None
    steps, new = _steps(path), _value(text)
    _edit(state, f"Updated {path}.", path, lambda held: paths.setting(held, steps, new))


@config.command("unset")
@click.argument("path")
@common_options
@click.pass_obj
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
    with _domain_errors():
        editor = _editor(state)
        before = editor.snapshot()
        after = editor.change(make)
    changed = after.hash != before.hash
    restart = changed and _waits_for_restart(before, after)
    if state.json:
        print_json({"path": path, "file": after.path, "changed": changed, "restart": restart})
    elif changed:
        echo(f"{done} {_AT_START if restart else _AT_ONCE}")
    else:
        echo(f"{path} has that value already; nothing was written.")


def _editor(state: State) -> ConfigEditor:
    from ....adapters.config import ConfigEditor, Inputs, home_directory, locate
    from ...plugins import runner_names

    inputs = Inputs(
        env=os.environ,
        home=home_directory(),
        generated_token=lambda _: "",
        overrides=state.overrides(),
        runners=runner_names(),
    )
    locations = locate(inputs.env, inputs.overrides, inputs.home)
    return ConfigEditor(inputs, locations, on_machine=True)


@contextmanager
def _domain_errors() -> Iterator[None]:
    """Raise CommandError for what the domain refuses."""
    from ....domain.errors import GatewayError
    from ....domain.ports.configuration import ConfigRefused

    try:
        yield
    except paths.BadPath as error:
        raise CommandError(str(error), code="config_path_not_found") from None
    except ConfigRefused as refused:
        issues = [
            {"file": issue.file, "path": issue.path, "line": issue.line, "message": issue.message}
            for issue in refused.issues
        ]
        raise CommandError(refused.message, code=refused.code, issues=issues) from None
    except GatewayError as error:
        raise CommandError(error.message, code=error.code) from None


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
