"""Changes of the configuration file by commands."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING

from ...terminal import echo
from . import config_paths as paths
from .configuration import gateway_errors, inputs_of, locations_of
from .errors import CommandError
from .state import State, print_json

if TYPE_CHECKING:
    from ....domain.ports.configuration import ConfigSnapshot

MakePatch = Callable[[Mapping[str, object]], Mapping[str, object]]
"""Makes the merge patch for the content of the file."""

_AT_ONCE = "A running Gateway applies it at once."
_AT_START = "It takes effect after a restart of the Gateway."


def json5_value(text: str) -> object:
    """The value of JSON5, or else the text itself. Raises CommandError for null."""
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


@dataclass(frozen=True, slots=True)
class Change:
    """`restart`: a part of the change needs a restart of a running Gateway."""

    file: str
    changed: bool
    restart: bool

    @property
    def effect(self) -> str:
        return _AT_START if self.restart else _AT_ONCE


def change(state: State, make: MakePatch) -> Change:
    """Change the configuration file. Raises CommandError."""
    from ....adapters.config import ConfigEditor
    from ...shared_configuration import shared_document, store_first

    inputs, locations = inputs_of(state), locations_of(state)
    with gateway_errors():
        shared = shared_document(locations, inputs)
        if shared is not None:  # A change before the first node starts is one of what it has.
            shared.pull()
            store_first(shared, locations, inputs)
    editor = ConfigEditor(inputs, locations, on_machine=True, shared=shared)
    before = editor.snapshot()
    try:
        with gateway_errors():
            after = editor.change(make)
    except paths.BadPath as error:
        raise CommandError(str(error), code="config_path_not_found") from None
    changed = after.hash != before.hash
    return Change(after.path, changed, changed and _waits_for_restart(before, after))


def edit(state: State, done: str, path: str, make: MakePatch) -> None:
    """Change the configuration file and print what was done. Raises CommandError."""
    outcome = change(state, make)
    if state.json:
        print_json({"path": path, **asdict(outcome)})
    elif outcome.changed:
        echo(f"{done} {outcome.effect}")
    else:
        echo(f"{path} has that value already; nothing was written.")


def _waits_for_restart(before: ConfigSnapshot, after: ConfigSnapshot) -> bool:
    """Whether a part of the change needs a restart."""
    from ....adapters.config import differing, needs_restart

    mode = paths.found(after.config, ("gateway", "reload", "mode"))
    changed = differing(before.config, after.config)
    return mode in ("off", "restart") or any(map(needs_restart, changed))
