"""What a built-in tool is made of: its parameters as a type, and the function that runs a call."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Callable, Mapping
from dataclasses import dataclass
from functools import cache
from typing import Any, Generic, TypeVar

from pydantic import BaseModel, ConfigDict, ValidationError
from pydantic.alias_generators import to_camel
from pydantic.json_schema import GenerateJsonSchema

from ....domain.agents import Agent
from ....domain.tools import Effect, Repeat, ToolOutput, ToolResult, ToolSpec

T = TypeVar("T")
Outputs = AsyncGenerator[ToolOutput | ToolResult]


class ToolFailed(Exception):
    """The call failed; the message is for the model."""


class Parameters(BaseModel):
    """The arguments of a call. Names are in camel case, in the schema and in calls."""

    model_config = ConfigDict(alias_generator=to_camel, extra="forbid", frozen=True)


P = TypeVar("P", bound=Parameters)


class _Schema(GenerateJsonSchema):
    """Without titles, which repeat the names."""

    def field_title_should_be_set(self, schema: Any) -> bool:
        return False


@dataclass(frozen=True, slots=True)
class Tool(Generic[P]):
    """A tool. `run` gets the arguments and the agent, whose workspace exists where `in_workspace`
    is set; it raises ToolFailed, and OSError for what the system refuses."""

    name: str
    description: str
    parameters: type[P]
    run: Callable[[P, Agent], Outputs]
    effects: frozenset[Effect]
    repeat: Repeat = Repeat.UNSAFE
    in_workspace: bool = True

    def spec(self) -> ToolSpec:
        schema = _schema_of(self.parameters)
        return ToolSpec(self.name, self.description, schema, self.effects, self.repeat)

    def call(self, arguments: str, agent: Agent) -> Outputs:
        """Run a call with the text of its arguments. Raises ToolFailed for invalid ones."""
        return self.run(self._parsed(arguments), agent)

    def _parsed(self, arguments: str) -> P:
        try:
            return self.parameters.model_validate_json(arguments.strip() or "{}")
        except ValidationError as error:
            problems = "; ".join(
                f"{'.'.join(map(str, problem['loc'])) or 'arguments'}: {problem['msg']}"
                for problem in error.errors(include_url=False, include_input=False)
            )
            message = f"The arguments of {self.name!r} are invalid: {problems}."
            raise ToolFailed(message) from None


@cache
def _schema_of(parameters: type[Parameters]) -> Mapping[str, Any]:
    """A millisecond of work for each type."""
    schema = parameters.model_json_schema(schema_generator=_Schema)
    for key in ("title", "description"):
        schema.pop(key, None)
    return schema


def in_thread(work: Callable[[P, str], str]) -> Callable[[P, Agent], Outputs]:
    """A `run` for work in the workspace that blocks and gives one text."""

    async def run(arguments: P, agent: Agent) -> Outputs:
        yield ToolResult(await finished(lambda: work(arguments, agent.workspace)))

    return run


async def finished(work: Callable[[], T], on_cancel: Callable[[], None] | None = None) -> T:
    """What `work` returns, in a thread. A cancelled caller waits for its end as well, so that
    nothing is written after a call was stopped; `on_cancel` may hasten it."""
    task = asyncio.ensure_future(asyncio.to_thread(work))
    try:
        return await asyncio.shield(task)
    except asyncio.CancelledError:
        if on_cancel is not None:
            on_cancel()
        await asyncio.wait([task])
        if not task.cancelled():
            task.exception()  # Nobody is left to retrieve it.
        raise
