"""`${NAME}` in strings, and the `env` block that gives variables a value."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping

from .documents import Node
from .issues import KeyPath
from .places import is_text

Report = Callable[[KeyPath, str], None]

_REFERENCE = re.compile(r"\$(\$?)\{([A-Z_][A-Z0-9_]*)\}")
_NO_VARIABLE = ("shellEnv", "vars")


def effective_environment(root: Node, env: Mapping[str, str], report: Report) -> dict[str, str]:
    """The process's variables, and those of the `env` block where the process has none (or blank).

    `env.vars` comes before `env` itself. Their values may name the process's variables.
    """
    block = _member(root, "env")
    merged = dict(env)
    for path, holder in ((("env", "vars"), _member(block, "vars")), (("env",), block)):
        for name, node in _members(holder).items():
            skipped = path == ("env",) and name in _NO_VARIABLE
            if skipped or not isinstance(node.value, str) or merged.get(name, "").strip():
                continue
            value = _text(node.value, env, (*path, name), report)
            if value.strip():
                merged[name] = value
    return merged


def substitute(node: Node, env: Mapping[str, str], report: Report, path: KeyPath = ()) -> Node:
    """The tree with `${NAME}` replaced in every string; `$${NAME}` becomes `${NAME}`.

    Reports a variable that is unset or empty; the text then stays as it is.
    """
    match node.value:
        case dict():
            members = {
                key: substitute(item, env, report, (*path, key)) for key, item in node.value.items()
            }
            return Node(members, node.file, node.path)
        case list():
            items = [substitute(item, env, report, (*path, i)) for i, item in enumerate(node.value)]
            return Node(items, node.file, node.path)
        case str() if _REFERENCE.search(node.value):
            text = _text(node.value, env, path, report)
            return Node(text, node.file, node.path, written=node.value)
        case _:
            return node


def _text(text: str, env: Mapping[str, str], path: KeyPath, report: Report) -> str:
    def value(match: re.Match[str]) -> str:
        escaped, name = match.groups()
        if escaped:
            return f"${{{name}}}"
        if not env.get(name):
            state = "empty" if name in env else "not set"
            report(path, f"the environment variable {name} is {state}")
            return match.group()
        if not is_text(env[name]):
            report(path, f"the environment variable {name} is not UTF-8 text")
            return match.group()
        return env[name]

    return _REFERENCE.sub(value, text)


def _member(node: Node, key: str) -> Node:
    return _members(node).get(key, Node(None, node.file, node.path))


def _members(node: Node) -> dict[str, Node]:
    return node.value if isinstance(node.value, dict) else {}
