"""Base class, value types and field marks of the schema.

A mark is a key of `json_schema_extra`, so that it reaches the JSON schema too:

- `x-secret: true`: its strings are never shown; an object there is a reference to a secret
- `x-text: true`: text for people or models, in which `$` and `%` are usually literal
- `x-restart: true`: a change takes effect after a restart
- `x-addition: true`: an addition of this program to the shared format
- `x-machine: "<kind>"`: names something on the machine (see `Machine`), so that a client cannot
  write new values there, except those in `x-free`
"""

from __future__ import annotations

import ast
import inspect
import sys
from functools import cache
from itertools import pairwise
from typing import Annotated, Any, ClassVar, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, StringConstraints
from pydantic.alias_generators import to_camel

_MAX_INTEGER = 2**53 - 1
_MAX_SECONDS = 10 * 366 * 86_400


def _camel(name: str) -> str:
    """`max_bytes` as `maxBytes`. A single word stays as it is; `to_camel` makes `a2A` of `a2a`."""
    return to_camel(name) if "_" in name else name


class Section(BaseModel):
    """An object of the configuration; types are strict.

    Keys without a field are kept; `keys` decides which of them are errors. `ours`: every unknown
    key is one, as no other program has keys here, or ignoring one could weaken security. The
    docstring of a field is its description in the JSON schema and on the reference page.
    """

    ours: ClassVar[bool] = False
    model_config = ConfigDict(
        alias_generator=_camel,
        # Validators are built once, for the root, on first use.
        defer_build=True,
        extra="allow",
        frozen=True,
        hide_input_in_errors=True,
        strict=True,
    )

    @classmethod
    def __pydantic_init_subclass__(cls, **_: Any) -> None:
        # As `use_attribute_docstrings` of pydantic, which needs five times as long.
        for name, text in _descriptions(cls.__module__).get(cls.__name__, {}).items():
            cls.model_fields[name].description = text


@cache
def _descriptions(module: str) -> dict[str, dict[str, str]]:
    """The docstrings of attributes in a module, by class and attribute."""
    found: dict[str, dict[str, str]] = {}
    tree = ast.parse(inspect.getsource(sys.modules[module]))
    classes = (item for item in tree.body if isinstance(item, ast.ClassDef))
    for owner, pair in ((item.name, pair) for item in classes for pair in pairwise(item.body)):
        match pair:
            case (
                ast.AnnAssign(target=ast.Name(id=name)),
                ast.Expr(value=ast.Constant(value=str(text))),
            ):
                found.setdefault(owner, {})[name] = " ".join(text.split())
    return found


def usable_secret(value: str) -> str:
    """The secret, if a client could send it. Raises ValueError, without quoting it."""
    if not value.strip():
        raise ValueError("must not be empty")
    if value != value.strip() or not value.isprintable():
        raise ValueError(
            "must not begin or end with white space or contain control characters: "
            "no client could send it"
        )
    return value


def _usable_path(value: str) -> str:
    if not value.strip() or "\0" in value:
        raise ValueError("must be a path")
    return value


Count = Annotated[int, Field(ge=1, le=_MAX_INTEGER)]
Whole = Annotated[int, Field(ge=0, le=_MAX_INTEGER)]
PortNumber = Annotated[int, Field(ge=1, le=65_535)]
Hour = Annotated[int, Field(ge=0, le=23)]
Seconds = Annotated[float, Field(ge=0, le=_MAX_SECONDS, allow_inf_nan=False)]
SomeSeconds = Annotated[float, Field(gt=0, le=_MAX_SECONDS, allow_inf_nan=False)]
SomeDollars = Annotated[float, Field(gt=0, allow_inf_nan=False)]
Milliseconds = Annotated[int, Field(ge=0, le=_MAX_SECONDS * 1000)]
SomeMilliseconds = Annotated[int, Field(ge=1, le=_MAX_SECONDS * 1000)]
Minutes = Annotated[int, Field(ge=1, le=_MAX_SECONDS // 60)]
Days = Annotated[float, Field(ge=0, le=36_600, allow_inf_nan=False)]
Text = Annotated[str, StringConstraints(min_length=1)]
PathText = Annotated[str, AfterValidator(_usable_path)]
SecretText = Annotated[str, AfterValidator(usable_secret)]
Anything = dict[str, Any]
"""An object with unchecked keys."""

Machine = Literal[
    "directory", "file", "log", "store", "program", "address", "door", "server", "launch"
]
"""What a value names; it decides what a client may write there over the network.

`directory`, `file`: a new path must be inside the state directory; a `directory` not in one that
the Gateway itself uses. `log`: as `file`, and it must end with `.log`. `store`, `program` (a
plugin), `address` (where the Gateway listens, or whom it trusts) and `door` (what keeps strangers
out): no new value but those of `x-free`.
`server`: where requests are sent; `edit_policy` decides about credentials for it. `launch`:
servers of tools, which are one value: a client may only remove all of them.
"""


def setting(
    default: object,
    *,
    addition: bool = False,
    restart: bool = False,
    secret: bool = False,
    free_text: bool = False,
    machine: Machine | None = None,
    free: tuple[str | bool, ...] = (),
) -> Any:
    """A key with marks. A default of `...`: the key is required; of a type: a new one."""
    marks: dict[str, Any] = {
        "x-addition": addition,
        "x-restart": restart,
        "x-secret": secret,
        "x-text": free_text,
        "x-machine": machine,
    }
    marks = {name: mark for name, mark in marks.items() if mark}
    if machine is not None:
        marks["x-free"] = list(free)
    if isinstance(default, type):
        return Field(default_factory=default, json_schema_extra=marks, repr=not secret)
    return Field(default, json_schema_extra=marks, repr=not secret)
