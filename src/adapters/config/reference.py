"""The reference page of the configuration, generated from the schema.

`python -m opensoul.adapters.config.reference` prints it.
"""

from __future__ import annotations

import json
import types
from collections.abc import Iterable
from typing import Annotated, Any, Literal, Union, get_args, get_origin

from pydantic import BaseModel, BeforeValidator
from pydantic.fields import FieldInfo
from pydantic_core import PydanticUndefined

from .schema import INERT, Root, StarPath
from .schema.walk import Entry, entries, mark, shape_of

"""What the reference page says before it comes to the keys."""

INTRODUCTION = """\
# Configuration

This page is generated from the schema (`python -m opensoul.adapters.config.reference`).
`config/opensoul.example.json5` shows the same keys as a file.

## Location

The file is JSON5: comments, trailing commas and unquoted keys are allowed. The first of these is
read:

1. `--config <path>`
2. `OPENSOUL_CONFIG_PATH`, then `OPENCLAW_CONFIG_PATH`
3. `opensoul.json` (then `openclaw.json`, `clawdbot.json`, `moltbot.json`, `moldbot.json`) in the
   state directory, then in `~/.opensoul`, `~/.openclaw`, `~/.clawdbot`, `~/.moltbot`, `~/.moldbot`

The state directory is `OPENSOUL_STATE_DIR`, then `OPENCLAW_STATE_DIR`, then the first of those
directories that exists, else `~/.opensoul`. A named file must exist. Without any file, there is
the agent `main`, and the chat endpoint is off.

## Several files, and variables

- `{ $include: "./agents.json5" }` is replaced by that file's content; a list of paths merges
  several. Keys beside `$include` override the included ones; objects are merged, lists are
  concatenated. Relative paths start at the including file. Includes may be nested ten deep.
- `"${NAME}"` in a string is replaced by the environment variable; unset or empty is an error.
  `"${NAME:-text}"` is replaced by the text in that case. `"$${NAME}"` stands for `${NAME}` itself.
- Other forms of placeholders, such as `$NAME`, `${env:NAME}`, `%NAME%`, `{{NAME}}`, `$(command)`
  or `<NAME>`, are an error anywhere in URLs, paths, headers and ids, and as the whole of a key, a
  token or a password. A `$` in front marks literal text: `"$$NAME"`, `"$%NAME%"`.
- In free text (`instructions`, `name`, `theme`, and all of `params`) only `${NAME}` and
  `${NAME:-text}` with a name in capital letters are replaced; everything else is literal.
- Nothing is replaced in keys that have no effect.
- `env` defines variables that the process does not have.
- Paths may begin with `~`; relative ones start at the directory of the main file.

## References to secrets

In place of any secret string (`apiKey`, the value of a header, `token`, `password`) there may be an
object:

- `{ source: "env", id: "NAME" }` is the environment variable.
- `{ source: "file", id: "/run/secrets/key" }` is the content of that file, without the final line
  break.
- `{ source: "file", provider: "keys", id: "/openai/key" }` is read from the file of
  `secrets.providers.keys`; the id is a JSON pointer, or `value` with mode `singleValue`.

A file must be UTF-8 text of at most 1 MiB, and not world-writable. It is watched like the
configuration. `source: "exec"` is not supported: no program is run to get a secret.

## Unknown keys

Files of compatible programs have many keys without an effect here, and new releases add more:

- A key of the list at the end of this page, or an unknown key, is named in a note at the start and
  by `opensoul doctor`. It does not stop the Gateway.
- An unknown key that is spelled similarly to one with an effect in the same object, such as `prot`
  and `port`, is an error.
- In `gateway.auth`, `gateway.tls`, `gateway.shutdown`, `gateway.runs` and `match` of
  `session.sendPolicy`, every unknown key is an error: no other program has more keys there, or
  ignoring one could weaken security.

## Precedence

| | order |
|---|---|
| port | `--port`, `OPENSOUL_GATEWAY_PORT`, `OPENCLAW_GATEWAY_PORT`, `gateway.port`, 18789 |
| token | `--token`, `gateway.auth.token`, `OPENSOUL_GATEWAY_TOKEN` (`OPENCLAW_...`), generated |
| password | `--password`, `gateway.auth.password`, then the same two with `_PASSWORD` |
| bind, mode | `--bind`, `--auth`, then the file |
| proxy | `models.providers.*.proxy`, `NO_PROXY`, `HTTPS_PROXY` or `HTTP_PROXY`, `ALL_PROXY` |

## Reloads

A changed file, or included file, is validated and applied as a whole while the Gateway serves;
requests in progress keep the settings that they started with. An invalid file is reported, and the
last valid one stays in force. Keys marked *Restart* take effect after a restart. `gateway.reload`
changes this.
"""


_LARGE = 1_000_000
"""Upper bounds from here on are not mentioned."""


def render_reference() -> str:
    """The page, in Markdown."""
    known = list(entries(Root))
    lines = [INTRODUCTION, "## Keys with an effect", "", *_LEGEND]
    for section in (entry for entry in known if entry.shape.kind == "object" and _is_top(entry)):
        name = section.path[0]
        lines += ["", f"### `{name}`", "", _meaning(section), "", *_HEAD]
        lines += [_row(entry) for entry in known if _in(entry, name)]
    lines += ["", "## Keys without an effect", "", *_WITHOUT]
    lines += [_inert_line(path) for path in sorted(INERT) if _is_listed(path)]
    return "\n".join(lines) + "\n"


_LEGEND = [
    "`*` is any key, or a position in a list. *Ours*: an addition to the schema that this one is",
    "compatible with. *Restart*: takes effect after a restart. *Machine*: names a path, a program",
    "or an address of the machine, or protects it; clients cannot write new values there over the",
    "network, except paths inside the state directory.",
]
_HEAD = ["| key | type | default | meaning |", "|---|---|---|---|"]
_WITHOUT = [
    "These keys are accepted so that files of compatible programs can be used unchanged. Their",
    "values are not checked, and variables in them are not replaced. Each one that is set is named",
    "in a note at the start and by `opensoul doctor`. Those of `agents.list` are the same in",
    "`agents.entries`, those of `tools` in the `tools` of an agent. As other programs read the",
    "same file, clients can remove them over the network, but set only those marked *Client*.",
    "",
]


def _is_listed(path: StarPath) -> bool:
    return path[:2] != ("agents", "entries") and not _same_as_shared(path)


def _is_top(entry: Entry) -> bool:
    return len(entry.path) == 1


def _in(entry: Entry, name: str) -> bool:
    return entry.path[0] == name and len(entry.path) > 1 and not _same_as_shared(entry.path)


def _same_as_shared(path: StarPath) -> bool:
    """Whether it is a key of an agent's `tools`, which are those of the root."""
    return path[0] == "agents" and "tools" in path[3:-1]


def _row(entry: Entry) -> str:
    cells = (f"`{'.'.join(entry.path)}`", type_text(entry.field), _default(entry.field))
    return f"| {' | '.join((*cells, _meaning(entry)))} |"


def _meaning(entry: Entry) -> str:
    words = [(entry.field.description or "").replace("|", "\\|")]
    if mark(entry.field, "x-restart"):
        words.append("*Restart.*")
    if mark(entry.field, "x-addition"):
        words.append("*Ours.*")
    if mark(entry.field, "x-machine") not in (None, "server"):
        words.append("*Machine.*")
    return " ".join(words)


def _inert_line(path: StarPath) -> str:
    row = INERT[path]
    client = " *Client.*" if row.remote else ""
    return f"- `{'.'.join(path)}`: {row.meaning}{f' Here: {row.note}.' if row.note else ''}{client}"


def _default(field: FieldInfo) -> str:
    if field.is_required():
        return "required"
    value = field.get_default(call_default_factory=True)
    if value is None or isinstance(value, BaseModel):
        return ""
    return f"`{json.dumps(value)}`"


def type_text(field: FieldInfo) -> str:
    """The type of a field as text."""
    return _with_bounds(_type(field.annotation, field.metadata), field.metadata)


def _type(annotation: Any, metadata: Iterable[Any] = ()) -> str:
    for item in metadata:
        if (
            isinstance(item, BeforeValidator)
            and item.json_schema_input_type is not PydanticUndefined
        ):
            return _type(item.json_schema_input_type)
    origin, args = get_origin(annotation), get_args(annotation)
    if origin is Annotated:
        return _with_bounds(_type(args[0], args[1:]), args[1:])
    if origin is Literal:
        return ", ".join(f"`{json.dumps(value)}`" for value in args)
    if origin in (Union, types.UnionType):
        return " or ".join(_type(arm) for arm in args if arm is not type(None))
    if origin is list:
        return f"list of {_type(args[0])}"
    shape = shape_of(annotation)
    if shape.kind in ("object", "record"):
        return "object"
    names = {bool: "true or false", int: "whole number", float: "number", str: "string"}
    return names.get(annotation, "anything")


def _with_bounds(text: str, metadata: Iterable[Any]) -> str:
    found: dict[str, Any] = {}
    for item in metadata:
        for inner in (item, *getattr(item, "metadata", ())):
            found |= {
                name: getattr(inner, name) for name in ("ge", "gt", "le") if hasattr(inner, name)
            }
    low = found.get("ge")
    high = found.get("le", _LARGE)
    words = {
        (True, True): f", {low} to {high}",
        (True, False): f", {low} or more",
        (False, False): f", more than {found.get('gt')}" if "gt" in found else "",
        (False, True): f", at most {high}",
    }
    return text + words[low is not None, high < _LARGE]


if __name__ == "__main__":
    print(render_reference(), end="")  # noqa: T201 - for `make docs`
