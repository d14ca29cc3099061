"""Which modules agents import from their directories: a process has one module of each name."""

from __future__ import annotations

import ast
import os
import sys
import threading
from collections.abc import Iterator

from ...domain.agents import PythonTarget
from .errors import TargetInvalid


class Modules:
    """The modules of all agents of this process, as their imports name them."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._files: dict[str, str] = {}
        """Of modules and packages in the paths of agents, by their names."""

    def add(self, target: PythonTarget) -> None:
        """Add those of an agent. Raises TargetInvalid where an agent of another path has one of the
        same name."""
        if not target.path:
            return
        found = _imported(target.target.partition(":")[0], target.path)
        with self._lock:
            for name, file in found.items():
                other = self._files.get(name, file)
                if os.path.realpath(other) != os.path.realpath(file):
                    raise TargetInvalid(
                        f"The agent imports `{name}` from {file}, and another agent from {other}; "
                        "a process can only have one module of a name. Rename one of them, or give "
                        'one of the agents `isolation: "process"`.'
                    )
            self._files |= found


def _imported(module: str, path: str) -> dict[str, str]:
    """The file of a module in the path, and of those in the path that its code imports, directly or
    by way of others, also within functions; by the names of the modules."""
    found: dict[str, str] = {}
    waiting, seen = [module], {module}
    while waiting:
        name = waiting.pop()
        file = _file_of(name, path)
        if file is None:
            continue
        found[name] = file
        for more in _imports_of(file, name):
            # Python's own modules are imported already, as a rule.
            if more not in seen and more.partition(".")[0] not in sys.stdlib_module_names:
                seen.add(more)
                waiting.append(more)
    return found


def _file_of(name: str, path: str) -> str | None:
    base = os.path.join(path, *name.split("."))
    return next(filter(os.path.isfile, (os.path.join(base, "__init__.py"), f"{base}.py")), None)


def _imports_of(file: str, name: str) -> Iterator[str]:
    """The modules that the code of a file may import, with the packages that they are in."""
    try:
        with open(file, "rb") as source:
            tree = ast.parse(source.read())
    except (OSError, SyntaxError, ValueError, RecursionError):
        return  # The import says what is wrong.
    package = name.split(".")
    if os.path.basename(file) != "__init__.py":
        package.pop()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            for alias in node.names:
                yield from _with_packages(alias.name)
        elif isinstance(node, ast.ImportFrom):
            above = package[: len(package) - node.level + 1] if node.level else []
            base = ".".join([*above, *([node.module] if node.module else [])])
            if base:
                yield from _with_packages(base)
                yield from (f"{base}.{alias.name}" for alias in node.names)


def _with_packages(name: str) -> Iterator[str]:
    parts = name.split(".")
    return (".".join(parts[:end]) for end in range(1, len(parts) + 1))
