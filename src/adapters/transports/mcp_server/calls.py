"""The tools that agents are, and what a call of one does."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from ....domain.access import Principal
from ....domain.agents import Agent
from ....domain.errors import AgentConflict, GatewayError, InvalidRequest
from ....domain.messages import Message, Role, Text
from ....domain.models import StopReason
from ....domain.ports import Clock
from ....domain.runs import RunRecord, RunRequest, RunSpec
from ....domain.services import Approvals, Gateway
from ..answering import (
    begin_run,
    collect,
    parameters,
    read_fields,
    run_request_of,
    waits_for_approval,
)
from ..http import Problem
from ..http.context import RequestContext
from ..http.errors import INTERNAL_ERROR, problem_of
from .elicitation import Ask, ElicitingPause
from .progress import Report, ReportedEvents

logger = logging.getLogger(__name__)

PREFIX = "ask_"
_SESSION_HINT = "send the argument `session_key`"
_STRING = {"type": "string"}
INPUT_SCHEMA: Mapping[str, Any] = {
    "type": "object",
    "properties": {
        "message": {**_STRING, "description": "What the agent is asked or is to do."},
        "session_key": {
            **_STRING,
            "description": "Names the conversation that the message belongs to. Leave it out to "
            "stay in the conversation of this connection.",
        },
    },
    "required": ["message"],
    "additionalProperties": False,
}
OUTPUT_SCHEMA: Mapping[str, Any] = {
    "type": "object",
    "properties": {
        "text": {**_STRING, "description": "The agent's answer."},
        "agent_id": _STRING,
        "run_id": _STRING,
        "session_key": {**_STRING, "description": "Send it to go on with this conversation."},
        "stop_reason": {"enum": [reason.value for reason in StopReason]},
        "error": {
            "type": "object",
            "properties": {"code": _STRING, "retry_after": {"type": "number"}},
            "required": ["code"],
        },
    },
    "required": ["text"],
}


class _Arguments(parameters.Strict):
    message: str
    session_key: parameters.Identifier | None = None


@dataclass(frozen=True, slots=True)
class CallResult:
    """The result of a call: its text, and the same with what identifies the run."""

    text: str
    is_error: bool = False
    details: Mapping[str, object] = field(default_factory=dict)

    @property
    def structured(self) -> dict[str, object]:
        return {"text": self.text, **self.details}


def description_of(agent: Agent) -> str:
    return (
        f"Ask the agent {plain_text(agent.name)}. It works on `message` with its own model, tools "
        "and memory, and answers with text."
    )


def plain_text(text: str) -> str:
    """The text with lone surrogates, which UTF-8 cannot hold, replaced."""
    return text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")


class Calls:
    """Calls of tools. None of it needs the `mcp` package."""

    def __init__(self, gateway: Gateway, approvals: Approvals, clock: Clock) -> None:
        self._gateway = gateway
        self._approvals = approvals
        self._clock = clock

    def agents(self, principal: Principal) -> Sequence[Agent]:
        """Those that the principal may use. Raises Forbidden."""
        return self._gateway.agents(principal)

    async def call(
        self,
        context: RequestContext,
        agent: Agent,
        arguments: Mapping[str, Any],
        *,
        session_id: str | None,
        report: Report | None,
        ask: Ask | None = None,
    ) -> CallResult:
        """The agent's answer, or why there is none. Its run is one of the request `context`, and
        is aborted with it. `session_id`: of the MCP session. `report`: None where the client wants
        no progress. `ask`: None where it cannot ask its person."""
        context.adopt_task()
        run: RunSpec | RunRecord | None = None
        try:
            run_request = self._run_request(context, agent, arguments, session_id)
            waits = waits_for_approval(context.headers)
            begun = await begin_run(
                self._gateway, self._approvals, context, run_request, waits=waits
            )
            run, events = begun.run, begun.events
            if report is not None:
                events = ReportedEvents(events, report, self._clock)
            pause = begun.pause
            if pause is not None and ask is not None:
                pause = ElicitingPause(pause.approvals, pause.following, context, ask)
            answer = await collect(events, context, pause)
        except AgentConflict as error:
            message = (
                f"The session key names the agent {error.of_key!r}, but this tool asks "
                f"{agent.id!r}. Call {PREFIX}{error.of_key}, or choose another session key."
            )
            problem = replace(problem_of(error), message=message, param="session_key")
            return _failure(context, problem, run)
        except GatewayError as error:
            return _failure(context, problem_of(error), run)
        except Exception:
            # The outermost handler of a call: the client gets no text of the error.
            logger.exception("a call failed unexpectedly", extra={"request": context.request_id})
            return _failure(context, INTERNAL_ERROR, run)
        details = {**_identity(run), "stop_reason": answer.finished.stop.value}
        return CallResult(plain_text(answer.text), details=details)

    def _run_request(
        self,
        context: RequestContext,
        agent: Agent,
        arguments: Mapping[str, Any],
        session_id: str | None,
    ) -> RunRequest:
        for name in arguments:
            if name not in _Arguments.model_fields:
                known = ", ".join(_Arguments.model_fields)
                shown = plain_text(name)[:100]
                raise InvalidRequest(
                    f"There is no argument `{shown}`. Arguments: {known}.", param=shown
                )
        read = read_fields(_Arguments, arguments)
        if not read.message.strip():
            raise InvalidRequest("`message` is empty; it must be a text.", param="message")
        message = Message(Role.USER, (Text(plain_text(read.message)),))
        run_request = run_request_of(
            context.headers, self._gateway.settings, messages=(message,), model="", params={}
        )
        if run_request.agent_id not in (None, agent.id):
            raise InvalidRequest(
                f"The tool asks the agent {agent.id!r}, but the header x-opensoul-agent-id names "
                f"{run_request.agent_id!r}. Leave the header out.",
                param="x-opensoul-agent-id",
            )
        session_key = read.session_key or run_request.session_key
        if session_key is None and session_id is not None:
            session_key = f"mcp-{session_id}"
        return replace(
            run_request,
            agent_id=agent.id,
            session_key=session_key,
            # Chat clients that name their conversation send all of it with each message.
            conversation=None,
            source="mcp",
            # A tool call is written by a model, whose text is no command of a person.
            commands=False,
            session_hint=_SESSION_HINT,
        )


def _identity(run: RunSpec | RunRecord) -> dict[str, object]:
    return {"agent_id": run.agent_id, "run_id": run.id, "session_key": str(run.session_key)}


def _failure(
    context: RequestContext, problem: Problem, run: RunSpec | RunRecord | None
) -> CallResult:
    context.reported(problem)
    error: dict[str, object] = {"code": problem.code}
    if problem.retry_after is not None:
        error["retry_after"] = problem.retry_after
    identity = {} if run is None else _identity(run)
    return CallResult(plain_text(problem.message), True, {**identity, "error": error})
