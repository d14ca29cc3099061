"""Environment variables: those of the process, those of the `env` block, and placeholders."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from ....domain.text import Kind, replaced
from ..errors import KeyPath, dotted
from ..locations import is_text
from .documents import Node

Report = Callable[[KeyPath, str], None]

_NO_VARIABLE = ("shellEnv", "vars")


def effective_environment(
    root: Node, env: Mapping[str, str], report: Report, note: Callable[[str], None]
) -> dict[str, str]:
    """The process's variables, and those of the `env` block where the process has none (or blank).

    `env.vars` takes precedence over `env` itself. Values may refer to the process's variables. One
    that refers to itself is left out if the process does not have it.
    """
    block = _member(root, "env")
    merged = dict(env)
    for path, holder in ((("env", "vars"), _member(block, "vars")), (("env",), block)):
        for name, node in _members(holder).items():
            skipped = path == ("env",) and name in _NO_VARIABLE
            if skipped or not isinstance(node.value, str) or merged.get(name, "").strip():
                continue
            if node.value == f"${{{name}}}":
                note(f"{dotted((*path, name))} has no value: the variable {name} is not set.")
                continue
            value = with_variables(
                node.value, Kind.SETTING, env, (*path, name), report, secret=True
            )
            if value.strip():
                merged[name] = value
    return merged


def with_variables(
    text: str,
    kind: Kind,
    env: Mapping[str, str],
    path: KeyPath,
    report: Report,
    *,
    secret: bool = False,
) -> str:
    """The text with its placeholders replaced. Reports those that cannot be; they stay.

    `secret`: the text may be a secret, so that messages do not quote it.
    """

    def value_of(name: str, default: str | None) -> str | None:
        if not env.get(name):
            if default is None:
                state = "empty" if name in env else "not set"
                report(path, f"the environment variable {name} is {state}")
            return default
        if not is_text(env[name]):
            report(path, f"the environment variable {name} is not UTF-8 text")
            return None
        return env[name]

    def foreign(placeholder: str) -> None:
        shown = f"`{placeholder}`" if placeholder.isprintable() and not secret else "this"
        report(
            path,
            f"{shown} looks like a placeholder of an unsupported form; write "
            "`${NAME}` or `${NAME:-default}` for an environment variable, or put a `$` in "
            "front for the literal text",
        )

    return replaced(text, kind, value_of, foreign)


def _member(node: Node, key: str) -> Node:
    return _members(node).get(key, Node(None, node.file, node.path))


def _members(node: Node) -> dict[str, Node]:
    return node.value if isinstance(node.value, dict) else {}
