"""Imports the agents that configurations name."""

from __future__ import annotations

import importlib
import os
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from functools import reduce
from types import ModuleType

from ...domain.agents import PythonTarget, is_target
from .errors import TargetInvalid

_EXTRAS = {
    "agents": "openai-agents",
    "agno": "agno",
    "agent_framework": "agent-framework",
    "google": "google-adk",
    "langchain": "langgraph",
    "langgraph": "langgraph",
    "pydantic_ai": "pydantic-ai",
}
"""The extras that install the packages of frameworks."""
_PATIENCE = 2.0
"""Seconds that an import waits for that of another agent, which may take long."""
_LONGER = 60.0
_PARTIAL = "partially initialized module"
"""In the messages of errors of circular imports, also of those of two threads."""
_imports = threading.Lock()
_paths = threading.Lock()
"""Held while `sys.path` is changed."""
_QUIET = {
    # Agno reports every run to its makers.
    "AGNO_TELEMETRY": "false",
    # LiteLLM, which Google ADK uses, fetches a list of prices when it is imported.
    "LITELLM_LOCAL_MODEL_COST_MAP": "True",
}
"""Variables that keep frameworks from connecting to their makers, unless they are set."""


def load(target: PythonTarget) -> object:
    """The object that the target names. Raises TargetInvalid, whatever its module does."""
    if not is_target(target.target):
        raise TargetInvalid(
            f"{target.target!r} is no target. It must be `module:attribute`, such as "
            "`my_package.agents:support`."
        )
    module_name, _, attribute = target.target.partition(":")
    for name, value in _QUIET.items():
        os.environ.setdefault(name, value)
    if target.path:
        # A package without `__init__.py` that is imported meanwhile would not see its part there.
        with _turn(_PATIENCE):
            _make_importable(target.path)
    _check_owner(module_name, target.path)
    try:
        module = _imported(module_name)
    except ModuleNotFoundError as error:
        raise _missing(error, module_name, target) from error
    except BaseException as error:  # sys.exit() included: the module is not ours.
        name = type(error).__name__
        raise TargetInvalid(
            f"The module `{module_name}` cannot be imported: {name}: {error}"
        ) from error
    _check_owner(module_name, target.path)  # Another agent may have imported one meanwhile.
    try:
        return reduce(getattr, attribute.split("."), module)
    except AttributeError:
        file = getattr(module, "__file__", None) or module_name
        raise TargetInvalid(f"There is no `{attribute}` in {file}.") from None


def _imported(name: str) -> ModuleType:
    """The module. Agents are imported one after the other: where two threads import modules of one
    package that import one another, Python gives one of them an incomplete module."""
    try:
        with _turn(_PATIENCE):
            return importlib.import_module(name)
    except (ImportError, AttributeError) as error:
        if _PARTIAL not in str(error):
            raise
    with _turn(_LONGER):
        return importlib.import_module(name)


@contextmanager
def _turn(patience: float) -> Iterator[None]:
    """Within it no other agent is imported, unless one takes longer than `patience`."""
    alone = _imports.acquire(timeout=patience)
    try:
        yield
    finally:
        if alone:
            _imports.release()


def _make_importable(path: str) -> None:
    """Put the directory before all others on `sys.path`. Raises TargetInvalid."""
    if not os.path.isdir(path):
        raise TargetInvalid(f"There is no directory {path}.")
    with _paths:
        if path not in sys.path:
            sys.path.insert(0, path)
            importlib.invalidate_caches()


def _check_owner(module_name: str, path: str) -> None:
    """Raises TargetInvalid where a module of that name was imported from another directory. Each
    package on the way is looked at: one without `__init__.py` may be in several directories."""
    parts = module_name.split(".") if path else []
    for end in range(1, len(parts) + 1):
        name, here = ".".join(parts[:end]), os.path.join(path, *parts[:end])
        file = getattr(sys.modules.get(name), "__file__", None)
        exists = os.path.exists(here) or os.path.exists(f"{here}.py")
        if file is not None and exists and not _is_below(file, path):
            raise TargetInvalid(
                f"The module `{name}` was imported from {file} already, so that the one in {path} "
                'cannot be. Give it another name, or the agent `isolation: "process"`.'
            )


def _is_below(file: str, directory: str) -> bool:
    """Whether the file is in the directory, by its name there or behind symbolic links."""
    return any(
        os.path.commonpath([resolved(directory), resolved(file)]) == resolved(directory)
        for resolved in (os.path.abspath, os.path.realpath)
    )


def _missing(error: ModuleNotFoundError, module_name: str, target: PythonTarget) -> TargetInvalid:
    missing = error.name or ""
    if missing and (module_name == missing or module_name.startswith(f"{missing}.")):
        where = f" in {target.path} or" if target.path else ""
        return TargetInvalid(f"There is no module `{missing}`{where} among what is installed.")
    extra = _EXTRAS.get(missing.partition(".")[0])
    how = f": pip install 'opensoul[{extra}]'" if extra else ""
    return TargetInvalid(
        f"The module `{module_name}` needs `{missing}`, which is not installed{how}."
    )
