"""The vocabulary that the schema is written in: base class, value types, and marks on fields.

A mark is a key of `json_schema_extra`, so that it reaches the JSON schema too:

- `x-secret: true`: strings in it are never shown; an object there is a reference to a secret
- `x-text: true`: text for people or models, in which a `$` or a `%` usually is just that
- `x-restart: true`: a change is in force after a restart
- `x-addition: true`: ours, not the reference's
- `x-machine: "<kind>"`: names something of the machine (see `Machine`), so that a client may write
  no new value there; `x-free`: values that name nothing of it
"""

from __future__ import annotations

from typing import Annotated, Any, ClassVar, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, StringConstraints
from pydantic.alias_generators import to_camel

_MAX_INTEGER = 2**53 - 1
_MAX_SECONDS = 10 * 366 * 86_400


class Section(BaseModel):
    """An object of the configuration: types are not bent.

    Keys without a field are kept as they are; `keys` decides which of them are errors. `ours`:
    no other program has keys here, or an unknown one could weaken its protection, so that all are.
    """

    ours: ClassVar[bool] = False
    model_config = ConfigDict(
        alias_generator=to_camel,
        # The whole is built once, when it is first used, instead of each part by itself too.
        defer_build=True,
        extra="allow",
        frozen=True,
        hide_input_in_errors=True,
        strict=True,
    )


def usable_secret(value: str) -> str:
    """A secret that a client could send. Raises ValueError, without repeating it."""
    if not value.strip():
        raise ValueError("must not be empty")
    if value != value.strip() or not value.isprintable():
        raise ValueError(
            "must not begin or end with white space nor hold control characters: "
            "no client could send it"
        )
    return value


def _usable_path(value: str) -> str:
    if not value.strip() or "\0" in value:
        raise ValueError("must be a path")
    return value


Count = Annotated[int, Field(ge=1, le=_MAX_INTEGER)]
Whole = Annotated[int, Field(ge=0, le=_MAX_INTEGER)]
Ratio = Annotated[float, Field(ge=0, le=1)]
PortNumber = Annotated[int, Field(ge=1, le=65_535)]
Hour = Annotated[int, Field(ge=0, le=23)]
Seconds = Annotated[float, Field(ge=0, le=_MAX_SECONDS, allow_inf_nan=False)]
SomeSeconds = Annotated[float, Field(gt=0, le=_MAX_SECONDS, allow_inf_nan=False)]
Milliseconds = Annotated[int, Field(ge=0, le=_MAX_SECONDS * 1000)]
SomeMilliseconds = Annotated[int, Field(ge=1, le=_MAX_SECONDS * 1000)]
Minutes = Annotated[int, Field(ge=1, le=_MAX_SECONDS // 60)]
Days = Annotated[float, Field(ge=0, le=36_600, allow_inf_nan=False)]
Text = Annotated[str, StringConstraints(min_length=1)]
PathText = Annotated[str, AfterValidator(_usable_path)]
SecretText = Annotated[str, AfterValidator(usable_secret)]
Anything = dict[str, Any]
"""An object whose keys are not looked at."""

Machine = Literal["directory", "file", "log", "store", "program", "address", "door", "server"]
"""What a value names, which decides what a client may write there over the network.

`directory`, `file`: a new path has to lie in the state directory. `log`: and has to end with
`.log`, as it is written to. `store`, `program` (a plugin), `address` (where the Gateway listens,
or whom it trusts) and `door` (what keeps strangers out): no new value but those of `x-free`.
`server`: where requests go to; `guarding` decides about credentials that would go there.
"""


def setting(
    default: object,
    description: str,
    *,
    addition: bool = False,
    restart: bool = False,
    secret: bool = False,
    free_text: bool = False,
    machine: Machine | None = None,
    free: tuple[str | bool, ...] = (),
) -> Any:
    """A key that has an effect. A default of `...`: the key is required."""
    marks: dict[str, Any] = {}
    if addition:
        marks["x-addition"] = True
    if restart:
        marks["x-restart"] = True
    if secret:
        marks["x-secret"] = True
    if free_text:
        marks["x-text"] = True
    if machine is not None:
        marks |= {"x-machine": machine, "x-free": list(free)}
    return Field(default, description=description, json_schema_extra=marks, repr=not secret)


def section(
    kind: type[BaseModel], description: str, *, addition: bool = False, secret: bool = False
) -> Any:
    """An object of keys that have an effect; left out, all of them have their defaults."""
    marks: dict[str, Any] = {"x-addition": True} if addition else {}
    if secret:
        marks["x-secret"] = True
    return Field(
        default_factory=kind, description=description, json_schema_extra=marks, repr=not secret
    )
