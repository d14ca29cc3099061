"""Tools that a client brings with its request: the model calls them, the client runs them."""

from __future__ import annotations

import base64
import re
import uuid
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from enum import StrEnum
from hashlib import sha256

from ..immutable import immutable
from .spec import ToolSpec

CLIENT_SOURCE = "client"
"""The source of the tools of a request."""

_MAX_NAME = 64
"""Characters of a name that every provider accepts."""
_CALL_ID = re.compile(r"call_([a-z2-7]{26})_([0-9]{1,4})_[0-9]{1,4}")


class ChoiceMode(StrEnum):
    """Whether the model may, must or must not call a tool; the values are OpenAI's."""

    AUTO = "auto"
    NONE = "none"
    REQUIRED = "required"


@dataclass(frozen=True, slots=True)
class ToolChoice:
    """`name`: the only tool that may be called, with REQUIRED."""

    mode: ChoiceMode = ChoiceMode.AUTO
    name: str = ""

    @property
    def param(self) -> object:
        """The value of OpenAI's `tool_choice`; None for the default."""
        if self.name:
            return {"type": "function", "function": {"name": self.name}}
        return None if self.mode is ChoiceMode.AUTO else self.mode.value


@dataclass(frozen=True, slots=True)
class ClientTools:
    """The tools of a request, whose `source` is CLIENT_SOURCE, each name once."""

    tools: tuple[ToolSpec, ...]
    choice: ToolChoice = ToolChoice()

    @property
    def data(self) -> dict[str, list[object]]:
        """All of it as plain data, for stores and digests."""
        tools: list[object] = [
            [tool.name, tool.description, dict(tool.parameters), tool.strict] for tool in self.tools
        ]
        return {"tools": tools, "choice": [self.choice.mode.value, self.choice.name]}


@immutable(frozen=True, slots=True)
class OfferedTools:
    """What a model is offered: `own_names` has the agent's own name of each tool that is offered
    under another one, because the client has a tool of that name."""

    specs: tuple[ToolSpec, ...]
    own_names: Mapping[str, str]
    choice: ToolChoice = ToolChoice()


def offered_tools(own: Sequence[ToolSpec], client: ClientTools | None) -> OfferedTools:
    """The tools of an agent and of its client together.

    With `none` the client's tools are not offered beside the agent's, which it may go on using.
    """
    if client is None or (own and client.choice.mode is ChoiceMode.NONE):
        return OfferedTools(tuple(own), {})
    taken = {tool.name for tool in (*own, *client.tools)}
    of_client = {tool.name for tool in client.tools}
    specs: list[ToolSpec] = []
    own_names: dict[str, str] = {}
    for tool in own:
        if tool.name in of_client:
            name = _other_name(tool.name, taken)
            taken.add(name)
            own_names[name] = tool.name
            tool = replace(tool, name=name)
        specs.append(tool)
    return OfferedTools((*specs, *client.tools), own_names, client.choice)


def client_call_id(run_id: str, step: int, index: int) -> str:
    """The id under which a client gets call `index` of step `step` (from 1) of a Run.

    It cannot be guessed where the Run's id is a random UUID, and names the Run then:
    `run_of_call` reads it.
    """
    try:
        name = base64.b32encode(uuid.UUID(run_id).bytes)
    except ValueError:
        name = base64.b32encode(sha256(run_id.encode("utf-8", "surrogatepass")).digest()[:16])
    return f"call_{name.decode().rstrip('=').lower()}_{step}_{index}"


def run_of_call(call_id: str) -> tuple[str, int] | None:
    """The Run that a `client_call_id` names, and the number of its step; None for other ids."""
    found = _CALL_ID.fullmatch(call_id)
    if found is None:
        return None
    data = base64.b32decode(found[1].upper() + "======")
    return str(uuid.UUID(bytes=data)), int(found[2])


def _other_name(name: str, taken: Iterable[str]) -> str:
    """`agent__NAME`, or the next free name like it."""
    digest = sha256(name.encode()).hexdigest()[:8]
    prefix = "agent__"
    while True:
        other = prefix + name
        if len(other) > _MAX_NAME:
            other = f"{other[: _MAX_NAME - len(digest) - 1]}_{digest}"
        if other not in taken:
            return other
        prefix = f"agent_{prefix}"
