"""Approvals within a conversation: the answer that asks for one, and the message that decides.

An answer ends where its run begins to wait, and names the approval's code. The next message of the
user, `approve CODE` or `deny CODE`, goes on with that run. The code is in no prompt of the run, and
only the last message of a request is read, where its role is `user` and it holds nothing else.
The same goes for an approval that a sub-agent of the run waits for.
"""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from ....domain.errors import InvalidRequest
from ....domain.messages import Message, Role, Text
from ....domain.models import StopReason, TextDelta, Usage
from ....domain.runs import (
    CONTEXT_EVENTS,
    DELTAS,
    TERMINAL,
    TOOL_EVENTS,
    EventBatch,
    Finished,
    Resumed,
    RunEvent,
    RunRecord,
    RunSpec,
    Started,
    StepDone,
    Waiting,
    consumes,
)
from ....domain.services import Approvals, Events, Following, Gateway
from ....domain.text import escape_line
from ....domain.tools import CODE_PATTERN, Approval, Decision
from ..http.context import RequestContext
from ..http.requests import Headers, family_header

_HEADER = "approval"
_NAMES = (f"x-opensoul-{_HEADER}".encode(), f"x-openclaw-{_HEADER}".encode())
APPROVAL_HEADER = {"name": f"x-opensoul-{_HEADER}", "in": "header", "schema": {"const": "wait"}}
"""The header as a parameter of an OpenAPI operation."""
PAUSED = Finished(StopReason.STOP, Usage(0, 0, estimated=True), "")
"""The last event of an answer whose run waits; the text before it in its batch is the question."""
_LONGEST = 64
"""Characters of a message that decides, white space included."""
_DECIDING = re.compile(rf"(approve|deny) {{1,4}}({CODE_PATTERN})", re.IGNORECASE)
_ASKS = " waits for your approval. Its arguments:"
_ASKING = re.compile(
    rf"The tool [^\n]*{re.escape(_ASKS)}\s{{1,9}}[^\n]*\n\s{{0,9}}"
    r"Answer with one of these lines within \d+ minutes; without an answer the call is denied\."
    rf"\s{{1,9}}approve ({CODE_PATTERN})\s{{1,9}}deny \1"
)
"""What `question_for` writes, at the end of an answer; clients may change its white space."""
_DECISIONS = {"approve": Decision.ALLOW, "deny": Decision.DENY}
_SUBAGENT = ":subagent:"
"""Is in the keys of the sessions of sub-agents."""
_MOST_SHOWN = 8_192
"""Characters of arguments that an answer repeats."""


def waits_for_approval(headers: Headers) -> bool:
    """Whether the answer stays open while its run waits. Raises InvalidRequest."""
    if _NAMES[0] not in headers and _NAMES[1] not in headers:
        return False
    if family_header(headers, _HEADER) == "wait":
        return True
    name = f"x-opensoul-{_HEADER}"
    raise InvalidRequest(f"The only value of the header {name} is `wait`.", param=name)


def decision_in(messages: Sequence[Message]) -> tuple[Decision, str] | None:
    """The decision that the last message is, and the code of its approval."""
    last = messages[-1]
    if last.role is not Role.USER or len(last.parts) != 1:
        return None
    (part,) = last.parts
    if not isinstance(part, Text) or len(part.text) > _LONGEST:
        return None
    found = _DECIDING.fullmatch(part.text.strip())
    return None if found is None else (_DECISIONS[found[1].lower()], found[2].upper())


def without_decisions(messages: Sequence[Message]) -> tuple[Message, ...]:
    """A resent conversation in which the answers before and after a decision are one again, as they
    are stored, without the question for the approval."""
    found: list[Message] = []
    for message in messages:
        if message.role is Role.ASSISTANT and (before := _before_decision(found)) is not None:
            del found[-2:]
            if before:
                parts = message.parts
                message = replace(message, parts=(Text(before), *parts))
                if parts and isinstance(first := parts[0], Text):
                    parts = (Text(f"{before}\n\n{first.text}"), *parts[1:])
                    message = replace(message, parts=parts)
        found.append(message)
    return tuple(found)


def _before_decision(messages: Sequence[Message]) -> str | None:
    """The text before the question that the last message decides; None where it decides none."""
    if len(messages) < 2 or messages[-2].role is not Role.ASSISTANT:
        return None
    if (decision := decision_in(messages[-1:])) is None:
        return None
    text = messages[-2].text.rstrip()
    begin = text.rfind("The tool ", 0, max(0, text.rfind(_ASKS)))
    asked = _ASKING.fullmatch(text, begin) if begin >= 0 else None
    if asked is None or asked[1] != decision[1]:
        return None
    return text[:begin].rstrip()


async def decided_run(
    gateway: Gateway,
    approvals: Approvals,
    context: RequestContext,
    decision: tuple[Decision, str],
    model: str,
) -> tuple[RunRecord, Following]:
    """The run that goes on by the decision, which every answer of the request names from here on,
    and its events from there. Raises Forbidden, UnknownApproval, ApprovalDecided."""
    principal = context.principal
    approval = await approvals.find_by_code(principal, decision[1])
    run = await gateway.run(principal, await approvals.asked_by(approval))
    await approvals.decide(principal, approval.id, decision[0])
    following = await context.enter(gateway.follow(principal, run, run.last_seq))
    context.adopt_task()
    context.began(run, model)
    return run, following


@dataclass(frozen=True, slots=True)
class ApprovalPause:
    """Ends an answer where its run begins to wait for an approval."""

    approvals: Approvals
    following: Following
    context: RequestContext

    @consumes(
        Waiting,
        ignores=(Started, *DELTAS, *TOOL_EVENTS, *CONTEXT_EVENTS, StepDone, Resumed, *TERMINAL),
    )
    async def end(self, batch: EventBatch) -> Sequence[RunEvent]:
        """The end of the answer behind `batch`, whose last event is Waiting; empty where there is
        nothing to decide (any more). The run then waits on without a client."""
        waiting = batch.events[-1]
        if not isinstance(waiting, Waiting) or waiting.approval_id is None:
            return ()
        approval = await self.approvals.undecided(waiting.approval_id)
        if approval is None:
            return ()
        await self.following.detach(batch.last)
        self.context.outcome = "waiting"
        return _end(question_for(approval))

    async def end_for_subagent(self, run_id: str, last: int) -> EventBatch | None:
        """The end of the answer, behind the event numbered `last`, where a sub-agent of the run
        waits. The run then goes on without a client."""
        approval = await self.approvals.of_subagents(run_id)
        if approval is None:
            return None
        await self.following.detach(max(last, 1))
        self.context.outcome = "waiting"
        end = _end(question_for(approval, of_subagent=True))
        # The run has no such events: the last one is numbered as the run's last.
        return EventBatch(last - len(end) + 1, end)


class AskingEvents:
    """The events of a run, ended by `pause` where a sub-agent of the run begins to wait for an
    approval. It is a context, in which one task reads the events."""

    __slots__ = (
        *("_asked", "_events", "_known", "_last", "_pause"),
        *("_reader", "_run", "_unlisten", "_waiting"),
    )

    def __init__(
        self, events: Events, run: RunSpec | RunRecord, pause: ApprovalPause, *, last: int
    ) -> None:
        self._events = events
        self._run = run.id
        self._pause = pause
        self._last = last
        """The number of the event before the next one."""
        self._known = run.last_seq if isinstance(run, RunRecord) else 0
        """Behind the event of that number, an approval may wait already; 0: that was looked at."""
        self._asked = False
        """Another approval was requested since."""
        self._reader: asyncio.Task[object] | None = None
        """The task that entered the context, and reads the events."""
        self._waiting = False
        """It waits for events."""
        self._unlisten: Callable[[], None] | None = None

    async def __aenter__(self) -> AskingEvents:
        self._reader = asyncio.current_task()
        self._unlisten = self._pause.approvals.on_requested(self._requested)
        return self

    async def __aexit__(self, *_: object) -> None:
        if self._unlisten is not None:
            self._unlisten()
            self._unlisten = None  # It refers to this object.
        self._reader = None

    def __aiter__(self) -> AskingEvents:
        return self

    async def __anext__(self) -> EventBatch:
        while True:
            if self._asked or 0 < self._known <= self._last:
                self._asked, self._known = False, 0
                try:
                    ending = await self._pause.end_for_subagent(self._run, self._last)
                except BaseException:  # A silence has ended, for example.
                    self._asked = True
                    raise
                if ending is not None:
                    return ending
            self._waiting = True
            try:
                batch = await anext(self._events)
            except asyncio.CancelledError:
                # Other cancellations of the task, such as a time limit's, go on.
                if not self._asked or self._reader is None or self._reader.uncancel() > 0:
                    raise
                continue
            finally:
                self._waiting = False
            self._last = batch.last
            return batch

    def _requested(self, approval: Approval) -> None:
        if _SUBAGENT not in approval.session_key or self._asked:
            return
        self._asked = True
        if self._waiting and self._reader is not None:
            self._reader.cancel()


def _end(text: str) -> tuple[TextDelta, Finished]:
    return TextDelta(text), PAUSED


def description_of(approval: Approval, *, of: str = "") -> str:
    """What waits for the approval. The arguments stand on one line, so that none of their lines can
    look like those with the code."""
    arguments = _line(_compact(approval.call.arguments))
    return f"The tool {_line(approval.call.name)}{of}{_ASKS}\n\n    {arguments}\n"


def question_for(approval: Approval, *, of_subagent: bool = False) -> str:
    """The text that asks the client of a run to decide."""
    of = " of a sub-agent" if of_subagent else ""
    minutes = max(1, round((approval.expires_at - approval.created_at) / 60))
    return (
        f"{description_of(approval, of=of)}\n"
        f"Answer with one of these lines within {minutes} minutes; without an answer the call is "
        f"denied.\n\napprove {approval.code}\n\ndeny {approval.code}\n"
    )


def _compact(arguments: str) -> str:
    try:
        return json.dumps(json.loads(arguments), ensure_ascii=False)
    except (ValueError, RecursionError):
        return json.dumps(arguments, ensure_ascii=False)


def _line(text: str) -> str:
    """The text in one line without invisible characters, its middle left out if it is too long."""
    if len(text) > _MOST_SHOWN:
        half = _MOST_SHOWN // 2
        left_out = len(text) - 2 * half
        text = f"{text[:half]} [... {left_out} characters are left out ...] {text[-half:]}"
    return escape_line(text)
