"""What the answers of all frameworks have in common."""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import Collection, Sequence
from dataclasses import replace

from pydantic_core import to_json

from ....domain.messages import Message, Reasoning, Role, Text, ToolCall
from ....domain.models import Usage
from ....domain.runs import failed_result
from ....domain.sessions import estimate_all
from ..runs import AgentRun

_NOT_RUN = (
    "not run: this call needs an approval, and was made beside calls of the client's tools; "
    "make it again"
)


def described(name: str | None, model: str | None, tools: Sequence[str]) -> str:
    """An agent in a few words."""
    listed = f" and the tools {', '.join(tools)}" if tools else ""
    return f"the agent {name or 'without a name'} with {model or 'its default model'}{listed}"


def text_of(output: object) -> str:
    """The result of a run as text: JSON, where it is none."""
    return output if isinstance(output, str) else to_json(output, fallback=str).decode()


def counted(usage: Usage, run: AgentRun, messages: Sequence[Message]) -> Usage:
    """The usage, or an estimate where the provider reports none."""
    if usage.total:
        return usage
    return Usage(estimate_all(run.messages), estimate_all(messages), estimated=True)


def ending_with(text: str, messages: Sequence[Message]) -> list[Message]:
    """The messages with `text` as the text of the last one, which a framework may have made from
    what the model wrote."""
    last = messages[-1] if messages else None
    if last is None or last.role is not Role.ASSISTANT or _calls(last):
        return [*messages, Message(Role.ASSISTANT, (Text(text),))]
    reasoning = [part for part in last.parts if isinstance(part, Reasoning)]
    return [*messages[:-1], replace(last, parts=(*reasoning, Text(text)))]


def handing_out(
    calls: Sequence[ToolCall], messages: Sequence[Message], waiting: Sequence[ToolCall]
) -> list[Message]:
    """The messages with these calls, of the client's tools, in the last one. Their step becomes two
    messages where it has other calls: those have results, or get one when they are `waiting` for an
    approval, which the answer cannot wait for."""
    ids = {call.id for call in calls}
    found: list[Message] = []
    for message in messages:
        if any(call.id in ids for call in _calls(message)):
            own = tuple(part for part in message.parts if part not in calls)
            if any(isinstance(part, ToolCall) for part in own):
                found.append(replace(message, parts=own))
                own = ()
            handed = replace(message, parts=(*own, *calls))
        else:
            found.append(message)
    refused = [failed_result(call, _NOT_RUN) for call in waiting]
    return [*found, *refused, handed]


def _calls(message: Message) -> Collection[ToolCall]:
    return [part for part in message.parts if isinstance(part, ToolCall)]


class BegunCalls:
    """The tool calls of a run whose ToolStarted is stored. A framework that runs tools in another
    task than the one that yields its events waits for them in a hook before each tool: what is
    yielded is stored when the generator goes on."""

    def __init__(self) -> None:
        self._stored: defaultdict[str, asyncio.Event] = defaultdict(asyncio.Event)

    def add(self, call_id: str) -> None:
        """To be called behind the `yield` of its ToolStarted."""
        self._stored[call_id].set()

    async def wait(self, call_id: str) -> None:
        """Return once the call is added."""
        await self._stored[call_id].wait()
