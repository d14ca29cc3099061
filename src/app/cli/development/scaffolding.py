"""`opensoul agents new`: writes an agent, and adds it to the configuration."""

from __future__ import annotations

import keyword
import os
import re
import shlex
from collections.abc import Iterator, Mapping
from importlib.util import find_spec
from pathlib import Path

from ...terminal import echo
from ..common import config_paths as paths
from ..common.configuration import load_config, locations_of
from ..common.editing import Change, change
from ..common.errors import CommandError
from ..common.state import State, print_json
from .templates import EXAMPLES, Example

_NAME = re.compile(r"[a-z][a-z0-9_-]{0,63}")
_MODEL = "agents.defaults.model"
_CHAT = {"http": {"endpoints": {"chatCompletions": {"enabled": True}}}}


def write_agent(state: State, name: str, framework: str, directory: str) -> None:
    """Write the module, then the entry; print what to do next. Raises CommandError."""
    folder = Path(os.path.abspath(directory))
    file = folder / f"{_module_of(name)}.py"
    target = f"{file.stem}:agent"
    if file.exists() or (folder / file.stem).exists():
        raise CommandError(f"There is a {file.stem} in {folder} already.", code="file_exists")
    example = EXAMPLES[framework]
    _write(file, example.module(name))
    try:
        outcome = _add(state, name, target, folder)
    except BaseException:
        file.unlink()
        raise
    if state.json:
        print_json(
            {
                "id": name,
                "framework": framework,
                "module": str(file),
                "target": target,
                "config": outcome.file,
                "restart": outcome.restart,
            }
        )
        return
    echo(f"Wrote {file} and added the agent {name} to {outcome.file}. {outcome.effect}")
    echo("\nNext:")
    for line in _next_steps(state, name, target, folder, example):
        echo(f"  {line}")


def _module_of(name: str) -> str:
    """The name of the agent's module. Raises CommandError."""
    if not _NAME.fullmatch(name):
        message = (
            f"{name!r} cannot be the id of an agent and the name of its module. Use lower-case "
            "letters, digits, `-` and `_`, with a letter at the beginning, 64 at most."
        )
        raise CommandError(message, code="invalid_option")
    module = name.replace("-", "_")
    if keyword.iskeyword(module) or find_spec(module) is not None:
        message = (
            f"The module of the agent would be `{module}`, which is the name of another module of "
            "Python or of an installed package. Choose another name."
        )
        raise CommandError(message, code="invalid_option")
    return module


def _write(file: Path, text: str) -> None:
    """Raises CommandError where the file exists, and OSError."""
    file.parent.mkdir(parents=True, exist_ok=True)
    try:
        with file.open("x", encoding="utf-8") as new:
            new.write(text)
    except FileExistsError:
        raise CommandError(f"There is a file {file} already.", code="file_exists") from None


def _add(state: State, name: str, target: str, folder: Path) -> Change:
    """Add the entry to `agents.list`. Raises CommandError."""
    entry = {"id": name, "runner": {"use": "python", "target": target, "path": str(folder)}}
    is_new = not locations_of(state).config_path.exists()

    def patch(held: Mapping[str, object]) -> Mapping[str, object]:
        try:
            listed = paths.found(held, ("agents", "list"))
        except paths.BadPath:
            listed = []
        entries = list(listed) if isinstance(listed, list) else []
        if any(isinstance(one, dict) and one.get("id") == name for one in entries):
            raise CommandError(f"There is an agent {name} already.", code="agent_exists")
        if not entries and not is_new:
            # Without a list there is this agent; a list with others only would remove it.
            entries = [{"id": "main"}]
        made = paths.setting(held, ("agents", "list"), [*entries, entry])
        return {**made, "gateway": _CHAT} if is_new else made

    return change(state, patch)


def _missing_key(state: State, name: str) -> str:
    """The variable for the key of the agent's model; empty where there is a key, or no need."""
    (target, *_) = load_config(state).settings.agents.find(name, param="NAME").models or (None,)
    if target is None or target.provider.api_key is not None or target.provider.id != "openai":
        return ""
    return "OPENAI_API_KEY"


def _next_steps(
    state: State, name: str, target: str, folder: Path, example: Example
) -> Iterator[str]:
    if any(find_spec(module) is None for module in example.modules):
        yield f"pip install {' '.join(map(shlex.quote, example.packages))}"
    if example.needs_model and (variable := _missing_key(state, name)):
        yield f"export {variable}=...    # or name a model of another provider in {_MODEL}"
    config = state.options.get("config")
    option = "" if config is None else f" --config {shlex.quote(config)}"
    path = "" if folder == Path.cwd() else f" --path {shlex.quote(str(folder))}"
    yield f"opensoul agents check {name}{option}"
    yield f"opensoul dev {target}{path}    # this agent alone; restarts when its code changes"
    yield f"opensoul gateway run{option}    # all agents of the configuration"
